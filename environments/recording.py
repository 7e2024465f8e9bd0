"""Environment x behaviour -> a dataset on disk, in OG-MARL's own layout and format.

    <root>/embedded/smax/3m.vlt/Mixed/             a flashbax vault, plus recording.json
    <root>/embedded/smax/3m.vlt/.Mixed.<random>/   the same while it is being recorded

The vault holds one stream (1, T, ...) of whole episodes, one after the other: ``observations`` (N, O), ``actions`` (N,)
int32 or (N, A), ``rewards``, ``terminals`` and ``truncations`` (N,), ``infos.state`` (S,) and, for discrete actions,
``infos.legals`` (N, A); all but the discrete actions are float32, as in OG-MARL's datasets. ``recording.json`` says how
it was made and what is in it; where teams that learned have played, also the digests of their weights.

Anything can be recorded: :func:`record` plays this project's own teams, :func:`record_team` whoever it is given, in
our environments or a user's.
"""

import contextlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from environments.behaviours import Behaviour, make_behaviour, recipe, weights_of
from environments.imported import is_import_path
from environments.registry import make_vector_env
from environments.vault_writer import VaultWriter, import_flashbax
from environments.vector import Array, VectorEnv, VectorStep, check_actions
from environments.workplace import workplace

SOURCE = "embedded"
COPIES = 256  # episodes played at the same time
IMPORTED_COPIES = 32  # the same in a user's environment, of which each copy is an object
EPISODES = 1000  # of a recording that says nothing else
#: Packages that the data depends on.
_PACKAGES = ("numpy", "jax", "jaxmarl", "mpe2", "gymnasium", "gymnasium-robotics", "mujoco", "rware", "flashbax")
#: Keys of recording.json that say which recording it is; two recordings that agree on them hold the same data.
_IDENTITY = ("dataset", "quality", "seed", "episodes")


@dataclass(frozen=True)
class Player:
    """Who plays a recording that is not one of ours.

    Attributes:
        name: How recording.json calls it, such as "trained" or "my_games:careful".
        make: Makes it for the environment that it will play, and may refuse one that it cannot play.
        facts: What tells it from other players; recording.json keeps them as "played_by", and a recording is only
            taken for the same if they agree. Plain JSON values.
        notes: What else recording.json shall say.
        packages: Packages whose versions matter, besides those of the simulators.
    """

    name: str
    make: Callable[[VectorEnv], Behaviour]
    facts: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)
    packages: Sequence[str] = ()


class _Cast(NamedTuple):
    """Behaviours by name, made for an environment, and the share of the episodes that each plays."""

    shares: Mapping[str, float]
    make: Callable[[str, VectorEnv], Behaviour]


class _Round(NamedTuple):
    """Whole episodes in a row, as they go into the vault, with one entry per episode about them."""

    leaves: dict[str, Array]
    lengths: NDArray[np.int64]
    returns: NDArray[np.float64]
    won: NDArray[np.bool_]


def record(
    dataset: str,
    quality: str,
    root: Path | str,
    seed: int = 0,
    progress: bool = True,
    episodes: int | None = None,
) -> Path:
    """Record a dataset, or return it if it was already recorded in the same way.

    The vault appears under its name only when it is complete. An interrupted recording leaves nothing behind, a killed
    one a hidden directory that the next recording removes. If two processes record the same dataset at once, the first
    to finish wins and the other discards its own. The same seed gives the same data.

    Args:
        dataset: "embedded/<scenario>", such as "embedded/smax/3m".
        quality: Which mixture of behaviours, such as "Mixed".
        root: Directory of all vaults.
        seed: Seed of the starts, of the behaviours' choices and of their order, at least 0.
        progress: Show a progress bar.
        episodes: Number of episodes instead of the quality's own, for a smaller or larger dataset.

    Returns:
        The vault's directory, ``<root>/embedded/<family>/<name>.vlt/<quality>``.

    Raises:
        ValueError: If dataset or quality is unknown, there is no episode to record, or the seed is negative.
        FileExistsError: If the directory holds something else: other data, or the same recorded in another way.
        ImportError: If the simulator or flashbax is not installed.
    """
    scenario = _scenario(dataset)
    mixture = recipe(scenario, quality)
    episodes = mixture.episodes if episodes is None else episodes
    identity = dict(zip(_IDENTITY, (dataset, quality, seed, episodes), strict=True))
    if weights := weights_of(scenario, mixture.shares):
        identity["weights"] = weights
    cast = _Cast(mixture.shares, lambda name, _: make_behaviour(scenario, name))
    return _record(Path(root), identity, lambda draft: _record_into(draft, scenario, cast, seed, episodes, progress))


