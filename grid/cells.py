"""The directory of a cell: what has been done there, and what is to be done next.

results/<dataset>/<model>/seed_<s>/
    settings.json       what the cell was begun with: its command line, and the whole configuration behind it
    log.txt             what its processes printed
    sessions.json       its processes: command, begin, seconds, exit code, code version, machine
    runs/<name>/version_0/              the run, as lightning fit leaves it, with evaluation.csv
    runs/<name>/version_0/evaluation_best.csv   the same table of the weights in checkpoints/best.ckpt
    done.json           written last, as a whole: the cell is finished

A cell goes on after whatever happened to it: ``next_command`` looks at the files only.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callbacks.run_directory import all_runs
from grid.plan import Cell, Checkpoint
from whole_files import written_whole

SETTINGS, SESSIONS, DONE, LOG = "settings.json", "sessions.json", "done.json", "log.txt"
TABLES: dict[Checkpoint, str] = {"final": "evaluation.csv", "best": "evaluation_best.csv"}
PATHS = ("--config", "--model", "--data", "--trainer")  # options whose values may be files
ROOT, CACHE = "data.init_args.root", "data.init_args.cache_dir"
#: Where something lies is no setting: results stay valid when directories are moved.
_PLACES = ("data.init_args.root", "data.init_args.cache_dir", "trainer.logger", "config", "ckpt_path")


@dataclass(frozen=True)
class Place:
    """A cell and where it is run.

    Args:
        cell: The cell.
        directory: Its own directory.
        config: The whole configuration of its run, defaults included; empty if it is not known.
    """

    cell: Cell
    directory: Path
    config: Mapping[str, Any]

    @property
    def run(self) -> Path | None:
        """Directory of the run, if there is one."""
        runs = [run for experiment in self.directory.glob("runs/*") for run in all_runs(experiment)]
        return max(runs, key=lambda run: run.stat().st_mtime, default=None)

    @property
    def log(self) -> Path:
        """The file with everything that the cell's processes print."""
        return self.directory / LOG

    @property
    def finished(self) -> bool:
        """Whether the cell was finished, for the checkpoints that were asked for then."""
        return (self.directory / DONE).is_file()

    @property
    def updates(self) -> int | None:
        """How many updates its run shall make; None if that is not known."""
        steps = (self.config.get("trainer") or {}).get("max_steps")
        return steps if isinstance(steps, int) and steps > 0 else None


def next_step(place: Place, checkpoints: Sequence[Checkpoint], trained: bool = False) -> list[str] | None:
    """What is to be run next, as words after ``lightning``.

    Args:
        place: The cell.
        checkpoints: Which weights are evaluated.
        trained: Whether a training process has just ended well: what is missing now is not its to make.

    Returns:
        None if nothing is missing.
    """
    run = place.run
    saved = None if run is None else run / "checkpoints" / "last.ckpt"
    if run is None or not (run / TABLES["final"]).is_file():
        if saved is None or not saved.is_file():
            return None if trained else command(place, "fit")
        return command(place, "test" if trained else "fit", "last")
    best = run / "checkpoints" / "best.ckpt"
    if "best" in checkpoints and best.is_file() and not (run / TABLES["best"]).is_file():
        return command(place, "test", "best")
    return None


def take_over(place: Place, words: Sequence[str]) -> None:
    """Puts the table that a ``test`` wrote where the cell keeps it.

    Args:
        place: The cell.
        words: What was run.
    """
    run = place.run
    made = None if run is None else run / "test" / TABLES["final"]
    if words[0] == "test" and run is not None and made is not None and made.is_file():
        os.replace(made, run / TABLES["best" if words[-1] == "best" else "final"])


def command(place: Place, subcommand: str, checkpoint: str | None = None) -> list[str]:
    """A command line that can be run in the cell's directory: its files and data have absolute paths.

    Args:
        place: The cell.
        subcommand: ``fit`` or ``test``.
        checkpoint: ``last``, ``best`` or None.
    """
    words = [subcommand, *place.cell.words[1:]]
    for index, word in enumerate(words[:-1]):
        if word in PATHS and Path(words[index + 1]).is_file():
            words[index + 1] = str(Path(words[index + 1]).absolute())
    settings = flat(place.config)
    words += [f"--{ROOT}", str(Path(str(settings.get(ROOT) or "vaults")).absolute())]
    if settings.get(CACHE) is not None:
        words += [f"--{CACHE}", str(Path(str(settings[CACHE])).absolute())]
    return words if checkpoint is None else [*words, "--ckpt_path", checkpoint]


def clear_unusable(place: Place) -> None:
    """Removes a run that never came to its first checkpoint, so that a cell has one run only."""
    run = place.run
    kept = () if run is None else (run / "checkpoints" / "last.ckpt", run / TABLES["final"])
    if kept and not any(path.is_file() for path in kept):
        shutil.rmtree(place.directory / "runs")


def difference(place: Place) -> str | None:
    """How the settings with which a cell was begun differ from the present ones.

    An option that only one of the two configurations has is no difference: it came or went with a version of the code.

    Args:
        place: The cell.

    Returns:
        In words; None if they are the same, or the cell was never begun.
    """
    path = place.directory / SETTINGS
    if not path.is_file():
        return None
    begun = json.loads(path.read_text())
    before, now = _pairs(begun["words"]), _pairs(place.cell.words)
    old, new = flat(begun["config"]), flat(json.loads(json.dumps(dict(place.config), default=str)))
    changed = {key: (before.get(key), now.get(key)) for key in {**before, **now} if before.get(key) != now.get(key)}
    for key in old.keys() & new.keys():
        if not key.startswith(_PLACES) and old[key] != new[key]:
            changed.setdefault(key, (old[key], new[key]))
    words = [f"{key} {was} -> {is_now}" for key, (was, is_now) in sorted(changed.items())]
    return ", ".join(words) or None


def begin(place: Place) -> None:
    """Writes down the settings of a cell, if it has not been begun yet."""
    if not (place.directory / SETTINGS).is_file():
        write_json(place.directory / SETTINGS, {"words": place.cell.words, "config": dict(place.config)})


def read_json(path: Path, default: Any) -> Any:
    """The content of a JSON file, or a default if there is none."""
    return json.loads(path.read_text()) if path.is_file() else default


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file, all or nothing."""
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, default=str) + "\n")


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names; entries of a list are numbered.

    Args:
        config: Dictionaries and lists in each other.
        prefix: Name of the whole.
    """
    if isinstance(config, Mapping):
        items: Any = config.items()
    elif isinstance(config, list | tuple) and any(isinstance(each, Mapping) for each in config):
        items = enumerate(config)
    else:
        return {prefix: config}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


@contextmanager
def claimed(directory: Path) -> Iterator[int | None]:
    """The right to work in a directory, which one process at a time has, together with its children.

    Args:
        directory: Made if missing.

    Yields:
        A file descriptor to hand on to children, which keeps the right as long as one of them lives; None if somebody
        else has the right.
    """
    import fcntl  # here, so that other systems can at least import the package

    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield descriptor
    finally:
        os.close(descriptor)


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """The options of a command line; every one of a cell has one value."""
    return {option.removeprefix("--"): value for option, value in zip(words[1::2], words[2::2], strict=True)}
