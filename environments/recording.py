"""Environment x behaviour -> a dataset on disk, in OG-MARL's own layout and format.

    <root>/embedded/smax/3m.vlt/Mixed/             a flashbax vault, plus recording.json
    <root>/embedded/smax/3m.vlt/.Mixed.<random>/   the same while it is being recorded

The vault holds one stream (1, T, ...) of whole episodes, one after the other: ``observations`` (N, O), ``actions`` (N,)
int32 or (N, A), ``rewards``, ``terminals`` and ``truncations`` (N,), ``infos.state`` (S,) and, for discrete actions,
``infos.legals`` (N, A); all but the discrete actions are float32, as in OG-MARL's datasets. ``recording.json`` says how
it was made and what is in it.

Original: https://github.com/instadeepai/og-marl, ``og_marl/replay_buffers.py``;
https://github.com/instadeepai/flashbax, ``flashbax/vault/vault.py``.

Differences from the original:
    - Chunks are compressed with zstd instead of gzip: the same size, written and read in half the time.
"""

import contextlib
import importlib
import importlib.metadata
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from environments.behaviours import Behaviour, Recipe, make_behaviour, recipe
from environments.registry import make_vector_env
from environments.smax import keep_jax_on_cpu
from environments.vector import Array, VectorEnv, VectorStep
from environments.workplace import workplace

SOURCE = "embedded"
COPIES = 256  # episodes played at the same time
STEPS_PER_WRITE = 20_000
COMPRESSION = {"id": "zstd", "level": 3}
#: Packages that the data depends on.
_PACKAGES = ("numpy", "jax", "jaxmarl", "mpe2", "gymnasium", "gymnasium-robotics", "mujoco", "rware", "flashbax")
#: Keys of recording.json that say which recording it is; two recordings that agree on them hold the same data.
_IDENTITY = ("dataset", "quality", "seed", "episodes")


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
    if episodes < 1 or seed < 0:
        raise ValueError(
            f"expected at least one episode and a seed of at least 0 for '{dataset}', got episodes={episodes}, "
            f"seed={seed}"
        )
    identity = dict(zip(_IDENTITY, (dataset, quality, seed, episodes), strict=True))
    family, name = scenario.split("/")
    target = Path(root).absolute() / SOURCE / family / f"{name}.vlt" / quality
    if not target.exists():
        _import_flashbax()
        with workplace(target) as directory:
            draft = directory / "draft"
            description = identity | _record_into(draft, scenario, mixture, seed, episodes, progress)
            (draft / "recording.json").write_text(json.dumps(description, indent=1) + "\n")
            try:
                draft.rename(target)
            except OSError:
                if not target.exists():  # otherwise another process was faster, and theirs counts
                    raise
    _check_same(target, identity)
    return target


def _scenario(dataset: str) -> str:
    """The scenario that a dataset is recorded in."""
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


def _record_into(
    draft: Path, scenario: str, mixture: Recipe, seed: int, episodes: int, progress: bool
) -> dict[str, Any]:
    """Play all episodes into a new vault; returns what there is to say about them."""
    from tqdm import tqdm  # here, because nobody who only imports the package needs it

    generator = np.random.default_rng(seed)
    behaviour_of = _behaviour_of_episodes(mixture, episodes, generator)
    seeds = generator.integers(2**32, size=episodes)
    env = make_vector_env(scenario, min(COPIES, episodes))
    team = [make_behaviour(scenario, name) for name in mixture.shares]
    rounds: list[_Round] = []
    with (
        _Writer(draft) as writer,
        tqdm(total=episodes, desc=f"recording {scenario}", unit="episode", disable=not progress) as bar,
    ):
        for first in range(0, episodes, env.n_envs):
            some = slice(first, first + env.n_envs)
            rounds.append(_play(env, team, behaviour_of[some], seeds[some], generator, bar))
            writer.write(rounds[-1].leaves)
            rounds[-1].leaves.clear()  # on disk, or on its way
    env.close()
    return _description(scenario, mixture, behaviour_of, rounds, env.can_be_won)


