"""Many copies of an environment, stepped together as stacked arrays.

    copies E ─┐       one call of reset() or step() moves all copies,
    agents N ─┼─►     one call of a network decides for all copies and agents
    entries  ─┘

A copy that has finished stays as it is, with reward 0 and its flags up, until the next ``reset``: nothing is restarted
behind the caller's back, so that every copy plays exactly one episode per reset.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

Array = NDArray[Any]


class VectorStep(NamedTuple):
    """What E copies show after a reset or a step.

    Attributes:
        obs: (E, N, O) float32, shorter observations padded with zeros to the longest.
        state: (E, S) float32.
        legal_actions: (E, N, A) bool; all True if actions are continuous.
        rewards: Team reward, (E,) float32: mean over ``agent_rewards``; zeros after a reset.
        terminals: (E,) bool, the task is over; stays True.
        truncations: (E,) bool, the step limit cut the episode off although the task was not over; stays True.
        won: (E,) bool, the episode ended and was won; stays True.
        agent_rewards: (E, N) float32.
        lost: (E,) bool, the episode was lost to a failure of its simulator and should not be counted; such a copy is
            truncated as well. () if the environment cannot tell.
    """

    obs: NDArray[np.float32]
    state: NDArray[np.float32]
    legal_actions: NDArray[np.bool_]
    rewards: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    won: NDArray[np.bool_]
    agent_rewards: NDArray[np.float32]
    lost: NDArray[np.bool_] = np.zeros((), bool)

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Which copies have finished their episode, (E,) bool."""
        return self.terminals | self.truncations

    def copied(self) -> "VectorStep":
        """The same in arrays of their own, which later steps do not write into."""
        return VectorStep._make(array.copy() for array in self)


class VectorEnv(Protocol):
    """E copies of one environment.

    Attributes:
        name: Scenario, such as "smax/3m".
        n_envs: Number of copies E.
        n_agents: Number of agents N.
        obs_dim: Length O of an observation.
        state_dim: Length S of the global state.
        action_dim: Number of actions if discrete, else the length of an action.
        discrete: Whether an action is one of ``action_dim`` choices, rather than a vector in [-1, 1].
        can_be_won: Whether episodes are won or lost, that is, whether ``VectorStep.won`` means anything.
    """

    name: str
    n_envs: int
    n_agents: int
    obs_dim: int
    state_dim: int
    action_dim: int
    discrete: bool
    can_be_won: bool

    def reset(self, seeds: Sequence[int]) -> VectorStep:
        """Start one episode per copy; the same seed and actions give the same episode, in whichever copy."""

    def step(self, actions: Array) -> VectorStep:
        """Go one step on in every unfinished copy; actions are (E, N) integers, or (E, N, A) floats in [-1, 1]."""

    def close(self) -> None:
        """Give back what the copies hold."""


def check_seeds(seeds: Sequence[int], n_envs: int, name: str) -> NDArray[np.uint32]:
    """Seeds of the copies as an array.

    Args:
        seeds: One seed in [0, 2**32) per copy.
        n_envs: Number of copies E.
        name: Scenario, for the message.

    Returns:
        (E,) uint32.

    Raises:
        ValueError: If their number or range is not as expected.
    """
    values = np.asarray(seeds, dtype=np.int64)
    if values.shape != (n_envs,) or (values < 0).any() or (values >= 2**32).any():
        raise ValueError(f"'{name}' expects {n_envs} seeds in [0, 2**32), one per copy, got {seeds!r}")
    return values.astype(np.uint32)


def check_actions(actions: Array, env: VectorEnv) -> Array:
    """Actions of all copies in the expected type.

    Args:
        actions: (E, N) integers if discrete, else (E, N, A) floats in [-1, 1].
        env: The copies that shall take them.

    Returns:
        The actions as int32 or float32.

    Raises:
        ValueError: If shape, type or range is not as expected.
    """
    actions = np.asarray(actions)
    shape = (env.n_envs, env.n_agents) if env.discrete else (env.n_envs, env.n_agents, env.action_dim)
    kind = np.integer if env.discrete else np.floating
    if actions.shape != shape or not np.issubdtype(actions.dtype, kind):
        raise ValueError(
            f"'{env.name}' expects actions of shape {shape} and {'integer' if env.discrete else 'floating'} type, "
            f"got shape {actions.shape} of {actions.dtype}"
        )
    low, high = (0, env.action_dim - 1) if env.discrete else (-1.0, 1.0)
    if not bool(np.all((actions >= low) & (actions <= high))):
        raise ValueError(
            f"'{env.name}' expects actions in [{low}, {high}], got values from {actions.min()} to {actions.max()}"
        )
    return actions.astype(np.int32 if env.discrete else np.float32)


