"""Cells as processes, several at a time; a failing one stops nobody, and what was begun goes on."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from callbacks.grid_cell import cell_variables
from grid.cells import Place, begin, claimed, clear_unusable, next_step, take_over
from grid.plan import Checkpoint
from grid.record import usable_cores
from grid.sessions import close_lost_sessions, close_session, finish, open_session, what_happened

State = Literal["waiting", "running", "done", "failed", "elsewhere"]
LIGHTNING = (sys.executable, "-m", "vgm2p_cli")
_LOGS = {"TQDM_MININTERVAL": "5", "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}  # few lines, at once, as wide as this
PATIENCE = 20.0  # seconds between asking a process to stop and killing it
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


@dataclass
class Work:
    """A cell on its way.

    Args:
        place: The cell and its directory.
        state: How far it is; ``elsewhere`` means that another process works on it.
        reason: Why it failed.
        step: ``fit``, or ``test`` while saved weights are played.
    """

    place: Place
    state: State = "waiting"
    reason: str = ""
    step: str = "fit"
    process: subprocess.Popen[bytes] | None = None
    words: list[str] = field(default_factory=list)
    claim: ExitStack = field(default_factory=ExitStack)
    descriptor: int | None = None


class How(NamedTuple):
    """What is the same for all cells: the weights that are evaluated, the program, its variables, the grid's name."""

    checkpoints: Sequence[Checkpoint]
    program: Sequence[str]
    environment: Mapping[str, str]
    grid: str


def run_cells(
    places: Sequence[Place],
    checkpoints: Sequence[Checkpoint],
    jobs: int,
    show: Callable[[Sequence[Work]], None],
    program: Sequence[str] = LIGHTNING,
    pause: float = 0.5,
    grid: str = "",
) -> list[Work]:
    """Runs what is missing of some cells.

    Args:
        places: The cells.
        checkpoints: Which weights are evaluated.
        jobs: Processes at a time, at least 1.
        show: Called again and again with the state of all cells.
        program: What stands before ``fit`` on a command line.
        pause: Seconds between two looks at the processes.
        grid: What the grid is called; runs that go to Weights & Biases carry it.

    Returns:
        All cells, none waiting or running any more.

    Raises:
        KeyboardInterrupt: If the user interrupts, or the process is asked to end (SIGTERM); all processes have ended
            then, and the next call goes on from their checkpoints.
    """
    works = [Work(place) for place in places]
    for work in works:
        if work.place.finished and next_step(work.place, checkpoints) is None:
            work.state = "done"
    how = How(checkpoints, program, environment_of_cells(jobs), grid)
    with _sigterm_interrupts():
        try:
            while any(work.state in ("waiting", "running") for work in works):
                _advance(works, jobs, how)
                show(works)
                if any(work.state == "running" for work in works):
                    time.sleep(pause)
        except BaseException:
            stop(works)
            raise
    show(works)
    return works


def _advance(works: Sequence[Work], jobs: int, how: How) -> None:
    """Looks at what runs, and begins what there is room for."""
    for work in works:
        if work.state == "running":
            _look(work, how)
        elif work.state == "waiting" and sum(other.state == "running" for other in works) < jobs:
            _begin(work, how)


def environment_of_cells(jobs: int) -> dict[str, str]:
    """Variables for the processes: threads share the cores, modules of the user are found, logs stay small.

    Args:
        jobs: Processes at a time.
    """
    threads = str(threads_per_cell(jobs))
    shared = {**dict.fromkeys(_THREADS, threads), **({"XLA_FLAGS": _ONE_THREAD} if threads == "1" else {})}
    variables = {**shared, **os.environ, **_LOGS}
    paths = [os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]  # cells run in directories of their own
    return {**variables, "PYTHONPATH": os.pathsep.join(paths)}


def threads_per_cell(jobs: int) -> int:
    """Threads of each process: what the user has set as OMP_NUM_THREADS, else an equal share of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() else max(1, usable_cores() // jobs)


def stop(works: Sequence[Work]) -> None:
    """Ends all processes: asks them as Ctrl-C does, and kills those that do not listen.

    Args:
        works: All cells.
    """
    running = [work for work in works if work.process is not None and work.process.poll() is None]
    for work in running:
        _signal(work, signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    for work in running:
        assert work.process is not None
        try:
            work.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(work, signal.SIGKILL)
            work.process.wait()
        close_session(work.place, work.process.returncode)
        work.claim.close()


def _begin(work: Work, how: How) -> None:
    """Starts a cell, unless somebody else works on it or nothing is missing."""
    work.descriptor = work.claim.enter_context(claimed(work.place.directory))
    if work.descriptor is None:
        work.claim.close()
        work.state = "elsewhere"
        return
    begin(work.place)
    close_lost_sessions(work.place)
    clear_unusable(work.place)
    work.state = "running"
    _go_on(work, next_step(work.place, how.checkpoints), how)


def _go_on(work: Work, words: list[str] | None, how: How) -> None:
    """Starts the next process of a cell, or finishes the cell."""
    if words is None:
        missing = finish(work.place)
        work.state, work.reason = ("failed", missing) if missing else ("done", "")
        work.claim.close()
        return
    work.words, work.step = words, words[0]
    place = work.place
    variables = {**how.environment, **cell_variables(how.grid, place.cell.name, place.cell.policy)}
    dataset, _, run = place.cell.name.partition("/")
    variables.setdefault("WANDB_RUN_GROUP", dataset)
    variables.setdefault("WANDB_NAME", run)
    if words[0] == "test":
        variables["WANDB_MODE"] = "disabled"  # its numbers belong to the run that was trained
    with place.log.open("ab") as log:
        log.write(f"\n$ {shlex.join(['lightning', *words])}\n".encode())
        log.flush()
        work.process = subprocess.Popen(
            [*how.program, *words],
            cwd=place.directory,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone; we stop the cells
            pass_fds=() if work.descriptor is None else (work.descriptor,),
        )
    open_session(place, words, work.process.pid, int(how.environment["OMP_NUM_THREADS"]))


def _look(work: Work, how: How) -> None:
    """Sees whether a cell's process has ended, and what follows."""
    assert work.process is not None
    code = work.process.poll()
    if code is None:
        return
    close_session(work.place, code)
    if code == 0:
        take_over(work.place, work.words)
        following = next_step(work.place, how.checkpoints, trained=True)
        if following != work.words:
            _go_on(work, following, how)
            return
    work.state, work.reason = "failed", what_happened(work.place, code)
    work.claim.close()


def _signal(work: Work, number: int) -> None:
    assert work.process is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(work.process.pid, number)  # its workers, too


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """While it lasts, SIGTERM does what Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread, which alone may do this
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
