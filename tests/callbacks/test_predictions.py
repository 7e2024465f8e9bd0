from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from callbacks.predictions import PredictionWriter


def test_batches_are_joined_in_order(tmp_path: Path):
    trainer: Any = SimpleNamespace(log_dir=str(tmp_path / "predict"), default_root_dir=".")
    module: Any = SimpleNamespace(print=print)
    PredictionWriter().write_on_epoch_end(trainer, module, [torch.tensor([[1, 2], [3, 4]]), torch.tensor([[5, 6]])], [])
    assert np.load(tmp_path / "predict/predictions.npz")["actions"].tolist() == [[1, 2], [3, 4], [5, 6]]
