"""Callbacks that pull the plug."""

import os
import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Interrupt(Callback):
    """Stops the process as Ctrl-C does, before the given update (counted from 0)."""

    def __init__(self, update: int) -> None:
        self.update = update

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.update:
            raise KeyboardInterrupt


class Kill(Interrupt):
    """Kills the process before the given update: no handler runs, nothing is saved any more."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.update:
            os.kill(os.getpid(), signal.SIGKILL)
