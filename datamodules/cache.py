"""A decoded copy of vaults on disk, mapped into memory: for recordings that are larger than memory.

A vault is compressed in chunks of thousands of steps; drawing random windows from it would decompress a chunk for each.
So the first use decodes it once into plain arrays::

    <directory>/steps-<fingerprint>/    one decoded recording; the fingerprint is that of the vaults it came from
        obs.npy state.npy actions.npy rewards.npy ...     NumPy's own format, (L, ...) each; readable by np.load
        index.json                      lengths, types and checksums; written last
    <directory>/.lock                   held while one process decodes; the others wait for its result

The directory is made under another name and renamed when it is complete, so an interruption leaves nothing that looks
like a recording. Mapped pages belong to the system's file cache, not to the process: ``MappedColumns.release`` gives
them back, so that the resident memory of a training stays small however long it draws.
"""

import contextlib
import hashlib
import json
import logging
import math
import mmap
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from datamodules.vaults import Column, Columns, Stream, Vault, common_columns, stream_of

logger = logging.getLogger(__name__)

CACHE_FORMAT = 1
SPARE_BYTES = 64 * 2**20  # left free on the disk beside the decoded data
SMALL_BYTES = 32 * 2**20  # files up to this size stay mapped
INDEX = "index.json"


class MappedColumns:
    """The arrays of a decoded recording, mapped from its files.

    Args:
        directory: The decoded recording.
        names: Its columns.

    Attributes:
        arrays: The columns by name, (L, ...) each; not to be written to.
    """

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self._directory = directory
        self._maps: list[mmap.mmap] = []
        self._floor = resident_file_bytes()
        self._places: dict[str, tuple[mmap.mmap, int]] = {}  # where each column lies
        self.arrays: Columns = {name: self._mapped(name) for name in names}
        size = sum(array.nbytes for array in self.arrays.values())
        self._expects = size > physical_memory() // 2  # the system will hardly keep all of it in its file cache

    def scratch(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A writable array of zeros in a file without a name beside the decoded recording; it ends with the process."""
        with tempfile.TemporaryFile(dir=self._directory) as file:
            file.truncate(4 * math.prod(shape))
            mapped = mmap.mmap(file.fileno(), 0)
        self._maps.append(mapped)
        return np.frombuffer(mapped, np.float32).reshape(shape)

    def expect(self, steps: NDArray[np.int64], count: int) -> None:
        """Let the system read in the background what will be asked for next; nothing where it is cached anyway.

        Args:
            steps: First step of each window, (B,).
            count: Steps of a window.
        """
        if not self._expects:
            return
        for name, array in self.arrays.items():
            mapped, offset = self._places[name]
            row = array.strides[0]
            for first, behind in _ranges(np.sort(offset + steps * row), count * row):
                mapped.madvise(mmap.MADV_WILLNEED, first, min(behind, len(mapped)) - first)

    def release(self, above: int = 0) -> bool:
        """Take mapped pages out of the process's memory; they stay in the system's file cache as long as there is room.

        Small files stay mapped: what they take does not matter, and mapping their pages anew costs time.

        Args:
            above: Do so only if files mapped by the process take so many bytes more of its memory than after the last
                time: what others map, libraries say, does not count.

        Returns:
            Whether it was done.
        """
        if above and resident_file_bytes() - self._floor <= above:
            return False
        for mapped in self._maps:
            if len(mapped) > SMALL_BYTES:
                mapped.madvise(mmap.MADV_DONTNEED)
        self._floor = resident_file_bytes()
        return True

    def _mapped(self, name: str) -> NDArray[Any]:
        with (self._directory / f"{name}.npy").open("rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        mapped.madvise(mmap.MADV_RANDOM)  # windows lie anywhere: reading ahead would only load what nobody asked for
        self._maps.append(mapped)
        self._places[name] = (mapped, offset)
        return np.frombuffer(mapped, dtype, count=math.prod(shape), offset=offset).reshape(shape)


def _ranges(places: NDArray[np.int64], size: int) -> Iterator[tuple[int, int]]:
    """Stretches of whole pages that cover ``size`` bytes from each place on: one where windows touch or overlap.

    Args:
        places: In ascending order, at least one.
        size: Bytes from each place on.

    Yields:
        First byte, at the beginning of a page, and the byte behind the last.
    """
    first, behind = places - places % mmap.PAGESIZE, places + size
    begins = np.flatnonzero(np.append(True, first[1:] > behind[:-1]))
    stops = np.append(begins[1:], len(places)) - 1
    yield from zip(first[begins].tolist(), behind[stops].tolist(), strict=True)


def physical_memory() -> int:
    """Bytes of main memory that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def resident_file_bytes() -> int:
    """Bytes of files that are mapped into this process and at present in its memory; 0 where /proc does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[2]) * mmap.PAGESIZE
    except OSError:
        return 0


def decoded_bytes(vaults: Sequence[Vault]) -> int:
    """Size of the decoded recording, in memory or on disk.

    Args:
        vaults: At least one.

    Returns:
        Bytes.
    """
    step = sum(math.prod(column.shape) * column.dtype.itemsize for column in common_columns(vaults).values())
    return step * sum(map(len, vaults))


def fingerprint(vaults: Sequence[Vault]) -> str:
    """What tells the content of vaults, in this order, from any other.

    Args:
        vaults: At least one.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(" ".join(vault.fingerprint() for vault in vaults).encode()).hexdigest()[:16]


def open_cache(directory: Path, vaults: Sequence[Vault], progress: bool = True) -> tuple[Stream, MappedColumns]:
    """The decoded recording of vaults, mapped from disk; decoded if it is not there yet.

    Other recordings decoded into the same directory are removed: they belong to vaults that have changed since. A
    process that still uses one keeps it until it ends. A damaged copy is found by its checksums and decoded anew;
    they are compared where a file was touched since it was written.

    Args:
        directory: Where decoded copies of these vaults are kept.
        vaults: At least one; several are laid one behind the other.
        progress: Whether to show a progress bar while decoding.

    Returns:
        The recording, and the mapping that it lives on.

    Raises:
        OSError: If the disk has no room.
        ValueError: If the vaults hold what cannot be trained on; nothing is kept then.
    """
    target = directory / f"steps-{fingerprint(vaults)}"
    directory.mkdir(parents=True, exist_ok=True)
    columns = common_columns(vaults)
    with FileLock(directory / ".lock"):
        if not is_whole(target):
            _clear(directory)
            _check_room(directory, decoded_bytes(vaults))
            unfinished = directory / f".{target.name}"
            unfinished.mkdir()
            try:
                _decode(unfinished, vaults, columns, progress)
                os.replace(unfinished, target)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        mapped = MappedColumns(target, list(columns))
    return stream_of(mapped.arrays, vaults), mapped


def is_whole(directory: Path) -> bool:
    """Whether a decoded recording is there, complete and undamaged.

    Args:
        directory: The decoded recording.

    Returns:
        False if it is absent or of another version of this format, or if a file is missing, of another length, or
        differs from its checksum.
    """
    try:
        index = json.loads((directory / INDEX).read_text())
        if index["format"] != CACHE_FORMAT:
            return False
        return all(_is_unchanged(directory / name, facts) for name, facts in index["files"].items())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("the decoded recording '%s' is damaged (%r) and will be made again", directory, error)
        return False


def _is_unchanged(path: Path, facts: dict[str, int]) -> bool:
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) == (facts["bytes"], facts["modified_ns"]):
        return True
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            checksum = zlib.crc32(block, checksum)
    if checksum != facts["crc32"]:
        logger.warning("'%s' was changed since it was decoded; it will be decoded again", path)
    return checksum == facts["crc32"]


