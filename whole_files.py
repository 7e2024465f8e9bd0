"""Files that are there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path whose file takes the place of ``path`` once it is complete and on the disk.

    Args:
        path: The file to write; its directory is made if missing.

    Yields:
        Where to write meanwhile, an empty file in the same directory and with the same suffix. After an exception or a
        kill the old content is still at ``path``, or nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # No mkstemp: its files are for their owner only, and these are to be read by whoever may read the directory.
    unfinished = path.with_name(f".{path.stem}.{secrets.token_hex(6)}{path.suffix}")
    unfinished.touch()
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
