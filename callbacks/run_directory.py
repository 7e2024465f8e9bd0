"""Where a run keeps its files, and how a later command finds them again.

A run is a directory that no other run writes to::

    runs/smac/                  logger's save_dir / name
        version_0/              one `lightning fit`; the next one gets version_1
            config.yaml         the whole configuration, defaults included
            metrics.csv         everything that was logged
            evaluation.csv      the table printed at the end
            checkpoints/
                last.ckpt       newest state, for going on: --ckpt_path last
                best.ckpt       the best in a periodic rollout, by RolloutEvaluation.best_metric: --ckpt_path best
            test/               what `lightning test --ckpt_path ...` of this run wrote (also validate/, predict/)
"""

import csv
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

Which = Literal["last", "best"]
_VERSION = "version_"


def claim_run(experiment: Path) -> Path:
    """Makes the directory of a new run; runs that start at the same moment get different ones.

    Args:
        experiment: Directory of all runs of an experiment, made if missing.

    Returns:
        ``experiment/version_<k>``, empty, with k above every earlier run's.
    """
    experiment.mkdir(parents=True, exist_ok=True)
    number = max((_number(run) for run in all_runs(experiment)), default=-1) + 1
    while True:
        try:
            (experiment / f"{_VERSION}{number}").mkdir()
            return experiment / f"{_VERSION}{number}"
        except FileExistsError:
            number += 1


def all_runs(experiment: Path) -> list[Path]:
    """Directories of an experiment's runs, newest first."""
    runs = [path for path in experiment.glob(f"{_VERSION}*") if path.name.removeprefix(_VERSION).isdigit()]
    return sorted(runs, key=_number, reverse=True)


def run_of(checkpoint: Path) -> Path | None:
    """Directory of the run that wrote a checkpoint; None if the file does not lie in one."""
    run = checkpoint.parent.parent
    return run if checkpoint.parent.name == "checkpoints" and run.name.startswith(_VERSION) else None


def find_checkpoint(experiment: Path, which: Which, wanted: Mapping[str, object]) -> Path:
    """Finds the newest checkpoint of a run that did what the present configuration asks for.

    Args:
        experiment: Directory of all runs of an experiment.
        which: ``last`` or ``best``.
        wanted: What identifies the run, as ``identity`` gives it.

    Returns:
        Path of the checkpoint file.

    Raises:
        FileNotFoundError: If there is none; the message says what there is. Never falls back to a fresh start.
    """
    others = []
    for run in all_runs(experiment):
        checkpoint = run / "checkpoints" / f"{which}.ckpt"
        if not checkpoint.is_file():
            continue
        found = _saved_identity(run)
        if found == dict(wanted):
            return checkpoint
        others.append(f"  {checkpoint} ({_words(found)})")
    raise FileNotFoundError(
        f"--ckpt_path {which}: expected a run of this configuration ({_words(wanted)}) with a {which}.ckpt "
        f"in '{experiment}', found "
        + ("those of other runs only:\n" + "\n".join(others) + "\n" if others else "none; ")
        + "leave --ckpt_path out to start from scratch, or name a checkpoint file"
    )


def identity(config: Mapping[str, Any]) -> dict[str, object]:
    """What tells one run of an experiment from another: algorithm, data and seed.

    Args:
        config: A configuration with the keys of ``lightning fit`` (plain dictionaries).

    Returns:
        Algorithm, dataset, quality and seed.
    """
    data = (config.get("data") or {}).get("init_args") or {}
    return {
        "algorithm": (config.get("model") or {}).get("class_path"),
        "dataset": data.get("dataset"),
        "quality": data.get("quality"),
        "seed": config.get("seed_everything"),
    }


def continue_metrics(logger: CSVLogger, updates: int) -> None:
    """Lets a resumed run add to the metrics of the interrupted one; by itself the logger would delete them.

    Rows written after the checkpoint are dropped, because the resumed run writes them again.

    Args:
        logger: Logger of the run's directory, not used yet.
        updates: Updates behind the checkpoint; rows count updates from 0.
    """
    path = Path(logger.log_dir) / "metrics.csv"
    rows: list[dict[str, Any]] = []
    if path.is_file():
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) < updates]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Previous log files in this directory will be deleted.*")
        experiment = logger.experiment
    experiment.metrics = [{key: value for key, value in row.items() if value != ""} for row in rows]
    experiment.save()


def directory_of(trainer: Trainer) -> Path:
    """Directory of the run that a trainer is busy with; Lightning's default one without a logger."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def is_trial(trainer: Trainer) -> bool:
    """Whether this is only ``fast_dev_run``, which leaves no files behind."""
    return bool(getattr(trainer, "fast_dev_run", False))


def _number(run: Path) -> int:
    return int(run.name.removeprefix(_VERSION))


def _saved_identity(run: Path) -> dict[str, object]:
    path = run / "config.yaml"
    return identity(yaml.safe_load(path.read_text()) if path.is_file() else {})


def _words(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
