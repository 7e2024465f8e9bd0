"""Multi-agent particle environments (MPE): simple_spread, simple_tag and simple_world_comm.

The simulator is mpe2's ``simple_spread_v3``, ``simple_tag_v3`` and ``simple_world_comm_v3``, with 25 steps and their
defaults otherwise; its games and their rules are described in :mod:`environments.particle_games`. "<game>" has
continuous actions, "<game>_discrete" discrete ones: two names rather than an option, because a policy for one cannot
play the other. "simple_spread-omar", "simple_tag-omar" and "simple_world-omar" follow the rules of OMAR's data. One
copy under mpe2's rules (:class:`Mpe`) is mpe2 itself; many copies, and OMAR's games, are arrays
(:mod:`environments.particles`).

The learning team of tag and world are the predators; what preys do is said in :mod:`environments.particles`.

Original: https://github.com/Farama-Foundation/MPE2 (Lowe et al., 2017, arXiv:1706.02275; Terry et al., 2021,
arXiv:2009.14471).

Differences from the original:
    - Continuous actions are in [-1, 1] and mapped to mpe2's [0, 1] by u = (a + 1) / 2.
    - The leader of simple_world_comm also speaks. Its team mates' actions are as long as its own, with entries that
      have no effect (continuous) or are illegal (discrete: only the push counts).
    - ``dynamic_rescaling``, which only concerns drawing, is left at its default.
"""

import importlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from environments.array_env import OneCopy
from environments.drawing import Picture
from environments.particle_games import SpreadVector, TagVector, WorldVector
from environments.particles import MAX_STEPS, N_PUSHES, ParticleVector, Rules, nearest_push
from environments.preys import flee, omar_prey
from environments.team_env import Array, Moment, TeamEnv


class Game(NamedTuple):
    """One of mpe2's games: its module, its settings beyond the common ones, and the same as arrays."""

    module: str
    settings: dict[str, Any]
    arrays: type[SpreadVector] | type[TagVector] | type[WorldVector]


GAMES = {
    "simple_spread": Game("mpe2.simple_spread_v3", {"N": 3, "local_ratio": 0.5}, SpreadVector),
    "simple_tag": Game("mpe2.simple_tag_v3", {"num_good": 1, "num_adversaries": 3, "num_obstacles": 2}, TagVector),
    "simple_world_comm": Game("mpe2.simple_world_comm_v3", {"num_good": 2, "num_adversaries": 4}, WorldVector),
}
#: OMAR's games; its simple_world is mpe2's simple_world_comm without the communication.
_OMAR = ("simple_spread-omar", "simple_tag-omar", "simple_world-omar")
NAMES = (*GAMES, *(f"{game}_discrete" for game in GAMES), *_OMAR)


def import_mpe2(module: str) -> Any:
    """Import one of mpe2's games.

    Args:
        module: Such as "mpe2.simple_spread_v3".

    Returns:
        The module.

    Raises:
        ImportError: If mpe2 is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"MPE needs the package mpe2 ({error}): pip install '.[mpe]', or pip install mpe2") from error


def make_mpe(name: str = "simple_spread") -> TeamEnv:
    """One copy of a game.

    Args:
        name: One of ``NAMES``.

    Returns:
        A PettingZoo ``ParallelEnv``.

    Raises:
        ImportError: If the game is mpe2's and mpe2 is not installed.
        ValueError: If there is no such game.
    """
    return OneCopy(lambda n_envs: make_mpe_vector(name, n_envs)) if name in _OMAR else Mpe(name)


def make_mpe_vector(name: str, n_envs: int) -> ParticleVector:
    """Many copies of a game as arrays; they need no simulator.

    Args:
        name: One of ``NAMES``.
        n_envs: Number of copies E.

    Returns:
        The copies.

    Raises:
        ValueError: If there is no such game, or ``n_envs`` is not positive.
    """
    if name == "simple_spread-omar":
        return SpreadVector(n_envs, "omar", f"mpe/{name}")
    if name in _OMAR:
        hunt = TagVector if name == "simple_tag-omar" else WorldVector
        return hunt(n_envs, "omar", f"mpe/{name}", omar_prey(name.removesuffix("-omar")))
    game, rules = _split(name)
    return GAMES[game].arrays(n_envs, rules, f"mpe/{name}")


def _split(name: str) -> tuple[str, Rules]:
    """Game and rules of one of mpe2's names."""
    if name not in NAMES or name in _OMAR:
        raise ValueError(f"unknown MPE scenario '{name}'; choose one of: {', '.join(NAMES)}")
    game = name.removesuffix("_discrete")
    return game, "continuous" if game == name else "discrete"


