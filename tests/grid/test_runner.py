"""Cells as processes: failures, kills, interruptions, and going on; a stub stands for the training."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from grid import runner, sessions
from grid.cells import Place, claimed
from grid.plan import Checkpoint
from grid.runner import Work, environment_of_cells, run_cells, threads_per_cell
from tests.grid.cells import STUB, calls, place, steps


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch):
    """The stub's checkpoints are text."""
    monkeypatch.setattr(sessions, "updates_of", lambda run: {"final": 40, "best": 10})
    monkeypatch.setattr(sessions, "versions", dict)
    monkeypatch.setattr(sessions, "code_version", lambda: {"commit": "abc", "changed_files": False})


def run(places: Sequence[Place], jobs: int = 2, checkpoints: Sequence[Checkpoint] = ("final",)) -> dict[str, Work]:
    works = run_cells(places, checkpoints, jobs, lambda _: None, STUB, pause=0.01)
    return {work.place.cell.name: work for work in works}


def states(works: dict[str, Work]) -> dict[str, str]:
    return {name: work.state for name, work in works.items()}


def test_a_finished_cell_leaves_a_marker_and_is_not_run_again(tmp_path: Path):
    cell = place(tmp_path)
    assert states(run([cell])) == {"d/m/seed_0": "done"}
    done = json.loads((cell.directory / "done.json").read_text())
    assert tuple(done["words"]) == cell.cell.words and done["run"] == "runs/stub/version_0"
    assert done["updates"] == {"final": 40, "best": 10} and done["code"]["commit"] == "abc"
    session = json.loads((cell.directory / "sessions.json").read_text())[0]
    assert session["exit_code"] == 0 and done["wall_seconds"] == session["seconds"] > 0
    assert states(run([cell])) == {"d/m/seed_0": "done"}
    assert steps(cell) == ["fit"], "the second call started nothing"


def test_a_cell_is_told_where_it_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    monkeypatch.delenv("WANDB_NAME", raising=False)
    cell = place(tmp_path, "3m/bc", seed=4)
    run_cells([cell], ("final",), 1, lambda _: None, STUB, pause=0.01, grid="small")
    (call,) = calls(cell)
    told = {"VGM2P_GRID": "small", "VGM2P_CELL": "3m/bc/seed_4", "VGM2P_POLICY": ""}
    assert call["told"] == {**told, "group": "3m", "name": "bc/seed_4"}


def test_best_weights_are_played_afterwards_and_later_too(tmp_path: Path):
    cell = place(tmp_path)
    run([cell])
    run([cell], checkpoints=("final", "best"))
    run([cell], checkpoints=("final", "best"))
    assert steps(cell) == ["fit", "test best"], "nothing is trained again"
    tables = {path.name: path.read_text() for path in (cell.directory / "runs/stub/version_0").glob("*.csv")}
    assert 'w = 2",100.0' in tables["evaluation_best.csv"] and 'w = 2",0.0' in tables["evaluation.csv"]
    assert [call["wandb"] for call in calls(cell)][1] == "disabled"


def test_a_killed_cell_goes_on_from_its_checkpoint(tmp_path: Path):
    cell = place(tmp_path, stub__kill_at=25)
    work = run([cell])["d/m/seed_0"]
    assert work.state == "failed" and work.reason == "killed by SIGKILL"
    assert not (cell.directory / "done.json").exists()
    assert states(run([cell])) == {"d/m/seed_0": "done"}
    assert steps(cell) == ["fit", "fit last"]
    rows = (cell.directory / "runs/stub/version_0/metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 40
    first, second = json.loads((cell.directory / "sessions.json").read_text())
    assert first["exit_code"] == -signal.SIGKILL and second["exit_code"] == 0
    total = json.loads((cell.directory / "done.json").read_text())["wall_seconds"]
    assert total == pytest.approx(first["seconds"] + second["seconds"])


def test_a_cell_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path):
    cell = place(tmp_path, stub__kill_at=5)
    assert states(run([cell])) == {"d/m/seed_0": "failed"}
    assert states(run([cell])) == {"d/m/seed_0": "failed"}
    assert steps(cell) == ["fit", "fit"]
    assert [path.name for path in cell.directory.glob("runs/stub/*")] == ["version_0"]