def record_team(
    dataset: str,
    quality: str,
    root: Path | str,
    scenario: str,
    player: Player,
    episodes: int = EPISODES,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Record any team in any environment, as :func:`record` does: all or nothing, and the same for the same seed.

    Args:
        dataset: "<source>/<environment>/<scenario>" with a source of your own, such as "my/smax/3m".
        quality: Such as "Trained".
        root: Directory of all vaults.
        scenario: One of ours, such as "smax/3m", or the import path of a function that makes an environment
            (:mod:`environments.imported`).
        player: Who plays.
        episodes: Number of episodes, at least 1.
        seed: Seed of the starts and of the player's choices, at least 0.
        progress: Show a progress bar.

    Returns:
        The vault's directory, ``<root>/<source>/<environment>/<scenario>.vlt/<quality>``.

    Raises:
        ValueError: If the dataset's name is not one, there is no such scenario or no episode to record, or the player
            takes actions that are illegal or of another shape.
        FileExistsError: If the directory holds something else: other data, or the same recorded in another way.
        ImportError: If the simulator or flashbax is not installed, or a path cannot be imported.
    """
    parts = dataset.split("/")
    plain = all(part not in ("", ".", "..") and "/" not in part for part in (*parts, quality))
    if len(parts) != 3 or parts[0] == SOURCE or not plain:
        raise ValueError(
            f"expected a dataset '<source>/<environment>/<scenario>' whose source is not '{SOURCE}', such as "
            f"'my/smax/3m', and the name of a quality, got '{dataset}' and '{quality}'"
        )
    identity = dict(zip(_IDENTITY, (dataset, quality, seed, episodes), strict=True))
    identity |= {"scenario": scenario, "played_by": dict(player.facts)}
    cast = _Cast({player.name: 1.0}, lambda _, env: player.make(env))

    def play(draft: Path) -> dict[str, Any]:
        described = _record_into(draft, scenario, cast, seed, episodes, progress)
        described["versions"] |= _versions(player.packages)
        return dict(player.notes) | described

    return _record(Path(root), identity, play)


def _record(root: Path, identity: dict[str, Any], play: Callable[[Path], dict[str, Any]]) -> Path:
    """Let ``play`` write a vault and describe it, unless it is there; it appears only when it is complete."""
    if identity["episodes"] < 1 or identity["seed"] < 0:
        raise ValueError(
            f"expected at least one episode and a seed of at least 0 for '{identity['dataset']}', got "
            f"episodes={identity['episodes']}, seed={identity['seed']}"
        )
    target: Path = root.absolute() / f"{identity['dataset']}.vlt" / identity["quality"]
    if not target.exists():
        import_flashbax()
        with workplace(target) as directory:
            draft = directory / "draft"
            description = identity | play(draft)
            (draft / "recording.json").write_text(json.dumps(description, indent=1) + "\n")
            try:
                draft.rename(target)
            except OSError:
                if not target.exists():  # otherwise another process was faster, and theirs counts
                    raise
    _check_same(target, identity)
    return target


def _scenario(dataset: str) -> str:
    """The scenario that an embedded dataset is recorded in."""
    source, _, scenario = dataset.partition("/")
    if source != SOURCE:
        raise ValueError(f"expected a dataset '{SOURCE}/<scenario>', such as '{SOURCE}/smax/3m', got '{dataset}'")
    return scenario


def _check_same(target: Path, identity: dict[str, Any]) -> None:
    """Raise unless the directory holds the recording that is asked for."""
    described = target / "recording.json"
    found = json.loads(described.read_text()) if described.is_file() else {}
    different = [key for key in identity if found.get(key) != identity[key]]
    if different:
        wanted, there = (", ".join(f"{key}={some.get(key)}" for key in different) for some in (identity, found))
        raise FileExistsError(
            f"expected a recording with {wanted} in '{target}', found {there if found else 'no recording.json'}; "
            "delete the directory, or record under another root"
        )


def _record_into(draft: Path, scenario: str, cast: _Cast, seed: int, episodes: int, progress: bool) -> dict[str, Any]:
    """Play all episodes into a new vault; returns what there is to say about them."""
    from tqdm import tqdm  # here, because nobody who only imports the package needs it

    generator = np.random.default_rng(seed)
    behaviour_of = _behaviour_of_episodes(cast.shares, episodes, generator)
    seeds = generator.integers(2**32, size=episodes)
    env = make_vector_env(scenario, min(IMPORTED_COPIES if is_import_path(scenario) else COPIES, episodes))
    rounds: list[_Round] = []
    try:
        team = {name: cast.make(name, env) for name in cast.shares}
        with (
            VaultWriter(draft) as writer,
            tqdm(total=episodes, desc=f"recording {scenario}", unit="episode", disable=not progress) as bar,
        ):
            for first in range(0, episodes, env.n_envs):
                some = slice(first, first + env.n_envs)
                rounds.append(_play(env, team, behaviour_of[some], seeds[some], generator, bar))
                writer.write(rounds[-1].leaves)
                rounds[-1].leaves.clear()  # on disk, or on its way
    finally:
        env.close()
    return _description(scenario, list(team), behaviour_of, rounds, env.can_be_won)


def _behaviour_of_episodes(
    shares: Mapping[str, float], episodes: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Which behaviour plays which episode, (episodes,): the shares as exactly as possible, in random order."""
    ends = np.rint(np.cumsum(list(shares.values())) * episodes).astype(np.int64)
    return generator.permutation(np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0)))


