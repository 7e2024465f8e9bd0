"""Files that are there whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of another once it is complete and on the disk.

    Args:
        path: Where the file shall be; its directory is made if it is not there.

    Yields:
        The open file. After an exception or a kill the old content is still there, or nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # No mkstemp: its files are for their owner only, and these are to be read by whoever may read the directory.
    unfinished = path.with_name(f".{path.stem}.{secrets.token_hex(6)}{path.suffix}")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
