"""Multi-agent particle environments: simple_spread, three agents that have to cover three landmarks.

The simulator is mpe2's ``simple_spread_v3`` with N = 3, continuous actions, 25 steps and its defaults otherwise. Every
agent receives half of the team's term (minus the distance of each landmark to its nearest agent, summed) and half of
its own (minus 1 for each agent it touches): ``local_ratio`` .5. Episodes only ever end by the limit of 25 steps:
truncated, never terminal, and neither won nor lost. The state is the concatenation of all observations.

Original: https://github.com/Farama-Foundation/MPE2 (Lowe et al., 2017, arXiv:1706.02275; Terry et al., 2021,
arXiv:2009.14471).

Differences from the original:
    - Actions are in [-1, 1] and mapped to mpe2's [0, 1] by u = (a + 1) / 2. The five components are: nothing, left,
      right, down, up; the force on an agent is proportional to (right - left, up - down).
    - Many copies (:class:`SimpleSpreadVector`) are moved by mpe2's equations of motion written out for arrays; starts
      come from mpe2 itself. They equal single copies up to rounding.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from environments.team_env import Array, Moment, TeamEnv
from environments.vector import VectorStep, check_actions, check_seeds

N_AGENTS = 3
MAX_STEPS = 25
ACTION_DIM = 5
OBS_DIM = 18  # own velocity 2, own position 2, landmarks 3 x 2, other agents 2 x 2, their (silent) messages 2 x 2
LOCAL_RATIO = 0.5


def import_simple_spread() -> Any:
    """Import mpe2's simple_spread.

    Returns:
        The module ``mpe2.simple_spread_v3``.

    Raises:
        ImportError: If mpe2 is not installed.
    """
    try:
        return importlib.import_module("mpe2.simple_spread_v3")
    except ImportError as error:
        raise ImportError(f"MPE needs the package mpe2 ({error}): pip install '.[mpe]', or pip install mpe2") from error


def _make_mpe2() -> Any:
    """One copy of mpe2's environment with our settings."""
    return import_simple_spread().parallel_env(
        N=N_AGENTS, local_ratio=LOCAL_RATIO, max_cycles=MAX_STEPS, continuous_actions=True
    )


class SimpleSpread(TeamEnv):
    """One copy of simple_spread as a PettingZoo ``ParallelEnv``.

    Raises:
        ImportError: If mpe2 is not installed.
    """

    def __init__(self) -> None:
        self._env = _make_mpe2()
        super().__init__(
            name="mpe/simple_spread",
            agents=list(self._env.possible_agents),
            obs_dim=OBS_DIM,
            state_dim=N_AGENTS * OBS_DIM,
            action_dim=ACTION_DIM,
            discrete=False,
            can_be_won=False,
        )

    def _start(self, seed: int) -> Moment:
        """Place agents and landmarks."""
        obs, _ = self._env.reset(seed=seed)
        return self._moment(obs, rewards={}, ends={})

    def _advance(self, actions: Array) -> Moment:
        """Push every agent."""
        pushes = (actions + 1.0) / 2.0
        obs, rewards, _, truncations, _ = self._env.step(dict(zip(self.possible_agents, pushes, strict=True)))
        return self._moment(obs, rewards, truncations)

    def _moment(self, obs: dict[str, Array], rewards: dict[str, float], ends: dict[str, bool]) -> Moment:
        """What mpe2 returns, stacked."""
        stacked = np.stack([obs[agent] for agent in self.possible_agents]).astype(np.float32)
        return Moment(
            obs=stacked,
            state=stacked.reshape(-1),
            legal_actions=np.ones((N_AGENTS, ACTION_DIM), bool),
            rewards=np.array([rewards.get(agent, 0.0) for agent in self.possible_agents], np.float32),
            terminal=False,
            truncated=any(ends.values()),
            won=False,
        )

    def close(self) -> None:
        """Close mpe2's environment."""
        self._env.close()


