"""What ``lightning predict`` leaves behind."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from callbacks.run_directory import directory_of
from whole_files import written_whole


class PredictionWriter(BasePredictionWriter):
    """Writes what the module's ``predict_step`` returns for every recorded step, in order, to ``predictions.npz``.

    The file lies in the run's directory under ``predict/`` and holds one array, ``actions``: the policy's joint action
    at each recorded step, (L, N) or (L, N, A). Read it with ``numpy.load(path)["actions"]``.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        """Joins the batches and writes the file, all or nothing."""
        path = directory_of(trainer) / "predictions.npz"
        with written_whole(path) as unfinished:
            np.savez_compressed(unfinished, actions=torch.cat(list(predictions)).cpu().numpy())
        pl_module.print(f"wrote {path}")
