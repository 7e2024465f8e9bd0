"""Recorded team play: from a vault on disk to batches of windows."""

from datamodules.advantages import load_advantages, save_advantages
from datamodules.batch import TeamBatch
from datamodules.normalisation import Standardisation
from datamodules.offline import OfflineDataModule
from datamodules.vaults import Stream, read_vault
from datamodules.window_dataset import WindowDataset

__all__ = [
    "OfflineDataModule",
    "Standardisation",
    "Stream",
    "TeamBatch",
    "WindowDataset",
    "load_advantages",
    "read_vault",
    "save_advantages",
]
