"""SMAX: StarCraft micro-management battles on JAX, our team against JaxMARL's scripted enemy.

The simulator is JaxMARL's ``HeuristicEnemySMAX`` with its defaults and ``attack_mode="closest"``. The team earns the
enemy's relative loss of health, averaged over the enemy's units, plus 1 when the battle is won: at most 2 per episode.

One copy (:class:`Smax`) and many (:class:`SmaxVector`) run the same two functions, once as they are and once under
``jax.vmap``, compiled once per scenario and number of copies and kept for the life of the process. Randomness: the seed
makes a key, and every reset and step splits one off. JAX runs on the CPU unless ``JAX_PLATFORMS`` was set before.
Compiling takes some ten seconds; with ``JAX_COMPILATION_CACHE_DIR`` set to a directory, only once per machine.

Original: https://github.com/FLAIROX/JaxMARL, ``jaxmarl/environments/smax`` (Rutherford et al., 2023, arXiv:2311.10090).

Differences from the original:
    - An episode that ends is not restarted: ``step_env`` is used, never ``step``.
    - Ends are told apart: *terminal* if one side is dead, *truncated* if the step limit came first. JaxMARL compares
      the limit of 100 with the counter before it counts the step, so an undecided battle is cut after its 101st step.
    - Fallen units stay in the episode with the stop action (4) as their only legal one.
    - Illegal actions are not rejected but have no effect, as in JaxMARL: a shot out of range, a fallen unit's move.
"""

import contextlib
import functools
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from environments.drawing import Picture, draw_battle
from environments.team_env import Array, Moment, TeamEnv
from environments.vector import VectorStep, check_actions, check_seeds

#: JaxMARL's maps; 3m is three marines a side, "a_vs_b" an uneven battle, smacv2_* draw units and places at random.
MAPS = (
    "3m",
    "2s3z",
    "25m",
    "3s5z",
    "8m",
    "5m_vs_6m",
    "10m_vs_11m",
    "27m_vs_30m",
    "3s5z_vs_3s6z",
    "3s_vs_5z",
    "6h_vs_8z",
    "smacv2_5_units",
    "smacv2_10_units",
    "smacv2_20_units",
)
STOP_ACTION = 4  # 0-3 move up, right, down, left; 4 stops; 5 + k attacks enemy k


class Battle(NamedTuple):
    """Everything that one copy carries from step to step, as JAX arrays.

    Attributes:
        key: Source of the randomness to come.
        simulation: JaxMARL's own state.
        obs: (N, O) float32.
        state: JaxMARL's ``world_state``, (S,) float32.
        legal_actions: (N, A) bool.
        reward: Team reward of the last step, () float32.
        terminal: One side is dead, () bool.
        truncated: The step limit came before a decision, () bool.
        won: The enemy is dead and at least one of ours is not, () bool.
    """

    key: Any
    simulation: Any
    obs: Any
    state: Any
    legal_actions: Any
    reward: Any
    terminal: Any
    truncated: Any
    won: Any


@dataclass(frozen=True)
class Simulator:
    """A map's compiled functions and sizes; made once per process by :func:`simulator`.

    Attributes:
        game: JaxMARL's environment.
        agents: JaxMARL's names of our units.
        obs_dim: Length O of a unit's observation.
        state_dim: Length S of the world state.
        action_dim: Number of actions A.
        start: ``seed -> Battle``, seed () uint32.
        advance: ``(Battle, actions (N,) int32) -> Battle``; a finished battle stays as it is, with reward 0.
        start_many: The same for E battles, seeds (E,).
        advance_many: The same for E battles, actions (E, N).
    """

    game: Any
    agents: tuple[str, ...]
    obs_dim: int
    state_dim: int
    action_dim: int
    start: Callable[[Any], Battle]
    advance: Callable[[Battle, Any], Battle]
    start_many: Callable[[Any], Battle]
    advance_many: Callable[[Battle, Any], Battle]


def keep_jax_on_cpu() -> None:
    """Choose the CPU before JAX is imported for the first time, unless the user chose a platform.

    Battles are small, a GPU would mostly wait for them, and JAX would take most of its memory from the training.
    """
    if "jax" not in sys.modules:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")


def import_jaxmarl() -> Any:
    """Import JaxMARL's SMAX package, on the CPU unless the user chose a platform, and without its greeting.

    Returns:
        The module ``jaxmarl.environments.smax``.

    Raises:
        ImportError: If JAX or JaxMARL is not installed.
    """
    keep_jax_on_cpu()
    try:
        with _streams_kept():
            return importlib.import_module("jaxmarl.environments.smax")
    except ImportError as error:
        raise ImportError(f"SMAX needs JaxMARL ({error}): pip install '.[smax]', or pip install jaxmarl") from error


