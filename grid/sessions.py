"""The processes of a cell, written down: what ran, when, for how long, from which code, and how it ended."""

import signal
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from callbacks.code_version import code_version, versions
from grid.cells import DONE, SESSIONS, TABLES, Place, read_json, write_json


def open_session(place: Place, words: Sequence[str], process: int, threads: int) -> None:
    """Notes a process that has just begun.

    Args:
        place: The cell.
        words: Its command line after ``lightning``.
        process: Its number in the system.
        threads: How many threads it was given.
    """
    session = {"words": list(words), "began": _now(), "machine": socket.gethostname(), "process": process}
    session |= {"threads": threads, "code": code_version(), "exit_code": None, "seconds": None}
    write_json(place.directory / SESSIONS, [*_sessions(place), session])


def close_session(place: Place, code: int) -> None:
    """Notes how the newest process ended; nothing if the cell's directory was deleted meanwhile.

    Args:
        place: The cell.
        code: Its exit code.
    """
    sessions = _sessions(place)
    if not sessions:
        return
    seconds = (datetime.now(UTC) - datetime.fromisoformat(sessions[-1]["began"])).total_seconds()
    sessions[-1] |= {"exit_code": code, "seconds": round(seconds, 3)}
    write_json(place.directory / SESSIONS, sessions)


def close_lost_sessions(place: Place) -> None:
    """Gives processes whose end nobody saw, because all was killed, the time until their last word in the log."""
    sessions = _sessions(place)
    lost = [session for session in sessions if session["seconds"] is None]
    for session in lost:
        last = place.log.stat().st_mtime if place.log.is_file() else 0.0
        session["seconds"] = round(max(0.0, last - datetime.fromisoformat(session["began"]).timestamp()), 3)
    if lost:
        write_json(place.directory / SESSIONS, sessions)


def finish(place: Place) -> str | None:
    """Writes the marker of a finished cell, if it has the table that every cell is run for.

    Args:
        place: The cell.

    Returns:
        What is missing; None if the cell is finished now.
    """
    run = place.run
    if run is None or not (run / TABLES["final"]).is_file():
        return "no evaluation.csv was written; RolloutEvaluation has to be among trainer.callbacks"
    sessions = _sessions(place)
    done = {
        "words": place.cell.words,
        "run": str(run.relative_to(place.directory)),
        "wall_seconds": round(sum(session["seconds"] or 0.0 for session in sessions), 3),
        "updates": updates_of(run),
        "versions": versions(),
        "code": sessions[-1]["code"] if sessions else code_version(),
        "finished": _now(),
    }
    write_json(place.directory / DONE, done)
    return None


def updates_of(run: Path) -> dict[str, int]:
    """Updates behind each saved weights of a run, by checkpoint.

    Args:
        run: Directory of the run.
    """
    import torch  # here: it takes long, and a dry run needs none

    files = {"final": run / "checkpoints" / "last.ckpt", "best": run / "checkpoints" / "best.ckpt"}
    return {
        name: int(torch.load(file, map_location="cpu", weights_only=True, mmap=True)["global_step"])
        for name, file in files.items()
        if file.is_file()
    }


def what_happened(place: Place, code: int) -> str:
    """Why a process failed: the last line of the log that says something.

    Args:
        place: The cell.
        code: Its exit code; negative numbers are signals.
    """
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if code == 0:
        return "ended well, but without evaluation.csv; RolloutEvaluation has to be among trainer.callbacks"
    if not place.log.is_file():
        return f"its files in '{place.directory}' are gone; the same command starts it anew"
    lines = [line.strip() for line in place.log.read_text(errors="replace").replace("\r", "\n").splitlines()]
    start = max((index for index, line in enumerate(lines) if line.startswith("$ lightning ")), default=-1)
    telling = [line for line in lines[start + 1 :] if line and not line.startswith(("(The traceback", "All options:"))]
    errors = [line for line in telling if line.startswith("error:")]
    return (errors or telling or [f"exit code {code}"])[-1]


def _sessions(place: Place) -> list[dict[str, Any]]:
    sessions: list[dict[str, Any]] = read_json(place.directory / SESSIONS, [])
    return sessions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
