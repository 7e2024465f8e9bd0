import torch
from lightning.pytorch.utilities import move_data_to_device

from datamodules.batch import TeamBatch
from datamodules.window_dataset import WindowDataset
from tests.datamodules.recordings import make_stream


def test_axes_and_types_are_the_documented_ones() -> None:
    batch = WindowDataset(make_stream((3, 4)), window=3)[torch.tensor([0, 1, 5, 6, 6])]
    assert {name: tuple(value.shape) for name, value in batch._asdict().items()} == {
        "obs": (5, 3, 2, 4),
        "state": (5, 3, 5),
        "actions": (5, 3, 2),
        "rewards": (5, 3),
        "returns": (5, 3),
        "terminals": (5, 3),
        "truncations": (5, 3),
        "legal_actions": (5, 3, 2, 3),
        "advantages": (5, 3),
        "credits": (5, 3, 2),
        "valid": (5, 3),
    }
    types = {name: value.dtype for name, value in batch._asdict().items()}
    assert types["actions"] == torch.int64
    floats = ("obs", "state", "rewards", "returns", "advantages", "credits")
    assert {types[name] for name in floats} == {torch.float32}
    assert {types[name] for name in ("terminals", "truncations", "legal_actions", "valid")} == {torch.bool}


def test_lightning_moves_it_to_a_device_as_it_is() -> None:
    batch = WindowDataset(make_stream((3, 4)))[torch.tensor([0, 1])]
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, TeamBatch)
    assert all(value.device.type == "meta" for value in moved)