class SimpleSpreadVector:
    """E copies of simple_spread as arrays; a ``VectorEnv`` equal to E copies of :class:`SimpleSpread` with their seeds.

    All copies start together and last equally long, so that no copy ever waits for another.

    Args:
        n_envs: Number of copies E.

    Raises:
        ImportError: If mpe2 is not installed.
        ValueError: If ``n_envs`` is not positive.
    """

    def __init__(self, n_envs: int) -> None:
        if n_envs < 1:
            raise ValueError(f"expected at least one copy, got n_envs={n_envs}")
        self._env = _make_mpe2()
        self.name = "mpe/simple_spread"
        self.n_envs = n_envs
        self.n_agents = N_AGENTS
        self.obs_dim = OBS_DIM
        self.state_dim = N_AGENTS * OBS_DIM
        self.action_dim = ACTION_DIM
        self.discrete = False
        self.can_be_won = False
        self._steps: int | None = None
        self._position = np.zeros((n_envs, N_AGENTS, 2))
        self._velocity = np.zeros((n_envs, N_AGENTS, 2))
        self._landmarks = np.zeros((n_envs, N_AGENTS, 2))

    def reset(self, seeds: Sequence[int]) -> VectorStep:
        """Start one episode per copy, at the places that mpe2 draws from its seed.

        Args:
            seeds: One seed in [0, 2**32) per copy.

        Returns:
            The first observations; rewards and flags are zero.

        Raises:
            ValueError: If number or range of the seeds is not as expected.
        """
        for copy, seed in enumerate(check_seeds(seeds, self.n_envs, self.name)):
            self._env.reset(seed=int(seed))
            world = self._env.unwrapped.world
            self._position[copy] = [agent.state.p_pos for agent in world.agents]
            self._landmarks[copy] = [landmark.state.p_pos for landmark in world.landmarks]
        self._velocity[:] = 0.0
        self._steps = 0
        return self._show(np.zeros((self.n_envs, N_AGENTS)))

    def step(self, actions: Array) -> VectorStep:
        """Go one step on in every copy, unless the episodes are over.

        Args:
            actions: (E, N, A) floats in [-1, 1].

        Returns:
            What the copies show now.

        Raises:
            RuntimeError: If ``reset`` was not called before.
            ValueError: If shape, type or range of the actions is not as expected.
        """
        if self._steps is None:
            raise RuntimeError(f"'{self.name}' has no running episodes: expected reset(seeds) before step()")
        pushes = (check_actions(actions, self) + 1.0) / 2.0
        if self._steps == MAX_STEPS:
            return self._show(np.zeros((self.n_envs, N_AGENTS)))
        self._move(pushes.astype(np.float64))
        self._steps += 1
        return self._show(self._rewards())

    def close(self) -> None:
        """Close mpe2's environment."""
        self._env.close()

    def _move(self, pushes: NDArray[np.float64]) -> None:
        """mpe2's ``World.step``: semi-implicit motion with damping, pushes and soft collisions between agents."""
        world = self._env.unwrapped.world
        sensitivity = 5.0  # mpe2's SimpleEnv._set_action, for agents without an acceleration of their own
        force = sensitivity * (pushes[..., [2, 4]] - pushes[..., [1, 3]])  # (E, N, 2)
        away = self._position[:, :, None] - self._position[:, None, :]  # (E, N, N, 2), from the second to the first
        distance = np.linalg.norm(away, axis=-1)
        distance[:, range(N_AGENTS), range(N_AGENTS)] = np.inf  # nobody collides with itself
        touching = 2 * world.agents[0].size
        depth = np.logaddexp(0.0, (touching - distance) / world.contact_margin) * world.contact_margin
        force += (world.contact_force * away / distance[..., None] * depth[..., None]).sum(axis=2)
        self._position += self._velocity * world.dt
        self._velocity = self._velocity * (1.0 - world.damping) + force / world.agents[0].mass * world.dt

    def _rewards(self) -> NDArray[np.float64]:
        """Half the team's and half the own term of each agent, (E, N)."""
        ways = self._landmarks[:, None] - self._position[:, :, None]  # (E, N, landmarks, 2)
        team = -np.linalg.norm(ways, axis=-1).min(axis=1).sum(axis=1)
        between = np.linalg.norm(self._position[:, :, None] - self._position[:, None], axis=-1)
        touched = (between < 2 * self._env.unwrapped.world.agents[0].size).sum(axis=2) - 1  # minus itself
        rewards: NDArray[np.float64] = (1.0 - LOCAL_RATIO) * team[:, None] - LOCAL_RATIO * touched
        return rewards

    def _show(self, rewards: NDArray[np.float64]) -> VectorStep:
        """Observations in mpe2's order, with rewards."""
        e = self.n_envs
        landmarks = self._landmarks[:, None] - self._position[:, :, None]  # (E, N, landmarks, 2)
        others = self._position[:, None] - self._position[:, :, None]  # (E, N, N, 2)
        others = np.stack([np.delete(others[:, i], i, axis=1) for i in range(N_AGENTS)], axis=1)  # (E, N, N - 1, 2)
        parts = [self._velocity, self._position, landmarks.reshape(e, N_AGENTS, -1), others.reshape(e, N_AGENTS, -1)]
        obs = np.concatenate([*parts, np.zeros((e, N_AGENTS, 4))], axis=-1).astype(np.float32)
        agent_rewards = rewards.astype(np.float32)
        return VectorStep(
            obs=obs,
            state=obs.reshape(e, -1).copy(),
            legal_actions=np.ones((e, N_AGENTS, ACTION_DIM), bool),
            rewards=agent_rewards.mean(axis=1, dtype=np.float64).astype(np.float32),
            terminals=np.zeros(e, bool),
            truncations=np.full(e, self._steps == MAX_STEPS),
            won=np.zeros(e, bool),
            agent_rewards=agent_rewards,
        )
