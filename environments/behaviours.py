"""Teams of different qualities, from which datasets are recorded.

A behaviour decides for all copies and agents at once, from what the copies show
(:class:`environments.vector.VectorStep`):

    team     SMAX                                               simple_spread
    good     attacks the weakest enemy in range,                covers the landmarks in the best assignment
             otherwise goes where JaxMARL's script goes
    weak     plays JaxMARL's script, but lets six shots in      every agent goes to its own nearest landmark
             ten go and walks on instead                        at half gain
    noise    every agent, with probability .1, takes any        Gaussian, .15 on the five action components
             legal action

In the landmark diagnostic, ``good`` goes to one of the six assignments, each as often as the others, and ``weak`` to
landmarks that each agent draws for itself; Gaussian noise, .05. ``precise``, in simple_spread, is ``good`` without
noise. ``uniform`` takes any legal action, in every scenario. ``learned-<stage>`` is a team that learned online
(:mod:`environments.learned`), in the scenarios whose weights come with the project. Which behaviours make up a dataset
is said by :func:`recipe`.
"""

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from environments import smax
from environments.learned import STAGES, LearnedTeam, digest, shipped_stages, shipped_team, weights_file
from environments.registry import split_scenario
from environments.vector import Array, VectorStep


class Behaviour(Protocol):
    """A team that acts in E copies at once; everything random comes from the generator it is given."""

    def reset(self, n_envs: int) -> None:
        """Forget the past: E new episodes begin."""

    def act(self, shown: VectorStep, generator: np.random.Generator) -> Array:
        """Legal actions for all copies: (E, N) int64, or (E, N, A) float32 in [-1, 1]."""


@dataclass(frozen=True)
class Recipe:
    """What a dataset is made of.

    Attributes:
        episodes: Number of episodes.
        shares: Share of the episodes that each behaviour plays; they sum to 1.
    """

    episodes: int
    shares: dict[str, float]


def _learned(episodes: int) -> dict[str, Recipe]:
    """The qualities that one training gives: three of its stages, and a mixture over the whole of it."""
    replay = {f"{LEARNED}{stage}": 0.2 for stage in STAGES if stage.startswith("replay")}
    stages = {quality: {f"{LEARNED}{quality.lower()}": 1.0} for quality in ("Good", "Medium", "Poor")}
    return {quality: Recipe(episodes, shares) for quality, shares in (stages | {"Replay": replay}).items()}


LEARNED = "learned-"  # what the names of teams that learned begin with
_SMAX = {"Mixed": Recipe(4000, {"good": 0.3, "weak": 0.7})}
#: Datasets by scenario, or family, and quality. A new quality is a row here, and its behaviour one in ``_BEHAVIOURS``
#: or a file in ``environments/weights``; ``datamodules/catalogue.py`` lists it.
_RECIPES = {
    "smax": _SMAX,
    "smax/3m": _SMAX | _learned(4000),
    "smax/2s3z": _SMAX | _learned(2000),
    "smax/5m_vs_6m": _SMAX | _learned(2000),
    "mpe/simple_spread": {
        "Mixed": Recipe(3000, {"good": 0.3, "weak": 0.7}),
        **_learned(3000),
        "Good": Recipe(3000, {"good": 1.0}),
        "Expert": Recipe(3000, {"precise": 1.0}),
    },
    "mamujoco/2halfcheetah": {
        "Mixed": Recipe(250, {f"{LEARNED}{stage}": 1 / 3 for stage in ("good", "medium", "poor")}),
        **_learned(250),
    },
    "matrix/xor": {"Mixed": Recipe(4000, {"uniform": 1.0})},
    "matrix/landmarks": {"Mixed": Recipe(4000, {"good": 0.3, "weak": 0.7})},
}


def recorded_qualities(scenario: str) -> tuple[str, ...]:
    """The qualities in which a scenario's dataset can be recorded.

    Args:
        scenario: Such as "smax/3m".

    Returns:
        Their names; none where nobody plays.

    Raises:
        ValueError: If there is no such scenario.
    """
    family, _ = split_scenario(scenario)
    return tuple(_RECIPES.get(scenario) or _RECIPES.get(family, {}))


