"""One progress bar over all updates of a run, instead of one per epoch."""

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from callbacks.stages import stage_name

SHOWN = "eval/return_mean"


class UpdateProgressBar(ProgressBar):
    """Shows the stage, the updates done out of all, their rate, the loss and the return of the last rollout.

    Args:
        refresh_rate: Updates between two drawings of the bar; 0 draws none.
    """

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__()
        self.refresh_rate = refresh_rate
        self._bar: tqdm[Any] | None = None
        self._enabled = True

    @property
    def is_enabled(self) -> bool:
        """Whether a bar is drawn."""
        return self._enabled and self.refresh_rate > 0

    def disable(self) -> None:
        """Draws nothing from now on."""
        self._enabled = False

    def enable(self) -> None:
        """Draws again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the bar, where a resumed run stands."""
        self._bar = tqdm(
            total=trainer.max_steps if trainer.max_steps > 0 else None,
            initial=trainer.global_step,
            unit=" updates",
            dynamic_ncols=True,
            smoothing=0.05,
            file=sys.stdout,
            disable=not (self.is_enabled and trainer.is_global_zero),
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draws the bar from time to time."""
        done = trainer.global_step
        if self._bar is None or (done % max(self.refresh_rate, 1) and done != trainer.max_steps):
            return
        self._bar.set_description(stage_name(pl_module), refresh=False)
        numbers = {"loss": float(outputs["loss"])} if outputs else {}
        if SHOWN in trainer.callback_metrics:
            numbers["return"] = float(trainer.callback_metrics[SHOWN])
        self._bar.set_postfix({key: f"{value:.3g}" for key, value in numbers.items()}, refresh=False)
        self._bar.update(done - self._bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the bar, so that the error starts on its own line."""
        self._close()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints above the bar."""
        tqdm.write(" ".join(map(str, args)), file=sys.stdout)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