@contextlib.contextmanager
def _streams_kept() -> Iterator[None]:
    """Hide what is printed inside, and give back the streams as they were.

    JaxMARL's import prints, and sets ``sys.stdout`` to ``sys.__stdout__`` on the way, which would end a notebook's or a
    test runner's own redirection.
    """
    kept = sys.stdout, sys.stderr, sys.__stdout__
    sys.stdout = sys.__stdout__ = io.StringIO()  # type: ignore[assignment, misc]  # final, and yet where JaxMARL prints
    try:
        yield
    finally:
        sys.stdout, sys.stderr, sys.__stdout__ = kept  # type: ignore[misc]


@functools.cache
def simulator(map_name: str) -> Simulator:
    """The compiled simulator of one map; the same object every time, so that nothing is compiled twice.

    Args:
        map_name: One of ``MAPS``.

    Returns:
        Functions and sizes. Compilation happens at the first call of each function, per number of battles.

    Raises:
        ImportError: If JaxMARL is not installed.
        ValueError: If there is no such map.
    """
    if map_name not in MAPS:
        raise ValueError(f"unknown SMAX map '{map_name}'; choose one of: {', '.join(MAPS)}")
    smax = import_jaxmarl()
    import jax

    game = smax.HeuristicEnemySMAX(scenario=smax.map_name_to_scenario(map_name), attack_mode="closest")
    start, advance = _battle_functions(game)
    return Simulator(
        game=game,
        agents=tuple(game.agents),
        obs_dim=int(game.obs_size),
        state_dim=int(game.state_size),
        action_dim=int(game.num_ally_actions),
        start=jax.jit(start),
        advance=jax.jit(advance),
        start_many=jax.jit(jax.vmap(start)),
        advance_many=jax.jit(jax.vmap(advance)),
    )


def _battle_functions(game: Any) -> tuple[Callable[[Any], Battle], Callable[[Battle, Any], Battle]]:
    """How one battle starts and goes on, as pure functions that JAX can trace."""
    import jax
    import jax.numpy as jnp

    def strongly_typed(tree: Any) -> Any:
        # JaxMARL resets with Python scalars, whose weak type would make the second step compile again.
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=jnp.asarray(leaf).dtype), tree)

    def battle(key: Any, simulation: Any, shown: dict[str, Any], reward: Any, done: Any) -> Battle:
        alive = simulation.state.unit_alive
        ours, theirs = jnp.any(alive[: game.num_allies]), jnp.any(alive[game.num_allies :])
        decided = ~ours | ~theirs
        legal = game.get_avail_actions(simulation)
        shown_now: Battle = strongly_typed(
            Battle(
                key=key,
                simulation=simulation,
                obs=jnp.stack([shown[agent] for agent in game.agents]),
                state=shown["world_state"],
                legal_actions=jnp.stack([legal[agent] for agent in game.agents]).astype(bool),
                reward=jnp.asarray(reward, jnp.float32),
                terminal=done & decided,
                truncated=done & ~decided,
                won=done & ours & ~theirs,
            )
        )
        return shown_now

    def start(seed: Any) -> Battle:
        key, reset_key = jax.random.split(jax.random.PRNGKey(seed))
        shown, simulation = game.reset(reset_key)
        return battle(key, simulation, shown, reward=0.0, done=jnp.asarray(False))

    def advance(before: Battle, actions: Any) -> Battle:
        key, step_key = jax.random.split(before.key)
        chosen = {agent: actions[i] for i, agent in enumerate(game.agents)}
        shown, simulation, rewards, dones, _ = game.step_env(step_key, before.simulation, chosen)
        after = battle(key, simulation, shown, rewards[game.agents[0]], dones["__all__"])
        finished = before.terminal | before.truncated
        frozen = before._replace(reward=jnp.zeros_like(before.reward))
        return jax.tree.map(lambda old, new: jnp.where(finished, old, new), frozen, after)  # type: ignore[no-any-return]

    return start, advance