class Mpe(TeamEnv):
    """One copy of one of mpe2's games as a PettingZoo ``ParallelEnv``, preys included.

    Args:
        name: One of ``NAMES`` without a suffix for other rules, such as "simple_tag" or "simple_tag_discrete".

    Raises:
        ImportError: If mpe2 is not installed.
        ValueError: If there is no such game.
    """

    def __init__(self, name: str = "simple_spread") -> None:
        game, rules = _split(name)
        module, settings, arrays = GAMES[game]
        self._env = import_mpe2(module).parallel_env(
            max_cycles=MAX_STEPS, continuous_actions=rules == "continuous", **settings
        )
        self._like = like = arrays(1, rules, f"mpe/{name}")  # the same sizes, by the same rules
        self._everybody = list(self._env.possible_agents)
        self._legal = np.zeros((like.n_agents, like.action_dim), bool)
        for row, agent in zip(self._legal, self._everybody, strict=False):  # rows are shorter by the preys
            row[: self._n_actions(agent) if rules == "discrete" else None] = True
        super().__init__(
            name=like.name,
            agents=list(like.agents),
            obs_dim=like.obs_dim,
            state_dim=like.state_dim,
            action_dim=like.action_dim,
            discrete=like.discrete,
            can_be_won=False,
            frames_per_second=like.frames_per_second,
        )

    def _n_actions(self, agent: str) -> int:
        """How many actions mpe2 gives an agent: choices if discrete, else entries."""
        space = self._env.action_space(agent)
        return int(space.n) if hasattr(space, "n") else int(space.shape[0])

    def _start(self, seed: int) -> Moment:
        """Place everything."""
        obs, _ = self._env.reset(seed=seed)
        return self._moment(obs, rewards={}, ends={})

    def _advance(self, actions: Array) -> Moment:
        """Push everybody."""
        team = actions if self.discrete else (actions + 1.0) / 2.0
        chosen = dict(zip(self.possible_agents, team, strict=True))
        sizes = {agent: self._n_actions(agent) for agent in chosen}
        if self.discrete:
            chosen = {agent: push % sizes[agent] for agent, push in chosen.items()}  # illegal words are not said
        else:
            chosen = {agent: push[: sizes[agent]] for agent, push in chosen.items()}
        obs, rewards, _, truncations, _ = self._env.step(chosen | self._preys())
        return self._moment(obs, rewards, truncations)

    def _preys(self) -> dict[str, Any]:
        """What the preys do."""
        names = [agent for agent in self._everybody if agent not in self.possible_agents]
        positions = np.stack([body.state.p_pos for body in self._env.unwrapped.world.agents])
        pushes = flee(positions[len(self.possible_agents) :], positions[: len(self.possible_agents)])
        if self.discrete:
            return dict(zip(names, nearest_push(pushes), strict=True))
        shares = np.zeros((len(names), N_PUSHES), np.float32)
        shares[:, [1, 3]], shares[:, [2, 4]] = np.maximum(-pushes, 0.0), np.maximum(pushes, 0.0)
        return dict(zip(names, shares, strict=True))

    def _moment(self, obs: dict[str, Array], rewards: dict[str, float], ends: dict[str, bool]) -> Moment:
        """What mpe2 returns of the team, stacked."""
        stacked: NDArray[np.float32] = np.stack([obs[agent] for agent in self.possible_agents]).astype(np.float32)
        return Moment(
            obs=stacked,
            state=stacked.reshape(-1),
            legal_actions=self._legal.copy(),
            rewards=np.array([rewards.get(agent, 0.0) for agent in self.possible_agents], np.float32),
            terminal=False,
            truncated=any(ends.values()),
            won=False,
        )

    def _draw(self, caption: str) -> Picture:
        """The world from above; mpe2's own drawing wants a screen and pygame."""
        world = self._env.unwrapped.world
        agents, landmarks = (np.stack([body.state.p_pos for body in some]) for some in (world.agents, world.landmarks))
        return self._like.draw_places(agents, landmarks, caption)

    def close(self) -> None:
        """Close mpe2's environment."""
        self._env.close()
