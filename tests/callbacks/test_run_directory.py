import csv
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger

from callbacks.run_directory import (
    all_runs,
    claim_run,
    continue_metrics,
    find_checkpoint,
    identity,
    run_of,
)

CONFIG = {
    "seed_everything": 3,
    "model": {"class_path": "lightning_modules.VGM2P"},
    "data": {"init_args": {"dataset": "embedded/matrix/xor", "quality": "Mixed", "root": "vaults"}},
}


def make_run(experiment: Path, config: dict[str, object], *names: str) -> Path:
    run = claim_run(experiment)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "checkpoints").mkdir()
    for name in names:
        (run / "checkpoints" / f"{name}.ckpt").touch()
    return run


def test_runs_are_numbered_and_never_shared(tmp_path: Path):
    first, second = claim_run(tmp_path / "smac"), claim_run(tmp_path / "smac")
    (tmp_path / "smac/version_7").mkdir()
    (tmp_path / "smac/version_old").mkdir()
    third = claim_run(tmp_path / "smac")
    assert [run.name for run in (first, second, third)] == ["version_0", "version_1", "version_8"]
    assert all_runs(tmp_path / "smac")[0] == third


def test_runs_are_compared_as_numbers(tmp_path: Path):
    for number in (9, 10):
        (tmp_path / f"version_{number}").mkdir()
    assert [run.name for run in all_runs(tmp_path)] == ["version_10", "version_9"]


def test_the_newest_run_of_the_same_kind_is_found(tmp_path: Path):
    make_run(tmp_path, CONFIG, "last")
    wanted = make_run(tmp_path, CONFIG, "last", "best")
    make_run(tmp_path, CONFIG | {"seed_everything": 4}, "last")
    make_run(tmp_path, CONFIG)
    assert find_checkpoint(tmp_path, "last", identity(CONFIG)) == wanted / "checkpoints/last.ckpt"
    assert find_checkpoint(tmp_path, "best", identity(CONFIG)) == wanted / "checkpoints/best.ckpt"


def test_a_missing_checkpoint_is_an_error_that_names_the_others(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"expected a run .*seed 3.* found none; leave --ckpt_path out"):
        find_checkpoint(tmp_path / "nothing", "last", identity(CONFIG))
    make_run(tmp_path, CONFIG | {"seed_everything": 4}, "last")
    with pytest.raises(FileNotFoundError, match=r"found those of other runs only:\n.*version_0.*seed 4"):
        find_checkpoint(tmp_path, "last", identity(CONFIG))


def test_the_run_of_a_checkpoint():
    assert run_of(Path("runs/smac/version_3/checkpoints/last.ckpt")) == Path("runs/smac/version_3")
    assert run_of(Path("elsewhere/last.ckpt")) is None
    assert run_of(Path("runs/smac/checkpoints/last.ckpt")) is None


def test_a_continued_run_keeps_the_rows_before_its_checkpoint(tmp_path: Path):
    before = CSVLogger(tmp_path, name="matrix", version=0)
    for step in range(6):
        before.log_metrics({"train/loss": float(step)} if step % 2 else {"eval/return_mean": 1.5}, step=step)
    before.save()
    after = CSVLogger(tmp_path, name="matrix", version=0)
    continue_metrics(after, updates=4)
    after.log_metrics({"train/loss": 40.0, "val/loss": 7.0}, step=4)
    after.save()
    with (tmp_path / "matrix/version_0/metrics.csv").open(newline="") as file:
        rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
    assert rows == [
        {"eval/return_mean": "1.5", "step": "0"},
        {"train/loss": "1.0", "step": "1"},
        {"eval/return_mean": "1.5", "step": "2"},
        {"train/loss": "3.0", "step": "3"},
        {"train/loss": "40.0", "val/loss": "7.0", "step": "4"},
    ]