class ParallelVectorEnv:
    """E copies of any PettingZoo ``ParallelEnv``, stepped one after the other.

    Where the environment has no ``state()``, the concatenated observations of all agents are the state; where it has no
    ``infos[agent]["action_mask"]``, every action is legal. An episode is over when no agent is left; until then an
    agent that left early shows zeros and its actions are dropped.

    Args:
        make: Makes one copy; called E times.
        n_envs: Number of copies E.
        name: Scenario, for messages; the environment's own name if empty.

    Raises:
        ValueError: If ``n_envs`` is not positive, or the agents' action spaces differ or are neither ``Discrete`` nor
            the box [-1, 1].
    """

    def __init__(self, make: Callable[[], ParallelEnv], n_envs: int, name: str = "") -> None:
        if n_envs < 1:
            raise ValueError(f"expected at least one copy, got n_envs={n_envs}")
        self._envs = [make() for _ in range(n_envs)]
        first = self._envs[0]
        self.name = name or str(first)
        self.n_envs = n_envs
        self._agents: list[str] = list(first.possible_agents)
        self.n_agents = len(self._agents)
        self.action_dim, self.discrete = _shared_action_space([first.action_space(a) for a in self._agents], self.name)
        self.obs_dim = max(int(np.prod(first.observation_space(agent).shape)) for agent in self._agents)
        _, infos = first.reset(seed=0)
        self.can_be_won = any("won" in info for info in infos.values())
        self._has_state = _has_state(first)
        self.state_dim = first.state().size if self._has_state else self.n_agents * self.obs_dim
        self._now: VectorStep | None = None

    def reset(self, seeds: Sequence[int]) -> VectorStep:
        """Start one episode per copy.

        Args:
            seeds: One seed in [0, 2**32) per copy.

        Returns:
            The first observations; rewards and flags are zero.

        Raises:
            ValueError: If number or range of the seeds is not as expected.
        """
        checked = check_seeds(seeds, self.n_envs, self.name)
        self._now = blank_step(self)
        for copy, (env, seed) in enumerate(zip(self._envs, checked, strict=True)):
            obs, infos = env.reset(seed=int(seed))
            self._show(self._now, copy, obs, infos)
        return self._now.copied()

    def step(self, actions: Array) -> VectorStep:
        """Go one step on in every unfinished copy.

        Args:
            actions: (E, N) integers if discrete, else (E, N, A) floats in [-1, 1]; finished copies drop theirs.

        Returns:
            What the copies show now.

        Raises:
            RuntimeError: If ``reset`` was not called before.
            ValueError: If shape, type or range of the actions is not as expected.
        """
        now = self._now
        if now is None:
            raise RuntimeError(f"'{self.name}' has no running episodes: expected reset(seeds) before step()")
        checked = check_actions(actions, self)
        now.rewards[:] = 0.0
        now.agent_rewards[:] = 0.0
        for copy in np.flatnonzero(~now.finished).tolist():
            env = self._envs[copy]
            chosen = dict(zip(self._agents, checked[copy], strict=True))
            obs, rewards, terminations, truncations, infos = env.step({agent: chosen[agent] for agent in env.agents})
            self._show(now, copy, obs, infos)
            now.agent_rewards[copy] = [rewards.get(agent, 0.0) for agent in self._agents]
            now.rewards[copy] = now.agent_rewards[copy].mean(dtype=np.float64)
            if not env.agents:
                now.terminals[copy] = any(terminations.values())
                now.truncations[copy] = any(truncations.values())
                now.won[copy] = any(info.get("won", False) for info in infos.values())
        return now.copied()

    def close(self) -> None:
        """Close every copy."""
        for env in self._envs:
            env.close()

    def _show(self, now: VectorStep, copy: int, obs: dict[str, Array], infos: dict[str, dict[str, Any]]) -> None:
        """Write what one copy shows into the stacked arrays."""
        now.obs[copy] = 0.0
        now.legal_actions[copy] = True
        for i, agent in enumerate(self._agents):
            if agent in obs:
                flat = np.asarray(obs[agent], dtype=np.float32).reshape(-1)
                now.obs[copy, i, : flat.size] = flat
            mask = infos.get(agent, {}).get("action_mask")
            if mask is not None:
                now.legal_actions[copy, i] = np.asarray(mask, dtype=bool)
        now.state[copy] = self._envs[copy].state() if self._has_state else now.obs[copy].reshape(-1)


def _shared_action_space(action_spaces: list[spaces.Space[Any]], name: str) -> tuple[int, bool]:
    """Size of the action space that all agents share, and whether it is discrete."""
    first = action_spaces[0]
    if any(space != first for space in action_spaces):
        raise ValueError(f"'{name}' has agents with different action spaces, expected one for all: {action_spaces}")
    if isinstance(first, spaces.Discrete) and first.start == 0:
        return int(first.n), True
    if isinstance(first, spaces.Box) and len(first.shape) == 1 and np.all(first.low == -1) and np.all(first.high == 1):
        return int(first.shape[0]), False
    raise ValueError(
        f"'{name}' has actions in {first}; expected Discrete(n), or a box from -1 to 1 with one axis: wrap the "
        "environment"
    )


def _has_state(env: ParallelEnv) -> bool:
    """Whether the environment offers a global state; PettingZoo's base class only raises."""
    try:
        env.state()
    except NotImplementedError:
        return False
    return True


def blank_step(env: VectorEnv) -> VectorStep:
    """What an environment's copies show before anything happened: zeros, and every action legal."""
    e, n = env.n_envs, env.n_agents
    return VectorStep(
        obs=np.zeros((e, n, env.obs_dim), np.float32),
        state=np.zeros((e, env.state_dim), np.float32),
        legal_actions=np.ones((e, n, env.action_dim), bool),
        rewards=np.zeros(e, np.float32),
        terminals=np.zeros(e, bool),
        truncations=np.zeros(e, bool),
        won=np.zeros(e, bool),
        agent_rewards=np.zeros((e, n), np.float32),
        lost=np.zeros(e, bool),
    )