def _play(
    env: VectorEnv,
    team: dict[str, Behaviour],
    behaviour_of: NDArray[np.int64],
    seeds: NDArray[np.int64],
    generator: np.random.Generator,
    bar: Any,
) -> _Round:
    """Play one episode per seed at the same time, at most as many as there are copies."""
    wanted = len(seeds)
    surplus = (0, env.n_envs - wanted)  # copies beyond the last episode repeat it, unrecorded
    behaviour_of = np.pad(behaviour_of, surplus, mode="edge")
    shown = env.reset(np.pad(seeds, surplus, mode="edge").tolist())
    for behaviour in team.values():
        behaviour.reset(env.n_envs)
    steps: list[dict[str, Array]] = []
    lengths = np.zeros(wanted, np.int64)
    while not shown.finished[:wanted].all():
        running = ~shown.finished[:wanted]
        actions = _decisions(env, team, behaviour_of, shown, generator)
        after = env.step(actions)
        if after.lost.any():
            raise RuntimeError(
                f"'{env.name}' lost {int(after.lost.sum())} episodes to failures of its simulator, so the recording "
                "would not be what its seed says; record again"
            )
        steps.append({name: leaf[:wanted] for name, leaf in _leaves(shown, actions, after, env.discrete).items()})
        lengths += running
        bar.update(int((running & after.finished[:wanted]).sum()))
        shown = after
    returns = np.sum([step["rewards"].mean(axis=1, dtype=np.float64) for step in steps], axis=0)
    return _Round(_in_a_row(steps, lengths), lengths, returns, shown.won[:wanted])


