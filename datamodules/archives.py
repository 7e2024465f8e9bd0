"""Zip archives of vaults, unpacked so that whoever made the archive can do no harm.

An archive holds ``.../<scenario>.vlt/<quality>/<files of a vault>``, with anything or nothing in front.
"""

import errno
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

MOST_BYTES = 512 * 2**30  # unpacked; the largest published datasets have some 20 GB in each of up to four qualities
MOST_MEMBERS = 200_000  # a vault has some thousand files
MOST_RATIO = 200  # unpacked bytes for one byte of the archive; vaults are compressed already and hardly shrink
SPARE_BYTES = 256 * 2**20  # left free on the disk
PIECE_BYTES = 2**20


class ArchiveError(ValueError):
    """An archive that holds what no archive of vaults holds; nothing of it is used."""


class DamagedArchiveError(ArchiveError):
    """An archive that is no zip archive, was cut off, or has a wrong checksum."""


class _Member(NamedTuple):
    """A file in an archive, and where it belongs within the vault of its quality."""

    info: zipfile.ZipInfo
    quality: str
    path: PurePosixPath


def unpack(file: Path, vault_name: str, directory: Path, leave_out: frozenset[str] = frozenset()) -> None:
    """Unpack the vaults of an archive into ``<directory>/<quality>/``.

    Before anything is written, the whole archive is refused if a name in it is absolute, has ``..``, a backslash or
    unprintable characters, or comes twice; if it holds a link, a device or an encrypted file; if it would unpack to
    more than ``MOST_BYTES`` (512 GiB), more than ``MOST_MEMBERS`` (200,000) members, or more than ``MOST_RATIO`` (200)
    times its own size, by the sizes it declares (a member is never read beyond its declared size); or if the disk
    would keep less than ``SPARE_BYTES`` (256 MiB). Every file's checksum is compared with the archive's.

    Args:
        file: The archive.
        vault_name: Name of the directory around the qualities, for example "3m.vlt", wherever it lies in the archive.
        directory: Where to; exists, and should be empty. If this raises, what lies there is incomplete.
        leave_out: Qualities that are not needed.

    Raises:
        DamagedArchiveError: If the archive cannot be read, is shorter than it says, or a checksum is wrong.
        ArchiveError: If the archive is refused.
        OSError: If the disk has too little room.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = [member for member in _checked(archive, file, vault_name) if member.quality not in leave_out]
            _check_room(members, directory)
            _write(archive, members, directory, vault_name)
    # zipfile raises NotImplementedError for a compression that it does not know, which a flipped bit can ask for
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DamagedArchiveError(f"the archive '{file.name}' is damaged: {type(error).__name__}: {error}") from error


def _checked(archive: zipfile.ZipFile, file: Path, vault_name: str) -> list[_Member]:
    """Files of all vaults in an archive, once everything in it was found harmless."""
    infos = archive.infolist()
    refused = f"the archive '{file.name}' was refused"
    if len(infos) > MOST_MEMBERS:
        raise ArchiveError(f"{refused}: expected at most {MOST_MEMBERS} members, got {len(infos)}")
    for info in infos:
        _check_member(info, refused)
    packed, unpacked = file.stat().st_size, sum(info.file_size for info in infos)
    if unpacked > min(MOST_BYTES, MOST_RATIO * packed):
        raise ArchiveError(
            f"{refused}: expected it to unpack to at most {MOST_RATIO} times its {packed} bytes and at most "
            f"{MOST_BYTES}, but it declares {unpacked}"
        )
    files = [info for info in infos if not info.is_dir()]
    _check_names(files, refused)
    members = [member for info in files if (member := _member(info, vault_name)) is not None]
    if not members:
        tops = sorted({info.filename.partition("/")[0] for info in infos})
        raise ArchiveError(
            f"{refused}: expected '{vault_name}/<quality>/' in it, got {', '.join(tops[:10]) or 'nothing'}"
        )
    _check_places(members, refused)
    return members


def _check_member(info: zipfile.ZipInfo, refused: str) -> None:
    """Raise unless a member is a plain file or directory with a plain name."""
    name = info.orig_filename  # as stored: zipfile's `filename` ends at a null byte
    parts = name.removesuffix("/").split("/")
    if "\\" in name or not name.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise ArchiveError(f"{refused}: expected plain relative names, without '..' and backslash, got {name!r}")
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on a POSIX system
    if kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
        raise ArchiveError(f"{refused}: expected files and directories only, got a link or device, {name!r}")
    if info.flag_bits & 0x1:
        raise ArchiveError(f"{refused}: expected files without a password, got {name!r}")


def _check_names(files: list[zipfile.ZipInfo], refused: str) -> None:
    """Raise if two files of an archive would get in each other's way."""
    seen: set[str] = set()
    for info in files:
        if info.filename in seen:
            raise ArchiveError(f"{refused}: expected every name once, got {info.filename!r} twice")
        seen.add(info.filename)
    for name in seen:
        if not seen.isdisjoint(str(parent) for parent in PurePosixPath(name).parents):
            raise ArchiveError(f"{refused}: expected a directory above {name!r}, got a file of that name as well")


def _check_places(members: list[_Member], refused: str) -> None:
    """Raise if a quality comes from two places of the archive."""
    place_of: dict[str, str] = {}
    for member in members:
        place = member.info.filename.removesuffix(str(member.path))
        if place_of.setdefault(member.quality, place) != place:
            raise ArchiveError(f"{refused}: expected each quality once, got '{place_of[member.quality]}' and '{place}'")


def _member(info: zipfile.ZipInfo, vault_name: str) -> _Member | None:
    """Where a file belongs; None for what is beside the vaults, such as a README."""
    parts = PurePosixPath(info.filename).parts
    if vault_name not in parts[:-2] or "__MACOSX" in parts:
        return None
    first = parts.index(vault_name) + 1
    quality = parts[first]
    return None if quality.startswith(".") else _Member(info, quality, PurePosixPath(*parts[first + 1 :]))


def _check_room(members: list[_Member], directory: Path) -> None:
    """Raise unless the disk has room for the members."""
    needed, free = sum(member.info.file_size for member in members), shutil.disk_usage(directory).free
    if needed + SPARE_BYTES > free:
        raise OSError(
            errno.ENOSPC,
            f"unpacking needs {(needed + SPARE_BYTES) / 1e9:.1f} GB, but the disk has {free / 1e9:.1f} GB free",
            str(directory),
        )


def _write(archive: zipfile.ZipFile, members: list[_Member], directory: Path, vault_name: str) -> None:
    """Unpack; zipfile compares the checksum when a member was read to its end."""
    total = sum(member.info.file_size for member in members)
    with tqdm(total=total, desc=f"unpacking {vault_name}", unit="B", unit_scale=True, disable=None) as bar:
        for member in members:
            path = directory / member.quality / member.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member.info) as packed, path.open("xb") as unpacked:
                while piece := packed.read(PIECE_BYTES):
                    unpacked.write(piece)
                    bar.update(len(piece))
                if unpacked.tell() != member.info.file_size:
                    raise EOFError(f"{member.info.filename!r} is shorter than the archive says")
