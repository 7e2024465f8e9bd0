"""What a user sees: lines without a terminal, a table with one."""

import io
from pathlib import Path

from rich.console import Console

from grid.display import Display
from grid.runner import Work
from tests.grid.cells import place


def test_without_a_terminal_every_change_is_one_line(tmp_path: Path):
    text = io.StringIO()
    works = [Work(place(tmp_path, seed=seed)) for seed in range(2)]
    table = works[0].place.directory / "runs/stub/version_0/evaluation.csv"
    table.parent.mkdir(parents=True)
    table.write_text("policy,return\npolicy,0.75\n")
    with Display(Console(file=text, width=60)) as display:
        display.show(works)
        works[0].state = works[1].state = "running"
        display.show(works)
        display.show(works)
        works[0].state, works[1].state, works[1].reason = "done", "failed", "error: too [red]bad[/red] " + 60 * "x"
        display.show(works)
    assert text.getvalue().splitlines() == [
        "[0/2] running  d/m/seed_0",
        "[0/2] running  d/m/seed_1",
        "[1/2] done     d/m/seed_0  return 0.750",
        f"[1/2] failed   d/m/seed_1  error: too [red]bad[/red] {60 * 'x'}",
    ]


def test_the_table_shows_updates_rate_and_return(tmp_path: Path):
    text = io.StringIO()
    works = [Work(place(tmp_path, seed=seed)) for seed in range(30)]
    works[20].state = "running"
    works[25].state, works[25].reason = "failed", "killed by SIGKILL"
    metrics = works[20].place.directory / "runs/stub/version_0/metrics.csv"
    metrics.parent.mkdir(parents=True)
    metrics.write_text("step,eval/return_mean\n19,0.625\n")
    console = Console(file=text, width=100, height=10, force_terminal=True, color_system=None)
    with Display(console) as display:
        display.show(works)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert any(line.endswith("28 waiting, 1 running, 1 failed") for line in lines)
    running = next(line for line in lines if "d/m/seed_20" in line).split()
    assert running == ["d/m/seed_20", "running", "20", "/", "40", "0.625"]
    assert any("d/m/seed_25" in line and "killed by SIGKILL" in line for line in lines)
    assert display.table(works).row_count == 6, "as many as the terminal has room for"


def test_results_and_plans_share_the_room(tmp_path: Path):
    """Ten rows, one of them runs: four of the newest results, five of the next cells; without plans, nine results."""
    works = [Work(place(tmp_path, seed=seed)) for seed in range(40)]
    for work in works[:20]:
        work.state = "done"
    works[20].state = "running"
    console = Console(file=io.StringIO(), height=14)
    names = list(Display(console).table(works).columns[0].cells)
    assert names == [f"d/m/seed_{seed}" for seed in range(16, 26)]
    for work in works[21:]:
        work.state = "done"
    names = list(Display(console).table(works).columns[0].cells)
    assert names == ["d/m/seed_20", *(f"d/m/seed_{seed}" for seed in range(31, 40))]
