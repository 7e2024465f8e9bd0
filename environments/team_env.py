"""The PettingZoo face that all our environments share: a fixed team whose members all act until the episode ends.

A family of environments says how an episode starts and how it goes on, with the agents stacked along one axis
(:class:`Moment`); this module turns that into PettingZoo's dictionaries and checks what comes in.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from environments.drawing import Picture

Array = NDArray[Any]


class Moment(NamedTuple):
    """What one copy of an environment shows after a reset or a step.

    Attributes:
        obs: One observation per agent, (N, O) float32.
        state: The global state, (S,) float32.
        legal_actions: Which actions each agent may take next, (N, A) bool; all True if actions are continuous.
        rewards: One reward per agent, (N,) float32; zeros after a reset.
        terminal: The task itself is over: nothing more can be gained.
        truncated: The episode was cut off by its step limit, although the task was not over.
        won: The team reached its goal; only ever True together with ``terminal``.
    """

    obs: NDArray[np.float32]
    state: NDArray[np.float32]
    legal_actions: NDArray[np.bool_]
    rewards: NDArray[np.float32]
    terminal: bool
    truncated: bool
    won: bool


class TeamEnv(ParallelEnv):  # type: ignore[misc]  # PettingZoo's classes are not followed by mypy
    """A PettingZoo ``ParallelEnv`` whose agents are all present from the first to the last step.

    ``infos[agent]["action_mask"]`` holds the legal actions, (A,) int8 with 1 = legal, for discrete actions;
    ``infos[agent]["won"]`` says whether the episode was won, in environments that can be won. ``reset`` without a seed
    continues the sequence of episodes that the last seed began, as in Gymnasium. ``render`` draws the present moment,
    where ``metadata["render_modes"]`` says so; nothing is drawn unless it is called.

    Args:
        name: Scenario, such as "smax/3m"; appears in messages.
        agents: Names of the agents, in the order of the stacked axes.
        obs_dim: Length O of an agent's observation.
        state_dim: Length S of the global state.
        action_dim: Number of actions if discrete, else the length of an action.
        discrete: Whether an action is one of ``action_dim`` choices, rather than a vector in [-1, 1].
        can_be_won: Whether episodes of this environment are won or lost.
        frames_per_second: Speed at which a film of its steps is watched; 0 if it cannot be drawn.
    """

    def __init__(
        self,
        name: str,
        agents: list[str],
        obs_dim: int,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        can_be_won: bool,
        frames_per_second: int = 0,
    ) -> None:
        drawable = frames_per_second > 0
        self.metadata = {
            "name": name,
            "render_modes": ["rgb_array"] if drawable else [],
            "render_fps": frames_per_second,
        }
        self.render_mode = "rgb_array" if drawable else None
        self.possible_agents = list(agents)
        self.agents: list[str] = []
        self.action_dim, self.discrete, self.can_be_won = action_dim, discrete, can_be_won
        self.state_space = spaces.Box(-np.inf, np.inf, (state_dim,), np.float32)
        self._observation_spaces = {agent: spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32) for agent in agents}
        self._action_spaces: dict[str, spaces.Space[Any]] = {
            agent: spaces.Discrete(action_dim) if discrete else spaces.Box(-1.0, 1.0, (action_dim,), np.float32)
            for agent in agents
        }
        self._episode_seeds = np.random.default_rng()
        self._state: NDArray[np.float32] | None = None
        self._steps, self._return, self._end = 0, 0.0, ""

    @abstractmethod
    def _start(self, seed: int) -> Moment:
        """Begin the episode that belongs to a seed in [0, 2**32)."""

    @abstractmethod
    def _advance(self, actions: Array) -> Moment:
        """Go one step on; actions are (N,) integers if discrete, else (N, A) floats in [-1, 1]."""

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The space of one agent's observations: a box of shape (O,)."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The space of one agent's actions: ``Discrete(A)``, or the box [-1, 1] of shape (A,)."""
        return self._action_spaces[agent]

    def state(self) -> NDArray[np.float32]:
        """The global state, (S,) float32.

        Raises:
            RuntimeError: If no episode was started yet.
        """
        if self._state is None:
            raise RuntimeError(f"'{self}' has no state before its first episode: expected reset() before state()")
        return self._state.copy()

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, dict[str, Any]]]:
        """Start an episode.

        Args:
            seed: Which episode, in [0, 2**32); the same seed and actions give the same episode. None continues the
                sequence of episodes that the last seed began.
            options: Not used; part of PettingZoo's interface.

        Returns:
            Observations and infos by agent.

        Raises:
            ValueError: If the seed is out of range.
        """
        if seed is None:
            seed = int(self._episode_seeds.integers(2**32))
        elif not 0 <= seed < 2**32:
            raise ValueError(f"expected a seed in [0, 2**32) for '{self}', got {seed}")
        else:
            self._episode_seeds = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        moment = self._start(seed)
        self._steps, self._return, self._end = 0, 0.0, ""
        return self._shown(moment)

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Array], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Let every agent act once.

        Args:
            actions: One action per agent.

        Returns:
            Observations, rewards, terminations, truncations and infos by agent.

        Raises:
            RuntimeError: If the episode is over, or none was started.
            ValueError: If an agent's action is missing or outside its action space.
        """
        if not self.agents:
            raise RuntimeError(f"'{self}' has no running episode: expected reset() before step()")
        moment = self._advance(self._stacked(actions))
        agents = list(self.agents)
        obs, infos = self._shown(moment)
        rewards = {agent: float(reward) for agent, reward in zip(agents, moment.rewards, strict=True)}
        terminations = dict.fromkeys(agents, bool(moment.terminal))
        truncations = dict.fromkeys(agents, bool(moment.truncated))
        self._steps += 1
        self._return += float(moment.rewards.mean(dtype=np.float64))
        if moment.terminal or moment.truncated:
            self.agents = []
            self._end = ("won" if moment.won else "not won") if self.can_be_won else "over"
        return obs, rewards, terminations, truncations, infos

    def render(self) -> Picture:
        """Draw the present moment from above, or from the side; in the caption the step and the team's return so far.

        Returns:
            (H, W, 3) uint8, with even H and W; of one size as long as the environment lives.

        Raises:
            NotImplementedError: If there is no drawing for this environment.
            RuntimeError: If no episode was started yet.
            ImportError: If Pillow is not installed.
        """
        if self._state is None and self.render_mode is not None:
            raise RuntimeError(
                f"'{self}' has nothing to show before its first episode: expected reset() before render()"
            )
        parts = (str(self), f"step {self._steps}", f"return {self._return:.2f}", self._end)
        return self._draw("   ".join(part for part in parts if part))

    def _draw(self, caption: str) -> Picture:
        """The present moment; environments that are given ``frames_per_second`` have a drawing."""
        raise NotImplementedError(  # what PettingZoo's environments raise, too
            f"'{self}' cannot be drawn: expected an environment whose metadata['render_modes'] has 'rgb_array', as "
            "those of smax, mpe, mamujoco, rware and matrix"
        )

    def _stacked(self, actions: dict[str, Any]) -> Array:
        """The agents' actions as one array, in the order of the agents."""
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise ValueError(f"'{self}' expects an action of every agent, got none for {', '.join(missing)}")
        return np.stack([self._checked(agent, actions[agent]) for agent in self.agents])

    def _checked(self, agent: str, action: Any) -> Array:
        """One agent's action as int64 or float32, if it is in the action space."""
        given = np.asarray(action)
        cast = given.astype(np.int64 if self.discrete else np.float32)
        space = self._action_spaces[agent]
        if not space.contains(cast) or (self.discrete and cast != given):
            raise ValueError(f"'{self}' expects actions in {space}, got {action!r} for {agent}")
        return cast

    def _shown(self, moment: Moment) -> tuple[dict[str, Array], dict[str, dict[str, Any]]]:
        """Observations and infos by agent; remembers the state."""
        self._state = moment.state
        obs = dict(zip(self.agents, moment.obs, strict=True))
        infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        for agent, legal in zip(self.agents, moment.legal_actions, strict=True):
            if self.discrete:
                infos[agent]["action_mask"] = legal.astype(np.int8)
            if self.can_be_won:
                infos[agent]["won"] = bool(moment.won)
        return obs, infos
