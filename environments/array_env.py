"""Environments written as arrays: all copies are one computation, and one copy is the special case E = 1."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from environments.drawing import Picture
from environments.team_env import Array, Moment, TeamEnv
from environments.vector import VectorStep, check_actions, check_seeds


class ArrayVector(ABC):
    """E copies of an environment as arrays; a ``VectorEnv``.

    A family says how all copies start and how they go on; this class checks what comes in and keeps finished copies as
    they are.

    Args:
        name: Scenario, such as "matrix/xor".
        n_envs: Number of copies E.
        agents: Names of the agents, in the order of the stacked axes.
        obs_dim: Length O of an agent's observation.
        state_dim: Length S of the global state.
        action_dim: Number of actions if discrete, else the length of an action.
        discrete: Whether an action is one of ``action_dim`` choices, rather than a vector in [-1, 1].
        can_be_won: Whether episodes of this environment are won or lost.

    Raises:
        ValueError: If ``n_envs`` is not positive.
    """

    #: Speed at which a film of the first copy is watched; 0 if :meth:`draw` is not there.
    frames_per_second = 0

    def __init__(
        self,
        name: str,
        n_envs: int,
        agents: Sequence[str],
        obs_dim: int,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        can_be_won: bool,
    ) -> None:
        if n_envs < 1:
            raise ValueError(f"expected at least one copy of '{name}', got n_envs={n_envs}")
        self.name, self.n_envs = name, n_envs
        self.agents = tuple(agents)
        self.n_agents = len(self.agents)
        self.obs_dim, self.state_dim, self.action_dim = obs_dim, state_dim, action_dim
        self.discrete, self.can_be_won = discrete, can_be_won
        self._now: VectorStep | None = None

    @abstractmethod
    def _start(self, seeds: NDArray[np.uint32]) -> VectorStep:
        """Begin the episodes that belong to the seeds."""

    @abstractmethod
    def _advance(self, actions: Array) -> VectorStep:
        """Go one step on in all copies; what becomes of finished ones does not matter."""

    def reset(self, seeds: Sequence[int]) -> VectorStep:
        """Start one episode per copy.

        Args:
            seeds: One seed in [0, 2**32) per copy.

        Returns:
            The first observations; rewards and flags are zero.

        Raises:
            ValueError: If number or range of the seeds is not as expected.
        """
        self._now = self._start(check_seeds(seeds, self.n_envs, self.name))
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
        if self._now is None:
            raise RuntimeError(f"'{self.name}' has no running episodes: expected reset(seeds) before step()")
        before = self._now._replace(
            rewards=np.zeros_like(self._now.rewards), agent_rewards=np.zeros_like(self._now.agent_rewards)
        )
        after = self._advance(check_actions(actions, self))
        self._now = VectorStep(*(_chosen(before.finished, *both) for both in zip(before, after, strict=True)))
        return self._now.copied()

    @abstractmethod
    def draw(self, caption: str) -> Picture:
        """The first copy as it is now, (H, W, 3) uint8, where ``frames_per_second`` is not 0.

        Args:
            caption: Above the picture.

        Returns:
            The picture.
        """

    def close(self) -> None:  # noqa: B027 (not abstract: arrays need no closing)
        """Nothing to give back."""

    def _shown(
        self,
        obs: Array,
        state: Array,
        agent_rewards: Array | None = None,
        legal_actions: NDArray[np.bool_] | None = None,
        terminals: NDArray[np.bool_] | None = None,
        truncations: NDArray[np.bool_] | None = None,
        won: NDArray[np.bool_] | None = None,
    ) -> VectorStep:
        """What the copies show; what is left out is zero, or all True for the legal actions."""
        e, n = self.n_envs, self.n_agents
        nothing = np.zeros(e, bool)
        rewards = np.zeros((e, n), np.float32) if agent_rewards is None else agent_rewards.astype(np.float32)
        return VectorStep(
            obs=obs.astype(np.float32),
            state=state.astype(np.float32),
            legal_actions=np.ones((e, n, self.action_dim), bool) if legal_actions is None else legal_actions,
            rewards=rewards.mean(axis=1, dtype=np.float64).astype(np.float32),
            terminals=nothing if terminals is None else terminals,
            truncations=nothing if truncations is None else truncations,
            won=nothing if won is None else won,
            agent_rewards=rewards,
            lost=nothing,
        )


def _chosen(first: NDArray[np.bool_], one: Array, other: Array) -> Array:
    """Entries of ``one`` in the copies that ``first`` says, (E,), of ``other`` in the rest."""
    return np.where(first.reshape(-1, *[1] * (one.ndim - 1)), one, other)


class OneCopy(TeamEnv):
    """A single copy of an environment that is written as arrays, as a PettingZoo ``ParallelEnv``.

    Args:
        make: Makes a given number of copies.
    """

    def __init__(self, make: Callable[[int], ArrayVector]) -> None:
        self._vector = vector = make(1)
        super().__init__(
            name=vector.name,
            agents=list(vector.agents),
            obs_dim=vector.obs_dim,
            state_dim=vector.state_dim,
            action_dim=vector.action_dim,
            discrete=vector.discrete,
            can_be_won=vector.can_be_won,
            frames_per_second=vector.frames_per_second,
        )

    def _start(self, seed: int) -> Moment:
        """Begin the only copy's episode."""
        return _moment_of(self._vector.reset([seed]))

    def _advance(self, actions: Array) -> Moment:
        """Go one step on in the only copy."""
        return _moment_of(self._vector.step(actions[None]))

    def _draw(self, caption: str) -> Picture:
        """The only copy."""
        return self._vector.draw(caption)


def _moment_of(shown: VectorStep) -> Moment:
    """What the first copy shows."""
    return Moment(
        obs=shown.obs[0],
        state=shown.state[0],
        legal_actions=shown.legal_actions[0],
        rewards=shown.agent_rewards[0],
        terminal=bool(shown.terminals[0]),
        truncated=bool(shown.truncations[0]),
        won=bool(shown.won[0]),
    )
