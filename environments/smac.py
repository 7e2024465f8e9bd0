"""StarCraft II micro-management: SMAC (v1) and SMACv2, with the game itself.

The simulators are the packages smac and smacv2 from GitHub, which drive the game StarCraft II; neither is on a package
index, and the game is installed apart (:data:`INSTALLATION`). Scenarios have OG-MARL's names: "smac_v1/3m" is SMAC's
map 3m, "smac_v2/terran_5_vs_5" is SMACv2's map 10gen_terran with OG-MARL's settings.

Actions: 0 nothing (fallen units only), 1 stop, 2-5 move up, down, right, left, 6 + k attack (or heal) unit k. The
team's reward is SMAC's own, at most 20 per battle. A decided battle is *terminal*, one that reaches the limit is
*truncated*.

**Seeds** reach the game only when it is launched, which takes half a minute: the first reset launches it with its seed,
and later battles go on from there. SMACv2's teams and places are drawn outside the game and follow every seed. With
``fresh_games`` every battle has a game of its own, and the same seed and actions give the same battle.

Original: https://github.com/oxwhirl/smac (Samvelyan et al., 2019, arXiv:1902.04043);
https://github.com/oxwhirl/smacv2 (Ellis et al., 2023, arXiv:2212.07489); the settings of SMACv2:
``og_marl/wrapped_environments/smacv2.py`` in https://github.com/instadeepai/og-marl.

Differences from the original:
    - SMAC calls battles at the limit terminated like decided ones; they are told apart by its own
      ``continuing_episode`` mark.
    - When the game breaks down, SMAC restarts it and reports an end without a result. That is an error here, so that
      copies in worker processes count the battle as lost.
    - Illegal actions stop the unit instead of the program (fallen units: nothing).
"""

import copy
import importlib
from abc import abstractmethod
from typing import Any

import numpy as np

from environments.team_env import Array, Moment, TeamEnv

INSTALLATION = {
    "smac": (
        "pip install git+https://github.com/oxwhirl/smac.git; install StarCraft II 4.10 "
        "(https://github.com/Blizzard/s2client-proto#downloads), set SC2PATH to its directory, and unpack SMAC's maps "
        "(SMAC_Maps.zip of https://github.com/oxwhirl/smac/releases) into $SC2PATH/Maps"
    ),
    "smacv2": (
        "pip install git+https://github.com/oxwhirl/smacv2.git; install StarCraft II 4.10 "
        "(https://github.com/Blizzard/s2client-proto#downloads), set SC2PATH to its directory, and unpack SMACv2's "
        "maps (SMAC_Maps.zip of https://github.com/oxwhirl/smacv2/releases) into $SC2PATH/Maps/SMAC_Maps"
    ),
}
#: Maps of SMAC that data was published for.
V1_MAPS = (
    "3m",
    "8m",
    "2s3z",
    "5m_vs_6m",
    "3s_vs_5z",
    "3s5z_vs_3s6z",
    "2c_vs_64zg",
    "6h_vs_8z",
    "corridor",
)
#: OG-MARL's scenarios of SMACv2: race, units a side, enemies that positions are drawn for.
V2_SCENARIOS = {
    "terran_5_vs_5": ("terran", 5, 5),
    "zerg_5_vs_5": ("zerg", 5, 5),
    "terran_10_vs_10": ("terran", 10, 5),  # 5: as OG-MARL has it
}
_UNITS = {
    "terran": {"unit_types": ["marine", "marauder", "medivac"], "weights": [0.45, 0.45, 0.1]},
    "zerg": {"unit_types": ["zergling", "baneling", "hydralisk"], "weights": [0.45, 0.1, 0.45]},
}
NOTHING, STOP = 0, 1


def import_smac(package: str) -> Any:
    """Import SMAC or SMACv2.

    Args:
        package: "smac" or "smacv2".

    Returns:
        The module ``smac.env`` or ``smacv2.env``.

    Raises:
        ImportError: If it is not installed; the message lists the steps.
    """
    try:
        return importlib.import_module(f"{package}.env")
    except ImportError as error:
        raise ImportError(f"SMAC needs the package {package} ({error}): {INSTALLATION[package]}") from error