def test_a_failing_cell_stops_no_other_and_says_why(tmp_path: Path):
    failing = place(tmp_path, "d/bad", stub__fail_at=15)
    works = run([failing, place(tmp_path, "d/good"), place(tmp_path, "d/good", seed=1)], jobs=1)
    assert states(works) == {"d/bad/seed_0": "failed", "d/good/seed_0": "done", "d/good/seed_1": "done"}
    assert works["d/bad/seed_0"].reason == "error: this one fails"
    assert "$ lightning fit" in failing.log.read_text()


def test_a_run_without_a_table_is_played_again_and_then_given_up(tmp_path: Path):
    """As if it was killed between its last update and its table: the saved weights are played."""
    cell = place(tmp_path, stub__table=False)
    assert states(run([cell])) == {"d/m/seed_0": "done"}
    assert steps(cell) == ["fit", "test last"]
    assert 'w = 2",200.0' in (cell.directory / "runs/stub/version_0/evaluation.csv").read_text()


def test_a_program_that_never_writes_a_table_fails(tmp_path: Path):
    cell = place(tmp_path)
    works = run_cells([cell], ("final",), 1, lambda _: None, (sys.executable, "-c", "print('nothing')"), pause=0.01)
    assert works[0].state == "failed" and "RolloutEvaluation has to be among trainer.callbacks" in works[0].reason


def test_no_more_cells_at_a_time_than_asked(tmp_path: Path):
    most = 0

    def count(works: Sequence[Work]) -> None:
        nonlocal most
        most = max(most, sum(work.state == "running" for work in works))

    places = [place(tmp_path, seed=seed) for seed in range(5)]
    works = run_cells(places, ("final",), 2, count, STUB, pause=0.005)
    assert most == 2 and all(work.state == "done" for work in works)


def test_a_cell_that_another_process_works_on_is_left_alone(tmp_path: Path):
    cell = place(tmp_path)
    with claimed(cell.directory):
        assert states(run([cell, place(tmp_path, seed=1)])) == {"d/m/seed_0": "elsewhere", "d/m/seed_1": "done"}
    assert steps(cell) == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_stops_the_processes_and_the_next_call_goes_on(number: signal.Signals, tmp_path: Path):
    cell = place(tmp_path, stub__hang_at=25)

    def interrupt() -> None:
        while not (cell.directory / "hangs").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run([cell])
    thread.join()
    session = json.loads((cell.directory / "sessions.json").read_text())[0]
    assert session["exit_code"] not in (None, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(session["process"], 0)
    (cell.directory / "go").touch()
    assert states(run([cell])) == {"d/m/seed_0": "done"}
    assert steps(cell) == ["fit", "fit last"]


def test_processes_that_do_not_listen_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "PATIENCE", 0.1)
    code = "import signal,time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    cell = place(tmp_path)

    def interrupt(works: Sequence[Work]) -> None:
        if cell.log.exists() and cell.log.read_text().endswith("1\n"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cells([cell], ("final",), 1, interrupt, (sys.executable, "-c", code), pause=0.01)
    assert json.loads((cell.directory / "sessions.json").read_text())[0]["exit_code"] == -signal.SIGKILL


def test_the_time_of_a_session_whose_end_nobody_saw_is_that_until_its_last_word(tmp_path: Path):
    cell = place(tmp_path)
    sessions.open_session(cell, ["fit"], 1, 1)
    cell.log.parent.mkdir(exist_ok=True)
    cell.log.write_text("a word")
    began = json.loads((cell.directory / "sessions.json").read_text())[0]["began"]
    os.utime(cell.log, times=(0, sessions.datetime.fromisoformat(began).timestamp() + 90))
    sessions.close_lost_sessions(cell)
    found = json.loads((cell.directory / "sessions.json").read_text())[0]
    assert found["seconds"] == pytest.approx(90, abs=0.01) and found["exit_code"] is None


def test_threads_share_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "usable_cores", lambda: 8)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS"):
        monkeypatch.delenv(variable, raising=False)
    assert [threads_per_cell(jobs) for jobs in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    variables = environment_of_cells(2)
    assert variables["OMP_NUM_THREADS"] == variables["MKL_NUM_THREADS"] == "4" and "XLA_FLAGS" not in variables
    assert "intra_op_parallelism_threads=1" in environment_of_cells(8)["XLA_FLAGS"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_per_cell(2) == 3 and environment_of_cells(2)["OMP_NUM_THREADS"] == "3"


def test_modules_of_the_user_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_games.py").write_text("print('found')")
    command = [sys.executable, "-c", "import my_games"]
    found = subprocess.run(command, cwd="/", env=environment_of_cells(1), capture_output=True, text=True, check=True)
    assert found.stdout == "found\n"