def recipe(scenario: str, quality: str) -> Recipe:
    """What the dataset of a scenario and a quality is made of.

    Args:
        scenario: Such as "smax/3m".
        quality: Such as "Mixed".

    Returns:
        Number of episodes and shares of the behaviours.

    Raises:
        ValueError: If there is no such scenario, or no such quality of it.
    """
    family, _ = split_scenario(scenario)
    qualities = _RECIPES.get(scenario) or _RECIPES.get(family, {})
    if quality not in qualities:
        there_are = f"choose one of: {', '.join(qualities)}" if qualities else "there is no recipe for this scenario"
        raise ValueError(f"unknown quality '{quality}' for '{scenario}'; {there_are}")
    return qualities[quality]


def make_behaviour(scenario: str, name: str) -> Behaviour:
    """A behaviour for a scenario.

    Args:
        scenario: Such as "smax/3m".
        name: "uniform"; for some scenarios also a script, such as "good" or "weak", or "learned-<stage>".

    Returns:
        The behaviour, to be reset before it acts.

    Raises:
        ValueError: If there is no such scenario, or no such behaviour for it.
        ImportError: If the behaviour needs a simulator that is not installed.
    """
    family, map_name = split_scenario(scenario)
    behaviours = _BEHAVIOURS.get(scenario) or _BEHAVIOURS.get(family, {})
    if name == "uniform":
        return Uniform(discrete=_is_discrete(scenario))
    if name in behaviours:
        return behaviours[name](map_name)
    learned = [f"{LEARNED}{stage}" for stage in shipped_stages(scenario)]
    if name not in learned:
        raise ValueError(
            f"unknown behaviour '{name}' for '{scenario}'; choose one of: "
            f"{', '.join([*behaviours, 'uniform', *learned])}"
        )
    return LearnedTeam(shipped_team(scenario, name.removeprefix(LEARNED)), name=name)