class Smax(TeamEnv):
    """One battle as a PettingZoo ``ParallelEnv``; actions 0-3 move, 4 stops, 5 + k attacks enemy k.

    Args:
        map_name: One of ``MAPS``, such as "3m".

    Raises:
        ImportError: If JaxMARL is not installed.
        ValueError: If there is no such map.
    """

    def __init__(self, map_name: str = "3m") -> None:
        self._simulator = simulator(map_name)
        self._battle: Battle | None = None
        self._before: Battle | None = None  # a step ago
        super().__init__(
            name=f"smax/{map_name}",
            agents=list(self._simulator.agents),
            obs_dim=self._simulator.obs_dim,
            state_dim=self._simulator.state_dim,
            action_dim=self._simulator.action_dim,
            discrete=True,
            can_be_won=True,
            frames_per_second=5,  # 2.5 times the speed of the game, whose steps take half a second
        )

    def _start(self, seed: int) -> Moment:
        """Place the units."""
        self._before = None
        return self._moment(self._simulator.start(np.uint32(seed)))

    def _advance(self, actions: Array) -> Moment:
        """Let both sides act for one step of eight simulation ticks."""
        assert self._battle is not None, "TeamEnv starts an episode before it advances one"
        self._before = self._battle
        return self._moment(self._simulator.advance(self._battle, actions.astype(np.int32)))

    def _moment(self, battle: Battle) -> Moment:
        """The battle as NumPy arrays; remembers it."""
        self._battle = battle
        return Moment(
            obs=np.array(battle.obs),
            state=np.array(battle.state),
            legal_actions=np.array(battle.legal_actions),
            rewards=np.full(len(self.possible_agents), battle.reward, np.float32),
            terminal=bool(battle.terminal),
            truncated=bool(battle.truncated),
            won=bool(battle.won),
        )

    def _draw(self, caption: str) -> Picture:
        """The battle from above."""
        assert self._battle is not None, "TeamEnv draws nothing before an episode"
        game, units = self._simulator.game, self._battle.simulation.state
        types = np.asarray(units.unit_types)
        return draw_battle(
            position=np.asarray(units.unit_positions),
            radius=np.asarray(game.unit_type_radiuses)[types],
            health=np.asarray(units.unit_health / game.unit_type_health[types] * units.unit_alive),
            letters=[game.unit_type_shorthands[kind] for kind in types],
            n_allies=game.num_allies,
            shots=self._shots(),
            caption=caption,
        )

    def _shots(self) -> list[tuple[int, int]]:
        """Who fired at whom in the last step, by the numbers of the units.

        A weapon that rests cools down by the whole time of the step; one that fired has been loaded anew meanwhile.
        """
        if self._before is None or self._battle is None:
            return []
        game, units = self._simulator.game, self._battle.simulation.state
        before, after = (
            np.asarray(battle.simulation.state.unit_weapon_cooldowns) for battle in (self._before, self._battle)
        )
        fired = after > before - game.world_steps_per_env_step * game.time_per_step + 1e-3
        shots = []
        for unit, action in enumerate(np.asarray(units.prev_attack_actions)):
            order = int(action) - game.num_movement_actions
            # Enemies count their targets from the last of our units to the first
            target = game.num_allies + order if unit < game.num_allies else game.num_allies - 1 - order
            if fired[unit] and order >= 0:
                shots.append((unit, target))
        return shots


class SmaxVector:
    """E battles in one compiled call per step; a ``VectorEnv`` equal to E copies of :class:`Smax` with the same seeds.

    Args:
        map_name: One of ``MAPS``, such as "3m".
        n_envs: Number of battles E.

    Raises:
        ImportError: If JaxMARL is not installed.
        ValueError: If there is no such map, or ``n_envs`` is not positive.
    """

    def __init__(self, map_name: str, n_envs: int) -> None:
        if n_envs < 1:
            raise ValueError(f"expected at least one battle, got n_envs={n_envs}")
        self._simulator = simulator(map_name)
        self.name = f"smax/{map_name}"
        self.n_envs = n_envs
        self.n_agents = len(self._simulator.agents)
        self.obs_dim = self._simulator.obs_dim
        self.state_dim = self._simulator.state_dim
        self.action_dim = self._simulator.action_dim
        self.discrete = True
        self.can_be_won = True
        self._battles: Battle | None = None

    def reset(self, seeds: Sequence[int]) -> VectorStep:
        """Start one battle per copy.

        Args:
            seeds: One seed in [0, 2**32) per battle.

        Returns:
            The first observations; rewards and flags are zero.

        Raises:
            ValueError: If number or range of the seeds is not as expected.
        """
        return self._show(self._simulator.start_many(check_seeds(seeds, self.n_envs, self.name)))

    def step(self, actions: Array) -> VectorStep:
        """Go one step on in every unfinished battle.

        Args:
            actions: (E, N) integers; those of finished battles are dropped.

        Returns:
            What the battles show now.

        Raises:
            RuntimeError: If ``reset`` was not called before.
            ValueError: If shape, type or range of the actions is not as expected.
        """
        if self._battles is None:
            raise RuntimeError(f"'{self.name}' has no running episodes: expected reset(seeds) before step()")
        return self._show(self._simulator.advance_many(self._battles, check_actions(actions, self)))

    def close(self) -> None:
        """Forget the battles; what was compiled stays for the next ones."""
        self._battles = None

    def _show(self, battles: Battle) -> VectorStep:
        """The battles as NumPy arrays of their own; remembers them."""
        self._battles = battles
        rewards = np.array(battles.reward)
        return VectorStep(
            obs=np.array(battles.obs),
            state=np.array(battles.state),
            legal_actions=np.array(battles.legal_actions),
            rewards=rewards,
            terminals=np.array(battles.terminal),
            truncations=np.array(battles.truncated),
            won=np.array(battles.won),
            agent_rewards=np.repeat(rewards[:, None], self.n_agents, axis=1),
            lost=np.zeros(self.n_envs, bool),
        )