def _decisions(
    env: VectorEnv,
    team: dict[str, Behaviour],
    behaviour_of: NDArray[np.int64],
    shown: VectorStep,
    generator: np.random.Generator,
) -> Array:
    """What the behaviour of each copy decides, (E, N) or (E, N, A), after a check of its shape, range and legality."""
    choices = []
    for name, behaviour in team.items():
        actions = behaviour.act(shown, generator)
        try:
            choices.append(check_actions(actions, env))
        except ValueError as error:
            raise ValueError(f"actions of behaviour '{name}': {error}") from None
    chosen: Array = np.stack(choices)[behaviour_of, np.arange(env.n_envs)]
    if env.discrete:
        legal = np.take_along_axis(shown.legal_actions, chosen[..., None].astype(np.int64), axis=-1)[..., 0]
        for copy, agent in np.argwhere(~legal & ~shown.finished[:, None])[:1]:
            name, allowed = list(team)[behaviour_of[copy]], np.flatnonzero(shown.legal_actions[copy, agent])
            raise ValueError(
                f"actions of behaviour '{name}': '{env.name}' expects one of the legal actions {allowed.tolist()} of "
                f"agent {agent}, got {chosen[copy, agent]}; legal_actions says which are legal"
            )
    return chosen


def _leaves(shown: VectorStep, actions: Array, after: VectorStep, discrete: bool) -> dict[str, Array]:
    """One step of all copies as OG-MARL names and types it: what was shown, what was done, what came of it."""
    shape = after.agent_rewards.shape
    leaves = {
        "observations": shown.obs,
        "actions": actions.astype(np.int32 if discrete else np.float32),
        "rewards": after.agent_rewards,
        "terminals": np.broadcast_to(after.terminals[:, None], shape).astype(np.float32),
        "truncations": np.broadcast_to(after.truncations[:, None], shape).astype(np.float32),
        "infos.state": shown.state,
    }
    return leaves | {"infos.legals": shown.legal_actions.astype(np.float32)} if discrete else leaves


def _in_a_row(steps: list[dict[str, Array]], lengths: NDArray[np.int64]) -> dict[str, Array]:
    """Episodes side by side, some finished early, put one behind the other.

        copy 0  a b c .        lengths 3, 4, 2
        copy 1  d e f g   ->   a b c d e f g h i
        copy 2  h i . .

    Args:
        steps: T steps, each with leaves (E, ...).
        lengths: Steps that belong to each episode, (E,).

    Returns:
        Leaves (sum of the lengths, ...).
    """
    recorded = np.arange(len(steps)) < lengths[:, None]  # (E, T)
    return {name: np.stack([step[name] for step in steps], axis=1)[recorded] for name in steps[0]}


def _description(
    scenario: str, names: list[str], behaviour_of: NDArray[np.int64], rounds: list[_Round], can_be_won: bool
) -> dict[str, Any]:
    """What recording.json says besides the identity."""
    lengths, returns, won = (np.concatenate(parts) for parts in list(zip(*rounds, strict=True))[1:])

    def numbers(some: NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "episodes": int(some.sum()),
            "transitions": int(lengths[some].sum()),
            "return_mean": float(returns[some].mean()),
            "return_std": float(returns[some].std()),
            "return_min": float(returns[some].min()),
            "return_max": float(returns[some].max()),
            "win_rate": float(won[some].mean()) if can_be_won else None,
        }

    total = numbers(np.ones(len(lengths), bool))
    played = {i: name for i, name in enumerate(names) if (behaviour_of == i).any()}
    return {
        "scenario": scenario,
        "transitions": total.pop("transitions"),
        "win_rate": total.pop("win_rate"),
        "statistics": {name: value for name, value in total.items() if name != "episodes"},
        "by_behaviour": {name: numbers(behaviour_of == i) for i, name in played.items()},
        "versions": _versions(_PACKAGES),
        "behaviour_names": names,
        "episode_behaviour": behaviour_of.tolist(),
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