class Smac(TeamEnv):
    """One battle of either version as a PettingZoo ``ParallelEnv``; see :class:`SmacV1` and :class:`SmacV2`.

    Args:
        name: Scenario, such as "smac_v1/3m".
        package: "smac" or "smacv2".
        fresh_games: Launch a new game for every battle, so that seeds decide everything.
    """

    def __init__(self, name: str, package: str, fresh_games: bool) -> None:
        self._module = import_smac(package)
        self._package = package
        self._fresh_games = fresh_games
        self._launched = False
        self._env: Any = self._make(seed=None)  # SMAC launches the game at its first reset
        sizes = self._env.get_env_info()
        super().__init__(
            name=name,
            agents=[f"agent_{i}" for i in range(sizes["n_agents"])],
            obs_dim=int(sizes["obs_shape"]),
            state_dim=int(sizes["state_shape"]),
            action_dim=int(sizes["n_actions"]),
            discrete=True,
            can_be_won=True,
        )

    @abstractmethod
    def _make(self, seed: int | None) -> Any:
        """SMAC's environment."""

    def _start(self, seed: int) -> Moment:
        """Begin a battle, in a game of its own if it is the first or if asked for."""
        if self._fresh_games or not self._launched:
            self._env.close()
            self._env = self._make(seed=seed % 2**31)  # the game's protocol takes 31 bits
            self._launched = True
        self._seed_draws(seed)
        self._env.reset()
        return self._moment(reward=0.0, over=False, info={})

    def _seed_draws(self, seed: int) -> None:
        """Seed what is drawn outside the game: nothing in SMAC."""

    def _advance(self, actions: Array) -> Moment:
        """Let all units act; illegal actions stop them."""
        legal = np.asarray(self._env.get_avail_actions(), bool)
        chosen = np.where(legal[np.arange(len(legal)), actions], actions, np.where(legal[:, STOP], STOP, NOTHING))
        reward, over, info = self._env.step(chosen.tolist())
        if over and not info:
            raise RuntimeError(f"'{self}' lost its battle: the connection to StarCraft II broke, and SMAC restarted it")
        return self._moment(float(reward), bool(over), info)

    def _moment(self, reward: float, over: bool, info: dict[str, Any]) -> Moment:
        """What SMAC shows, stacked."""
        obs = np.stack(self._env.get_obs()).astype(np.float32)
        cut = over and bool(info.get("episode_limit", False))
        return Moment(
            obs=obs,
            state=np.asarray(self._env.get_state(), np.float32),
            legal_actions=np.asarray(self._env.get_avail_actions(), bool),
            rewards=np.full(len(obs), reward, np.float32),
            terminal=over and not cut,
            truncated=cut,
            won=over and bool(info.get("battle_won", False)),
        )

    def close(self) -> None:
        """End the game."""
        self._env.close()


class SmacV1(Smac):
    """One battle of SMAC.

    Args:
        name: One of ``V1_MAPS``, such as "3m".
        fresh_games: Launch a new game for every battle, so that seeds decide everything.

    Raises:
        ImportError: If smac is not installed.
        ValueError: If there is no such map.
    """

    def __init__(self, name: str = "3m", fresh_games: bool = False) -> None:
        if name not in V1_MAPS:
            raise ValueError(f"unknown map of SMAC '{name}'; choose one of: {', '.join(V1_MAPS)}")
        self._map = name
        super().__init__(f"smac_v1/{name}", "smac", fresh_games)

    def _make(self, seed: int | None) -> Any:
        """SMAC's environment with its defaults."""
        return self._module.StarCraft2Env(map_name=self._map, seed=seed, continuing_episode=True)


class SmacV2(Smac):
    """One battle of SMACv2, whose units and places are drawn anew for every battle.

    Args:
        name: One of ``V2_SCENARIOS``, such as "terran_5_vs_5".
        fresh_games: Launch a new game for every battle, so that seeds decide everything.

    Raises:
        ImportError: If smacv2 is not installed.
        ValueError: If there is no such scenario.
    """

    def __init__(self, name: str = "terran_5_vs_5", fresh_games: bool = False) -> None:
        if name not in V2_SCENARIOS:
            raise ValueError(f"unknown scenario of SMACv2 '{name}'; choose one of: {', '.join(V2_SCENARIOS)}")
        self._race, self._n_units, self._n_placed = V2_SCENARIOS[name]
        super().__init__(f"smac_v2/{name}", "smacv2", fresh_games)

    def _make(self, seed: int | None) -> Any:
        """SMACv2's environment with OG-MARL's settings."""
        return self._module.StarCraftCapabilityEnvWrapper(
            capability_config=self._capabilities(),
            map_name=f"10gen_{self._race}",
            debug=False,
            conic_fov=False,
            obs_own_pos=True,
            use_unit_ranges=True,
            min_attack_range=2,
            seed=seed,
            continuing_episode=True,
        )

    def _capabilities(self) -> dict[str, Any]:
        """Which units are drawn, and where they start."""
        team = {
            "dist_type": "weighted_teams",
            "exception_unit_types": ["baneling"],
            "observe": True,
            **copy.deepcopy(_UNITS[self._race]),
        }
        places = {
            "dist_type": "surrounded_and_reflect",
            "p": 0.5,
            "n_enemies": self._n_placed,
            "map_x": 32,
            "map_y": 32,
        }
        sizes = {"n_units": self._n_units, "n_enemies": self._n_units}
        return {**sizes, "team_gen": team, "start_positions": places}

    def _seed_draws(self, seed: int) -> None:
        """Give a generator of our own to everything that SMACv2 draws from."""
        generator = np.random.default_rng(seed)
        for distribution in getattr(self._env, "env_key_to_distribution_map", {}).values():
            for part in (distribution, *vars(distribution).values()):
                if isinstance(getattr(part, "rng", None), np.random.Generator):
                    part.rng = generator
