"""A directory to work in that belongs to one process, and whose leftovers the next one clears away."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def workplace(target: Path) -> Iterator[Path]:
    """A hidden directory beside the target, on the same file system, in which the target can be made.

    It is removed on the way out, whatever happens. That of a process that was killed is removed by the next one that
    works for the same target; a directory that is in use is known by its lock and left alone. POSIX systems only.

    Args:
        target: What shall be made; need not exist, nor its parents.

    Yields:
        The empty directory ``.<name of the target>.<random>``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*"):
        with _lock(leftover) as ours:
            if ours:
                shutil.rmtree(leftover, ignore_errors=True)
    while True:
        directory = target.parent / f".{target.name}.{uuid.uuid4().hex[:12]}"
        directory.mkdir()
        with _lock(directory) as ours:
            if not ours or not directory.exists():
                continue  # another process was just clearing up and took it for a leftover
            try:
                yield directory
            finally:
                shutil.rmtree(directory, ignore_errors=True)
            return


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[bool]:
    """Hold a directory's lock if nobody else does; the system lets go of it when a process dies, however it dies."""
    import fcntl  # here, so that other systems can at least import the package

    try:
        handle = os.open(directory, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