def _behaviour_of_episodes(mixture: Recipe, episodes: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Which behaviour plays which episode, (episodes,): the shares as exactly as possible, in random order."""
    ends = np.rint(np.cumsum(list(mixture.shares.values())) * episodes).astype(np.int64)
    return generator.permutation(np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0)))


def _play(
    env: VectorEnv,
    team: list[Behaviour],
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
    for behaviour in team:
        behaviour.reset(env.n_envs)
    steps: list[dict[str, Array]] = []
    lengths = np.zeros(wanted, np.int64)
    while not shown.finished[:wanted].all():
        running = ~shown.finished[:wanted]
        choices = np.stack([behaviour.act(shown, generator) for behaviour in team])
        actions = choices[behaviour_of, np.arange(env.n_envs)]
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
    scenario: str, mixture: Recipe, behaviour_of: NDArray[np.int64], rounds: list[_Round], can_be_won: bool
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
    played = {i: name for i, name in enumerate(mixture.shares) if (behaviour_of == i).any()}
    return {
        "scenario": scenario,
        "transitions": total.pop("transitions"),
        "win_rate": total.pop("win_rate"),
        "statistics": {name: value for name, value in total.items() if name != "episodes"},
        "by_behaviour": {name: numbers(behaviour_of == i) for i, name in played.items()},
        "versions": _versions(),
        "behaviour_names": list(mixture.shares),
        "episode_behaviour": behaviour_of.tolist(),
    }


def _versions() -> dict[str, str]:
    """Installed versions of what the data depends on."""
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _import_flashbax() -> tuple[Any, Any]:
    """Import flashbax's Vault and the buffer state that it writes."""
    keep_jax_on_cpu()
    try:
        vault = importlib.import_module("flashbax.vault")
        buffer = importlib.import_module("flashbax.buffers.trajectory_buffer")
    except ImportError as error:
        raise ImportError(
            f"recording needs flashbax ({error}): pip install '.[record]', or pip install flashbax"
        ) from error
    return vault.Vault, buffer.TrajectoryBufferState


class _Writer:
    """Appends leaves (T, ...) to a new vault, collected into pieces that are worth a write.

    flashbax starts an event loop for each write, which fails where one is running already, as in a notebook: hence the
    thread.

    Args:
        directory: Directory of the vault, which must not exist yet.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._vault: Any = None
        self._waiting: list[dict[str, Array]] = []
        self._thread = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._thread.shutdown()

    def write(self, leaves: dict[str, Array]) -> None:
        """Append some steps; they may stay in memory until there are enough of them."""
        self._waiting.append(dict(leaves))
        if sum(len(piece["rewards"]) for piece in self._waiting) >= STEPS_PER_WRITE:
            self._flush()

    def _flush(self) -> None:
        """Write what is waiting."""
        if self._waiting:
            piece = {name: np.concatenate([part[name] for part in self._waiting]) for name in self._waiting[0]}
            self._waiting = []
            self._thread.submit(self._append, piece).result()

    def _append(self, piece: dict[str, Array]) -> None:
        """Hand one piece to flashbax, as a buffer of one lane with as many steps."""
        vault, buffer_state = _import_flashbax()
        lanes = {name: leaf[None] for name, leaf in piece.items()}  # (1, T, ...)
        infos = {name.removeprefix("infos."): lanes.pop(name) for name in list(lanes) if name.startswith("infos.")}
        state = buffer_state(experience=lanes | {"infos": infos}, current_index=np.int32(0), is_full=np.array(True))
        if self._vault is None:
            with contextlib.redirect_stdout(io.StringIO()):  # flashbax announces every vault
                self._vault = vault(
                    vault_name=self._directory.parent.name,
                    experience_structure=state.experience,
                    rel_dir=str(self._directory.parent.parent),
                    vault_uid=self._directory.name,
                    compression=COMPRESSION,
                )
        self._vault.write(state, source_interval=(0, len(piece["rewards"])))
