"""How far a cell is, and which row of its evaluation stands for it."""

import os
from pathlib import Path

from grid.progress import Progress, main_return
from tests.grid.cells import place


def write(path: Path, updates: int, seconds: float, score: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"step,eval/return_mean\n0,0.25\n{updates - 1},{score}\n")
    os.utime(path, times=(seconds, seconds))


def test_updates_rate_and_return(tmp_path: Path):
    """100 updates at second 1000, 300 at second 1050: 4 per second."""
    cell = place(tmp_path)
    metrics = cell.directory / "runs/stub/version_0/metrics.csv"
    progress = Progress(cell)
    progress.look()
    assert (progress.updates, progress.rate, progress.score) == (0, None, None)
    write(metrics, 100, 1000.0)
    progress.look()
    assert (progress.updates, progress.rate, progress.score) == (100, None, 0.25)
    write(metrics, 300, 1050.0, "0.75")
    progress.look()
    assert (progress.updates, progress.rate, progress.score) == (300, 4.0, 0.75)
    write(metrics, 200, 1060.0)  # a run that goes on from an earlier checkpoint
    progress.look()
    write(metrics, 260, 1070.0)
    progress.look()
    assert (progress.updates, progress.rate) == (260, 6.0)


def test_a_file_that_is_half_written_tells_nothing(tmp_path: Path):
    cell = place(tmp_path)
    write(cell.directory / "runs/stub/version_0/metrics.csv", 100, 1000.0)
    progress = Progress(cell)
    progress.look()
    (cell.directory / "runs/stub/version_0/metrics.csv").write_text("step,eval/return_mean\n0,0.2\nep")
    progress.look()
    assert progress.updates == 100


def test_the_return_of_a_finished_cell(tmp_path: Path):
    cell = place(tmp_path)
    assert main_return(cell) is None
    table = cell.directory / "runs/stub/version_0/evaluation.csv"
    table.parent.mkdir(parents=True)
    table.write_text('policy,return\nthe data,0.5\n"policy, sampled",0.75\n')
    assert main_return(cell) == 0.75
