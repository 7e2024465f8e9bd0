"""The newest state of a run, always in the same place."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from callbacks.run_directory import is_trial


class LastCheckpoint(ModelCheckpoint):
    """Keeps the newest state in ``checkpoints/last.ckpt`` of the run's directory, for ``--ckpt_path last``.

    Saves after every ``every_n_updates`` updates and after the last one; the file is replaced as a whole, so an
    interruption while saving leaves the previous state. Nothing is saved at the moment of an interruption, because a
    half-done update could not be continued to the same numbers.

    Args:
        every_n_updates: Updates between two savings: how many are lost at most when the run is interrupted.

    Raises:
        ValueError: If ``every_n_updates`` is below 1.
    """

    def __init__(self, every_n_updates: int = 500) -> None:
        if every_n_updates < 1:
            raise ValueError(
                f"LastCheckpoint.every_n_updates must be at least 1, got {every_n_updates}; change it under "
                "trainer.callbacks in the configuration"
            )
        super().__init__(
            filename=self.CHECKPOINT_NAME_LAST,
            every_n_train_steps=every_n_updates,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    @property
    def path(self) -> Path:
        """The checkpoint file."""
        assert self.dirpath is not None, "known from setup on"
        return Path(self.dirpath) / f"{self.filename}{self.FILE_EXTENSION}"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when it is time, and after the last update whatever the interval."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        last = trainer.global_step == trainer.max_steps
        if last and trainer.global_step % self._every_n_train_steps and not is_trial(trainer):
            trainer.save_checkpoint(self.path, weights_only=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tells how to go on."""
        if self.dirpath and self.path.is_file() and trainer.training:
            rank_zero_info(
                f"\nInterrupted after {trainer.global_step} updates. The same command with --ckpt_path last goes on "
                f"from {self.path}"
            )
