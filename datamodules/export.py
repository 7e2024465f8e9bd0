"""Write a recording with its advantages into one file that anything can read."""

from pathlib import Path

import numpy as np

from datamodules.advantages import load_advantages
from datamodules.offline import OfflineDataModule
from whole_files import written_whole


def stored_critics(data: OfflineDataModule) -> list[str]:
    """Keys of the critics whose advantages for this recording are stored, the latest first.

    Args:
        data: The recording.
    """
    columns = (data.derived_dir / "advantages").glob(f"*-{data.key}.npy")
    return [path.stem for path in sorted(columns, key=lambda path: path.stat().st_mtime_ns, reverse=True)]


def export(data: OfflineDataModule, path: Path, critic: str | None = None) -> str | None:
    """Write all steps of a recording, and a critic's advantages of them, into a NumPy archive.

    It holds one array for each field of ``datamodules.vaults.Stream``, ``episode_bounds`` (first step and first step
    behind of each episode, (E, 2)) and, if a critic has labelled the recording, ``advantages``, (L,). An interruption
    leaves the old file or none.

    Args:
        data: The recording, of all episodes.
        path: File to write, ending in .npz.
        critic: Key of the critic, as in ``stored_critics``; by default the latest.

    Returns:
        Key of the critic whose advantages were written; None if there is none.

    Raises:
        ValueError: If the path does not end in .npz, or there is no such critic.
    """
    if path.suffix != ".npz":
        raise ValueError(f"expected a file ending in .npz to export to, got '{path}'")
    known = stored_critics(data)
    if critic is not None and critic not in known:
        raise ValueError(f"expected one of the critics that labelled {data.dataset}, got {critic!r}: {known or 'none'}")
    key = critic or next(iter(known), None)
    stream = data.stream
    arrays = {
        name: getattr(stream, name)
        for name in ("obs", "state", "actions", "rewards", "terminals", "truncations", "legal_actions")
    }
    arrays["episode_bounds"] = data.episode_bounds
    advantages = None if key is None else load_advantages(data.derived_dir, key, len(stream))
    if advantages is not None:
        arrays["advantages"] = advantages
    with written_whole(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)
    return key