def weights_of(scenario: str, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the weights of those behaviours that learned, by name."""
    stages = {name: name.removeprefix(LEARNED) for name in names if name.startswith(LEARNED)}
    return {name: digest(weights_file(scenario, stage)) for name, stage in stages.items()}


def _is_discrete(scenario: str) -> bool:
    """Whether actions of a scenario are choices rather than vectors."""
    family, name = split_scenario(scenario)
    return family not in ("mpe", "mamujoco", "matrix") or name.endswith("_discrete") or name in ("xor", "bridge")


def random_legal_actions(legal_actions: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.int64]:
    """One of the legal actions for everybody, all equally likely.

    Args:
        legal_actions: (…, A) bool, at least one True in each row.
        generator: Source of randomness.

    Returns:
        Actions, (…) int64.
    """
    draws = generator.random(legal_actions.shape)
    chosen: NDArray[np.int64] = np.where(legal_actions, draws, -1.0).argmax(axis=-1)
    return chosen


class Uniform:
    """Any legal action, all equally likely; for continuous actions, uniform on [-1, 1].

    Args:
        discrete: Whether actions are choices rather than vectors.
    """

    def __init__(self, discrete: bool) -> None:
        self.discrete = discrete

    def reset(self, n_envs: int) -> None:
        """Nothing to forget."""

    def act(self, shown: VectorStep, generator: np.random.Generator) -> Array:
        """Any legal action for everybody."""
        if self.discrete:
            return random_legal_actions(shown.legal_actions, generator)
        return generator.uniform(-1.0, 1.0, shown.legal_actions.shape).astype(np.float32)


class SmaxScript:
    """JaxMARL's scripted team, made better or worse, with random actions mixed in.

    Args:
        map_name: SMAX map, such as "3m".
        focus_fire: Attack the enemy in range with the least health, instead of JaxMARL's choice of target.
        shot_probability: How often an agent that could shoot does; otherwise it walks on.
        random_probability: How often an agent takes any legal action instead.

    Raises:
        ImportError: If JaxMARL is not installed.
        ValueError: If there is no such map.
    """

    def __init__(
        self, map_name: str, focus_fire: bool, shot_probability: float, random_probability: float = 0.1
    ) -> None:
        self._script = _smax_script(map_name)
        self._memory: Any = None
        self.focus_fire = focus_fire
        self.shot_probability = shot_probability
        self.random_probability = random_probability

    def reset(self, n_envs: int) -> None:
        """Begin E new battles."""
        self._memory = self._script.memory(n_envs)

    def act(self, shown: VectorStep, generator: np.random.Generator) -> NDArray[np.int64]:
        """Actions for all battles, (E, N).

        Raises:
            RuntimeError: If ``reset`` was not called before.
        """
        if self._memory is None:
            raise RuntimeError("expected reset(n_envs) before act()")
        seed = generator.integers(2**32, dtype=np.uint32)
        walk, shot, self._memory = self._script.decide(seed, shown.obs, self._memory)
        if self.focus_fire:
            shot = self._weakest_in_range(shown)
        chosen = np.array(walk, np.int64)
        shoots = _is_legal(shown.legal_actions, np.asarray(shot)) & (np.asarray(shot) > smax.STOP_ACTION)
        shoots &= generator.random(chosen.shape) < self.shot_probability
        chosen[shoots] = np.asarray(shot)[shoots]
        disturbed = generator.random(chosen.shape) < self.random_probability
        chosen = np.where(disturbed, random_legal_actions(shown.legal_actions, generator), chosen)
        fallen = ~_is_legal(shown.legal_actions, chosen)  # who stands can always walk
        return np.where(fallen, smax.STOP_ACTION, chosen)

    def _weakest_in_range(self, shown: VectorStep) -> NDArray[np.int64]:
        """The attack on the enemy in range with the least health, (E, N); an illegal action where none is in range."""
        health = shown.obs[..., self._script.enemy_health]  # (E, N, enemies), relative to a fresh unit's
        in_range = shown.legal_actions[..., smax.STOP_ACTION + 1 :]
        weakest: NDArray[np.int64] = np.where(in_range, health, np.inf).argmin(axis=-1)
        return smax.STOP_ACTION + 1 + weakest


def _is_legal(legal_actions: NDArray[np.bool_], actions: Array) -> NDArray[np.bool_]:
    """Whether each action is legal, (E, N)."""
    return np.take_along_axis(legal_actions, actions[..., None], axis=-1)[..., 0]


@dataclass(frozen=True)
class _SmaxScript:
    """JaxMARL's script for our side, compiled for many battles.

    Attributes:
        memory: ``E -> memory`` of E battles' agents before the first step.
        decide: ``(seed, obs (E, N, O), memory) -> (walk (E, N), shot (E, N), memory)``: the script's move if it
            does not shoot, and its action if it may.
        enemy_health: Where an observation shows the enemies' health.
    """

    memory: Callable[[int], Any]
    decide: Callable[[Any, Any, Any], tuple[Any, Any, Any]]
    enemy_health: slice


@functools.cache
def _smax_script(map_name: str) -> _SmaxScript:
    """JaxMARL's script on one map; the same object every time, so that nothing is compiled twice."""
    game = smax.simulator(map_name).game
    import jax
    import jax.numpy as jnp
    from jaxmarl.environments.smax import heuristic_enemy

    walking, shooting = (
        heuristic_enemy.create_heuristic_policy(game, team=0, shoot=shoot, attack_mode="closest")
        for shoot in (False, True)
    )

    def decide_one(key: Any, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        walk, _ = walking(key, memory, obs)
        shot, memory = shooting(key, memory, obs)
        return walk, shot, memory

    def decide(seed: Any, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        keys = jax.random.split(jax.random.PRNGKey(seed), obs.shape[:2])
        return jax.vmap(jax.vmap(decide_one))(keys, obs, memory)  # type: ignore[no-any-return]

    def memory(n_envs: int) -> Any:
        shape = (n_envs, game.num_allies)
        initial = heuristic_enemy.get_heuristic_policy_initial_state()
        return jax.tree.map(lambda leaf: jnp.broadcast_to(np.asarray(leaf), (*shape, *np.shape(leaf))), initial)

    width = len(game.unit_features)
    first, last = (game.num_allies - 1) * width, (game.num_allies - 1 + game.num_enemies) * width
    return _SmaxScript(memory=memory, decide=jax.jit(decide), enemy_health=slice(first, last, width))


class SpreadScript:
    """Agents of simple_spread driven to a landmark by a proportional-derivative controller, with noise.

    The push is clipped to [-1, 1] per axis: gain * (way to the landmark) - damping * (velocity). The noise is added to
    mpe2's five components in [0, 1], which are clipped again.

    Args:
        assign: Agents share the landmarks so that the sum of their ways is the smallest possible, decided anew at each
            step; otherwise each goes to its nearest, also where another one is going.
        gain: Push per unit of distance.
        damping: Push against the velocity, per unit of it.
        noise: Standard deviation of the noise, in mpe2's units.
    """

    def __init__(self, assign: bool, gain: float, damping: float = 2.0, noise: float = 0.15) -> None:
        self.assign, self.gain, self.damping, self.noise = assign, gain, damping, noise

    def reset(self, n_envs: int) -> None:
        """Nothing to forget: the decision depends on the present observation alone."""

    def act(self, shown: VectorStep, generator: np.random.Generator) -> NDArray[np.float32]:
        """Actions for all copies, (E, N, 5)."""
        velocity = shown.obs[..., :2]
        ways = shown.obs[..., 4:10].reshape(*shown.obs.shape[:2], -1, 2)  # (E, N, landmarks, 2)
        distances = np.linalg.norm(ways, axis=-1)
        target = best_assignment(distances) if self.assign else distances.argmin(axis=-1)  # (E, N)
        way = np.take_along_axis(ways, target[..., None, None], axis=2)[:, :, 0]
        push = np.clip(self.gain * way - self.damping * velocity, -1.0, 1.0)  # (E, N, 2), right and up positive
        left, right = np.maximum(-push[..., 0], 0.0), np.maximum(push[..., 0], 0.0)
        down, up = np.maximum(-push[..., 1], 0.0), np.maximum(push[..., 1], 0.0)
        components = np.stack([np.zeros_like(left), left, right, down, up], axis=-1)
        components = np.clip(components + self.noise * generator.standard_normal(components.shape), 0.0, 1.0)
        return (2.0 * components - 1.0).astype(np.float32)


class LandmarkScript:
    """Agents of the landmark diagnostic that jump to landmarks, with noise.

    Whoever looks at one agent alone cannot tell the two kinds apart: it goes to each landmark equally often.

    Args:
        agree: The team draws one of its assignments to the landmarks, all equally likely; otherwise every agent draws
            a landmark for itself, and three agents meet all three in 2 of 9 episodes.
        noise: Standard deviation of each coordinate.
    """

    def __init__(self, agree: bool, noise: float = 0.05) -> None:
        self.agree, self.noise = agree, noise

    def reset(self, n_envs: int) -> None:
        """Nothing to forget."""

    def act(self, shown: VectorStep, generator: np.random.Generator) -> NDArray[np.float32]:
        """Points for all copies, (E, N, 2)."""
        n_envs, n_agents = shown.obs.shape[:2]
        if self.agree:
            target = generator.random((n_envs, n_agents)).argsort(axis=1)
        else:
            target = generator.integers(n_agents, size=(n_envs, n_agents))
        landmarks = shown.obs.reshape(n_envs, n_agents, n_agents, 2)
        points = np.take_along_axis(landmarks, target[..., None, None], axis=2)[:, :, 0]
        noisy = points + self.noise * generator.standard_normal(points.shape)
        return np.clip(noisy, -1.0, 1.0).astype(np.float32)


def best_assignment(costs: Array) -> NDArray[np.int64]:
    """Who goes where, so that the sum of the costs is the smallest: all permutations are tried, which is quick for few.

    Args:
        costs: Cost of sending agent i to place j, (E, N, N).

    Returns:
        Each agent's place, (E, N); every row is a permutation.
    """
    n = costs.shape[-1]
    permutations = np.array(list(itertools.permutations(range(n))))  # (N!, N)
    totals = costs[:, np.arange(n), permutations].sum(axis=-1)  # (E, N!)
    chosen: NDArray[np.int64] = permutations[totals.argmin(axis=-1)]
    return chosen


_BEHAVIOURS: dict[str, dict[str, Callable[[str], Behaviour]]] = {
    "smax": {
        "good": lambda map_name: SmaxScript(map_name, focus_fire=True, shot_probability=1.0),
        "weak": lambda map_name: SmaxScript(map_name, focus_fire=False, shot_probability=0.4),
    },
    "mpe/simple_spread": {
        "precise": lambda _: SpreadScript(assign=True, gain=7.0, noise=0.0),
        "good": lambda _: SpreadScript(assign=True, gain=7.0),
        "weak": lambda _: SpreadScript(assign=False, gain=3.5),
    },
    "matrix/landmarks": {
        "good": lambda _: LandmarkScript(agree=True),
        "weak": lambda _: LandmarkScript(agree=False),
    },
}
