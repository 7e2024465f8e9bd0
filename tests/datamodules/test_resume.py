"""A run that is interrupted anywhere and resumed sees exactly the batches that an uninterrupted one sees."""

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from datamodules import OfflineDataModule, TeamBatch
from tests.datamodules.recordings import make_leaves, write_vault

BATCHES_PER_EPOCH = 4

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
]


class Recorder(pl.LightningModule):
    """Remembers every batch it trains on; its weight depends on all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor] = []
        self.first_rewards: list[Tensor] = []
        self.fail_at: int | None = None

    def training_step(self, batch: TeamBatch, batch_idx: int) -> Tensor:
        if self.fail_at == self.global_step:
            raise RuntimeError("interrupted")
        self.seen.append(torch.cat([batch.rewards.flatten(), batch.obs.flatten()]))
        self.first_rewards.append(batch.rewards[:, 0])
        return (self.weight - batch.rewards.mean()) ** 2

    def validation_step(self, batch: TeamBatch, batch_idx: int) -> None:
        self.log("val/reward", batch.rewards.mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class SaveEverywhere(pl.Callback):
    """Writes a checkpoint in every hook from which someone might, and remembers how many batches it had seen."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.trained: dict[Path, int] = {}

    def save(self, trainer: pl.Trainer, module: Any, hook: str) -> None:
        path = self.directory / f"{len(module.seen):02d}-{hook}.ckpt"
        trainer.save_checkpoint(path)
        self.trained[path] = len(module.seen)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.save(trainer, pl_module, "batch_start")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.save(trainer, pl_module, "batch_end")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.save(trainer, pl_module, "validation_end")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.save(trainer, pl_module, "epoch_end")


class SaveOnException(pl.Callback):
    """Writes a checkpoint when the run fails, as an interrupted run does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        trainer.save_checkpoint(self.path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vaults")
    write_vault(root, "made_up/game/map", "Mixed", make_leaves((5,) * 10))
    return root


def fit(
    root: Path,
    module: Recorder,
    ckpt_path: Path | None = None,
    data: OfflineDataModule | None = None,
    **options: Any,
) -> pl.Trainer:
    if data is None:
        data = OfflineDataModule(
            "made_up/game/map", root=root, batch_size=11, validation_fraction=0.2, reward_scale=2.0
        )
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": -1,
    }
    trainer = pl.Trainer(**{**defaults, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, data, ckpt_path=None if ckpt_path is None else str(ckpt_path))
    return trainer


SCHEDULES: dict[str, dict[str, Any]] = {
    "steps": {"max_steps": 7},
    "steps, ending with an epoch": {"max_steps": 2 * BATCHES_PER_EPOCH},
    "steps, validation within epochs": {"max_steps": 7, "val_check_interval": 3},
    "steps, validation across epochs": {"max_steps": 7, "val_check_interval": 3, "check_val_every_n_epoch": None},
    "steps, short epochs": {"max_steps": 7, "limit_train_batches": 3},
    "steps, no validation": {"max_steps": 7, "limit_val_batches": 0},
    "epochs": {"max_epochs": 2},
    "epochs, validation within": {"max_epochs": 2, "val_check_interval": 2},
}


def assert_resumes(checkpoints: dict[Path, int], whole: Recorder, root: Path, options: dict[str, Any]) -> None:
    """From each checkpoint, the rest of the batches and the final weight are those of the whole run, bit for bit."""
    for path, trained in checkpoints.items():
        resumed = Recorder()
        fit(root, resumed, path, **options)
        assert len(resumed.seen) == len(whole.seen) - trained, path.name
        assert all(torch.equal(a, b) for a, b in zip(resumed.seen, whole.seen[trained:], strict=True)), path.name
        assert torch.equal(resumed.weight, whole.weight), path.name


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_resuming_from_any_hook_of_any_step(schedule: str, root: Path, tmp_path: Path) -> None:
    options = SCHEDULES[schedule]
    whole, saver = Recorder(), SaveEverywhere(tmp_path)
    fit(root, whole, callbacks=[saver], **options)
    assert len(whole.seen) == options.get("max_steps", 2 * BATCHES_PER_EPOCH)
    assert len(saver.trained) > 2 * len(whole.seen)
    assert_resumes(saver.trained, whole, root, options)


def test_resuming_after_an_exception_within_a_step(root: Path, tmp_path: Path) -> None:
    whole = Recorder()
    fit(root, whole, max_steps=7)
    for step in (1, 3, 4, 6):
        failing = Recorder()
        failing.fail_at = step
        saver = SaveOnException(tmp_path / f"{step}.ckpt")
        with pytest.raises(RuntimeError, match="interrupted"):
            fit(root, failing, max_steps=7, callbacks=[saver])
        assert_resumes({saver.path: step}, whole, root, {"max_steps": 7})


def test_an_interrupted_run_may_be_interrupted_again(root: Path, tmp_path: Path) -> None:
    whole = Recorder()
    fit(root, whole, max_steps=7)
    fit(root, Recorder(), max_steps=3).save_checkpoint(tmp_path / "a.ckpt")
    fit(root, Recorder(), tmp_path / "a.ckpt", max_steps=5).save_checkpoint(tmp_path / "b.ckpt")
    assert_resumes({tmp_path / "b.ckpt": 5}, whole, root, {"max_steps": 7})


def test_a_new_fit_begins_anew(root: Path) -> None:
    data = OfflineDataModule("made_up/game/map", root=root, batch_size=11, validation_fraction=0.2)
    first, second = Recorder(), Recorder()
    for module in (first, second):
        fit(root, module, data=data, max_steps=5)
    assert all(torch.equal(a, b) for a, b in zip(first.seen, second.seen, strict=True))


def test_reloading_the_loader_every_epoch_changes_nothing(root: Path) -> None:
    once, again = Recorder(), Recorder()
    fit(root, once, max_steps=7)
    fit(root, again, max_steps=7, reload_dataloaders_every_n_epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(once.seen, again.seen, strict=True))


def test_every_epoch_serves_every_training_step_once(root: Path) -> None:
    module = Recorder()
    fit(root, module, max_epochs=3)
    data = OfflineDataModule("made_up/game/map", root=root, batch_size=11, validation_fraction=0.2, reward_scale=2.0)
    expected = sorted((2.0 * data.stream.rewards[data.train_rows]).tolist())
    for epoch in range(3):
        batches = module.first_rewards[epoch * BATCHES_PER_EPOCH : (epoch + 1) * BATCHES_PER_EPOCH]
        assert sorted(torch.cat(batches).tolist()) == expected


def test_fast_dev_run(root: Path) -> None:
    module = Recorder()
    trainer = fit(root, module, fast_dev_run=True)
    assert len(module.seen) == 1
    assert "val/reward" in trainer.callback_metrics


def test_training_without_held_out_episodes(root: Path) -> None:
    module = Recorder()
    data = OfflineDataModule("made_up/game/map", root=root, batch_size=11, validation_fraction=0.0)
    trainer = fit(root, module, data=data, max_epochs=1)
    assert len(torch.cat(module.first_rewards)) == 50
    assert "val/reward" not in trainer.callback_metrics
