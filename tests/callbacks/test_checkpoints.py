from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger

from callbacks.checkpoints import LastCheckpoint


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("updates, every, saved", [(7, 3, [3, 6, 7]), (6, 3, [3, 6]), (2, 3, [2])])
def test_the_newest_state_is_kept_and_the_last_one_in_any_case(
    updates: int, every: int, saved: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=updates,
        logger=CSVLogger(tmp_path, name="run", version=0),
        callbacks=[LastCheckpoint(every)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    written: list[int] = []
    save = trainer.save_checkpoint
    monkeypatch.setattr(
        trainer, "save_checkpoint", lambda *a, **k: (written.append(trainer.global_step), save(*a, **k))
    )
    trainer.fit(BoringModel())
    assert written == saved
    directory = tmp_path / "run/version_0/checkpoints"
    assert [path.name for path in directory.iterdir()] == ["last.ckpt"]
    assert torch.load(directory / "last.ckpt", weights_only=True)["global_step"] == updates


def test_saving_never_is_refused():
    with pytest.raises(ValueError, match=r"LastCheckpoint.every_n_updates must be at least 1, got 0"):
        LastCheckpoint(0)