def _clear(directory: Path) -> None:
    """Remove what was decoded from earlier contents of the vaults, and what an interrupted process left."""
    for stale in [*directory.glob("steps-*"), *directory.glob(".steps-*")]:
        shutil.rmtree(stale)


def _check_room(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed + SPARE_BYTES:
        raise OSError(
            f"expected {(needed + SPARE_BYTES) / 2**30:.1f} GB of free disk space for the decoded recording in "
            f"'{directory}', found {free / 2**30:.1f} GB; make room or set data.init_args.cache_dir to another disk"
        )


class _ColumnWriter:
    """Writes one array piece by piece, in NumPy's format, keeping its checksum."""

    def __init__(self, file: BinaryIO, column: Column, length: int) -> None:
        self._file, self._crc = file, 0
        head = {
            "descr": np.lib.format.dtype_to_descr(column.dtype),
            "fortran_order": False,
            "shape": (length, *column.shape),
        }
        np.lib.format.write_array_header_1_0(file, head)
        file.flush()
        with open(file.name, "rb") as written:
            self._crc = zlib.crc32(written.read())

    def write(self, piece: NDArray[Any]) -> None:
        block = np.ascontiguousarray(piece).data.cast("B")
        self._crc = zlib.crc32(block, self._crc)
        self._file.write(block)

    def close(self) -> dict[str, int]:
        """Make sure that the file is on the disk; what the index says about it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        status = os.fstat(self._file.fileno())
        return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "crc32": self._crc}


def _decode(directory: Path, vaults: Sequence[Vault], columns: dict[str, Column], progress: bool) -> None:
    """Write all columns of all vaults, then the index."""
    length = sum(map(len, vaults))
    with contextlib.ExitStack() as stack:
        writers = {
            name: _ColumnWriter(stack.enter_context((directory / f"{name}.npy").open("wb")), column, length)
            for name, column in columns.items()
        }
        for piece in _with_progress(vaults, length, progress):
            for name, writer in writers.items():
                writer.write(piece[name])
        files = {f"{name}.npy": writer.close() for name, writer in writers.items()}
    index = {
        "format": CACHE_FORMAT,
        "steps": length,
        "vaults": [str(vault.directory) for vault in vaults],
        "files": files,
    }
    with (directory / INDEX).open("w") as file:
        json.dump(index, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _with_progress(vaults: Sequence[Vault], length: int, progress: bool) -> Iterator[Columns]:
    with tqdm(total=length, desc="decoding", unit=" steps", unit_scale=True, disable=not progress, leave=False) as bar:
        for vault in vaults:
            for piece in vault.pieces():
                yield piece
                bar.update(len(piece["rewards"]))


def read_only(array: NDArray[Any]) -> Any:
    """A tensor that shares the memory of an array that must not be written to.

    Args:
        array: Any array, a mapped one say.

    Returns:
        The tensor. Writing to it would end the process.
    """
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
