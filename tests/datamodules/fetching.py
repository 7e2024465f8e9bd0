"""Processes that fetch: several at once, and ones that are killed. Run as a script, it prints what was found as JSON.

It forks, so it must be a process without threads of its own; and it leaves torch alone, which takes long to import.
"""

import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # pragma: no cover (another process)
    package = types.ModuleType("datamodules")  # without running its __init__, which imports torch
    package.__path__ = [str(Path(__file__).parents[2] / "datamodules")]
    sys.modules["datamodules"] = package

from datamodules.download import fetch
from tests.datamodules.hub import point_at

DATASET = "og_marl/smac_v1/3m"


def several_at_once(root: Path, cache: Path, count: int) -> dict[str, Any]:
    """Let some processes fetch the same dataset at once."""
    children = [_start(root) for _ in range(count)]
    return {"succeeded": [_succeeded(child) for child in children]}


def killed(root: Path, cache: Path, rounds: int) -> dict[str, Any]:
    """Kill a fetching process, look, and fetch again; many times.

    Half of the kills come at some moment of a whole download. The others hit the unpacking at some file: how long it
    takes depends on what else the machine does, so chance alone might never hit it.
    """
    generator = random.Random(0)
    fetch(DATASET, None, root)
    whole = digests(root)
    begun = time.monotonic()
    shutil.rmtree(root)
    shutil.rmtree(cache)
    assert _succeeded(_start(root))
    duration = time.monotonic() - begun
    files = sum(path.is_file() for path in root.rglob("*"))
    found = []
    for number in range(rounds):
        shutil.rmtree(root)
        if number % 2:
            shutil.rmtree(cache)
            child = _start(root)
            time.sleep(generator.uniform(0, duration))
            os.kill(child, signal.SIGKILL)
        else:
            child = _start(root, dies_at=generator.randrange(files))
        os.waitpid(child, 0)
        left = digests(root)
        leftover = _place(root).joinpath(".fetching").exists()
        again = _succeeded(_start(root)) and digests(root) == whole and not _place(root).joinpath(".fetching").exists()
        found.append(
            {"whole": left.items() <= whole.items(), "vaults": len(left), "leftover": leftover, "again": again}
        )
    return {"qualities": sorted(whole), "found": found}


def digests(root: Path) -> dict[str, str]:
    """One number for all files of each vault, by quality."""
    result = {}
    for directory in _place(root).glob("[!.]*"):
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        parts = (f"{path.relative_to(directory)}\n".encode() + path.read_bytes() for path in files)
        result[directory.name] = hashlib.sha256(b"\n".join(parts)).hexdigest()
    return result


def _place(root: Path) -> Path:
    return root / f"{DATASET}.vlt"


def _start(root: Path, dies_at: int | None = None) -> int:
    """A process that fetches, and kills itself before it unpacks the file of that number; returns its id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            if dies_at is not None:
                _die_before_file(dies_at)
            fetch(DATASET, None, root)
            code = 0
        finally:
            os._exit(code)
    return pid


def _die_before_file(number: int) -> None:
    """Kill this process when it is about to unpack one file more than that many."""
    unpack, left = zipfile.ZipFile.open, itertools.count(number, -1)

    def open_or_die(*args: Any, **options: Any) -> Any:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return unpack(*args, **options)

    setattr(zipfile.ZipFile, "open", open_or_die)  # noqa: B010 (a type checker sees no method here that may be replaced)


def _succeeded(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


if __name__ == "__main__":  # pragma: no cover
    what, url, root, cache, count = sys.argv[1:]
    commands: dict[str, Callable[[Path, Path, int], dict[str, Any]]] = {
        "several_at_once": several_at_once,
        "killed": killed,
    }
    point_at(url, cache, setattr)
    print(json.dumps(commands[what](Path(root), Path(cache), int(count))))
