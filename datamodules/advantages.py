"""The advantage column: one number per recorded step, written once per critic and recording.

It is kept beside the decoded copy of the recording, in ``<directory>/advantages/KEY.npy``; the vault itself stays
untouched.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whole_files import written_whole

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def advantages_path(directory: Path, key: str) -> Path:
    """Where the column of one critic lies.

    Args:
        directory: Where what is computed from the recording is kept.
        key: Name of the critic: letters, digits, dots, dashes and underscores, for example a hash of its weights.

    Returns:
        The path of the column, whether or not it exists.

    Raises:
        ValueError: If the key contains anything else, a path separator say.
    """
    if not KEY.fullmatch(key):
        raise ValueError(f"expected a key of letters, digits, '.', '-' and '_', got {key!r}; hash the critic's weights")
    return Path(directory) / "advantages" / f"{key}.npy"


def save_advantages(directory: Path, key: str, values: NDArray[Any]) -> Path:
    """Write the column of one critic, all or nothing: an interruption leaves the old column or none.

    Args:
        directory: Where what is computed from the recording is kept.
        key: Name of the critic.
        values: One finite number per step of the recording, shape (L,).

    Returns:
        The path written to.

    Raises:
        ValueError: If the values are not one finite number per step, or the key is unusable.
    """
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            f"expected one finite advantage per recorded step, shape (L,), got shape {values.shape} with "
            f"{int((~np.isfinite(values)).sum())} entries that are not finite; has the critic diverged?"
        )
    path = advantages_path(directory, key)
    with written_whole(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, values, allow_pickle=False)
    return path


def load_advantages(directory: Path, key: str, length: int | None = None) -> NDArray[np.float32] | None:
    """Read the column of one critic.

    Args:
        directory: Where what is computed from the recording is kept.
        key: Name of the critic.
        length: Number of steps L of the recording, to be compared; None compares nothing.

    Returns:
        The advantages, shape (L,), or None if this critic has not written any.

    Raises:
        ValueError: If the file is damaged or belongs to a vault of another length.
    """
    path = advantages_path(directory, key)
    if not path.is_file():
        return None
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"advantages '{path}' cannot be read: {error}; delete the file, it will be computed again"
        ) from error
    if values.ndim != 1 or values.dtype != np.float32 or not np.isfinite(values).all():
        raise ValueError(
            f"expected finite float32 advantages of shape (L,) in '{path}', got {values.dtype} {values.shape}; "
            "delete the file, it will be computed again"
        )
    if length is not None and len(values) != length:
        raise ValueError(
            f"advantages '{path}' hold {len(values)} steps, but the vault {length}: the vault has changed; "
            "delete the file, it will be computed again"
        )
    result: NDArray[np.float32] = values
    return result
