"""What a run leaves in Weights & Biases besides its curves: histograms, the final table and numbers, films.

Each function does nothing without a ``WandbLogger``, and is called a few times in a run only, so that long runs stay
small.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
from numpy.typing import NDArray

BINS = 64
TABLE = "final/table"


def wandb_loggers(trainer: Trainer) -> Iterator[WandbLogger]:
    """The loggers that write to Weights & Biases, in the process that logs."""
    if trainer.is_global_zero:
        yield from (logger for logger in trainer.loggers if isinstance(logger, WandbLogger))


def log_histogram(trainer: Trainer, name: str, values: NDArray[np.float32]) -> None:
    """Logs how some numbers are distributed: counts in bins of equal width, not the numbers themselves.

    Args:
        trainer: In training, after an update.
        name: Under which it is found.
        values: The numbers, of any shape, finite.
    """
    for logger in wandb_loggers(trainer):
        import wandb  # an extra; a WandbLogger exists only where it is installed

        histogram: Any = wandb.Histogram(np_histogram=np.histogram(values, BINS))
        logger.log_metrics({name: histogram}, step=_step(trainer))


def log_final(
    trainer: Trainer,
    rows: Sequence[Mapping[str, Any]],
    numbers: Mapping[str, float],
    seconds: Mapping[str, float],
    updates: Mapping[str, int],
) -> None:
    """Logs what a run comes to, under names that all algorithms share.

    ``final/table`` is the table of the evaluation, with a row for each policy. ``final/<metric>`` are the numbers of
    the one that stands for the algorithm; ``final/training_seconds`` and ``final/seconds_per_update`` are those of all
    stages together.

    Args:
        trainer: At the end of training or testing.
        rows: The table's, with the same keys each.
        numbers: Metrics of the policy that stands for the algorithm.
        seconds: Of all updates of a stage, by stage; empty if nothing was trained.
        updates: Their numbers.
    """
    last = {f"final/{name}": value for name, value in numbers.items()}
    if updates:
        last["final/training_seconds"] = sum(seconds.values())
        last["final/seconds_per_update"] = sum(seconds.values()) / sum(updates.values())
    columns = [column for column in rows[0] if any(row[column] is not None for row in rows)]
    for logger in wandb_loggers(trainer):
        logger.log_metrics(last, step=_step(trainer))
        logger.log_table(TABLE, columns, [[row[column] for column in columns] for row in rows], step=_step(trainer))


def log_films(trainer: Trainer, name: str, paths: Sequence[Path], captions: Sequence[str]) -> None:
    """Logs films.

    Args:
        trainer: In training, after an update, or in testing.
        name: Under which they are found.
        paths: Their files.
        captions: What happens in each.
    """
    for logger in wandb_loggers(trainer):
        logger.log_video(name, [str(path) for path in paths], step=_step(trainer), caption=list(captions))


def _step(trainer: Trainer) -> int:
    """The last update, counted from 0, as in ``log_now``."""
    return max(trainer.global_step - 1, 0)
