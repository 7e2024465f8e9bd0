"""Numbers that belong to one update, written at once."""

from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer


def log_now(trainer: Trainer, numbers: Mapping[str, float]) -> None:
    """Hands numbers to all loggers, and to callbacks that watch a metric.

    ``LightningModule.log`` would drop them between two multiples of ``log_every_n_steps``, and repeat them in every row
    until the end of the epoch.

    Args:
        trainer: In training, after an update.
        numbers: By name; the row is that of the last update, counted from 0.
    """
    for name, value in numbers.items():
        trainer.callback_metrics[name] = torch.tensor(value)
    for logger in trainer.loggers:
        logger.log_metrics(dict(numbers), step=max(trainer.global_step - 1, 0))
