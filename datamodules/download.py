"""Published datasets from Hugging Face into the directory of all vaults: download, unpack, put in place.

    <root>/og_marl/smac_v1/3m.vlt/Good/      a vault; it appears under this name only when it is complete
    <root>/og_marl/smac_v1/3m.vlt/.fetching/ where the archive is unpacked
    <root>/og_marl/smac_v1/.3m.lock          held while one process fetches; the others wait for its result

The archive itself stays where huggingface_hub keeps its files (``HF_HOME``), for the next root that asks for it. A
transfer that breaks is taken up where it stopped; whether that also holds after the process was killed depends on the
release of huggingface_hub. The system lets go of a dead process's lock, so whoever holds the lock knows that a
directory it finds there is a leftover, and removes it.
"""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from datamodules.archives import ArchiveError, DamagedArchiveError, unpack
from datamodules.catalogue import (
    HUB_REPOSITORY,
    archive,
    local_qualities,
    nearest,
    qualities,
    scenario_directory,
    vault_directory,
)
from datamodules.vaults import is_vault

logger = logging.getLogger(__name__)

TRANSFERS = 3  # how often a broken one is tried before giving up, besides huggingface_hub's own attempts


def fetch(dataset: str, quality: str | None = None, root: Path | str = "vaults", force: bool = False) -> Path:
    """Download a published dataset and unpack it, or return it if it is there already.

    One archive holds all qualities of a dataset, so all of them come. Vaults that are there stay as they are. The
    network is needed only if something is missing. Proxies, ``HF_HOME``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE`` and
    ``HF_TOKEN`` have the meaning that huggingface_hub gives them. Interrupted or killed at any moment, it leaves no
    half-written vault, and the next call removes what it finds; several processes may ask for the same dataset at once.

    What an archive may hold, and how large it may be: ``datamodules.archives.unpack``. A damaged one is also taken out
    of huggingface_hub's cache, so that the next call downloads it again.

    Args:
        dataset: For example "og_marl/smac_v1/3m".
        quality: The one that is needed, for example "Good"; None for all that there are.
        root: Directory of all vaults.
        force: Unpack again and replace the vaults that are there.

    Returns:
        The vault of the quality; without one the directory of all the dataset's vaults, ``<scenario>.vlt``.

    Raises:
        ValueError: If there is no such dataset or quality, with the nearest names, or it is not a published one.
        ArchiveError: If the archive is damaged, unsafe or holds no vault; a ValueError.
        FileNotFoundError: If the archive is no longer where the catalogue says.
        ConnectionError: If the Hub cannot be reached and the archive is not in its cache.
        PermissionError: If the Hub asks for a login.
        FileExistsError: If something that is no vault lies in the place of one.
        OSError: If the disk has too little room, or a directory cannot be written.
    """
    root = Path(root).absolute()
    file = archive(dataset)
    target = _target(root, dataset, quality)
    if _is_here(root, dataset, quality) and not force:
        return target
    with _writing():
        place = scenario_directory(root, dataset)
        place.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(place.with_name(f".{place.stem}.lock"), dataset):
            if not _is_here(root, dataset, quality) or force:
                _refuse_strangers(root, dataset, quality, force)
                _put_in_place(_download(file), place, quality, force)
    return target


# What is wanted, and what is there


def _target(root: Path, dataset: str, quality: str | None) -> Path:
    """What ``fetch`` returns; raises on unknown qualities."""
    if quality is None:
        return scenario_directory(root, dataset)
    known = qualities(dataset)
    if known and quality not in known:
        raise ValueError(f"unknown quality {quality!r} of {dataset}; {nearest(quality, known)}")
    return vault_directory(root, dataset, quality)


def _is_here(root: Path, dataset: str, quality: str | None) -> bool:
    """Whether there is nothing to do."""
    here = set(local_qualities(root, dataset))
    if quality is not None:
        return quality in here
    return here >= set(qualities(dataset)) and bool(here)


def _refuse_strangers(root: Path, dataset: str, quality: str | None, force: bool) -> None:
    """Raise if something that is no vault lies where one belongs."""
    for name in (quality,) if quality else qualities(dataset):
        place = vault_directory(root, dataset, name)
        if place.exists() and not is_vault(place) and not force:
            raise FileExistsError(
                f"expected a vault or nothing in '{place}', found something else; move it away, or fetch with --force "
                "to replace it"
            )


# One process at a time


@contextlib.contextmanager
def _only_one(lock_file: Path, dataset: str) -> Iterator[None]:
    """Hold the lock of a dataset; waits for another process that has it."""
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("another process is fetching %s: waiting for it", dataset)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _fresh(directory: Path) -> Iterator[Path]:
    """An empty directory that is removed on the way out; one of a process that died is removed first."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Say what to do about what the system says about a disk or directory."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise  # our own, which says it already
        full = error.errno == errno.ENOSPC
        raise type(error)(
            f"could not write '{error.filename or 'the Hugging Face cache or the vaults'}': {error.strerror}; "
            f"{'make room' if full else 'expected a directory that can be written'}, choose another --root, or set "
            "HF_HOME to have downloads elsewhere"
        ) from error


# Download


def _download(file: str) -> Path:
    """The archive in huggingface_hub's cache, downloaded if it is not there."""
    from huggingface_hub import hf_hub_download  # here, because only this needs it

    for transfer in range(TRANSFERS):
        try:
            return Path(hf_hub_download(repo_id=HUB_REPOSITORY, repo_type="dataset", filename=file))
        except Exception as error:  # of huggingface_hub, or of the HTTP library that this release of it uses
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
                raise  # of the disk
            if not _is_broken_transfer(error):
                raise _explained(file, error) from error
            if transfer == TRANSFERS - 1:
                raise ConnectionError(
                    f"the download of '{file}' broke {TRANSFERS} times ({_said(error)}); check the network, "
                    "HTTPS_PROXY and HF_ENDPOINT, and run it again"
                ) from error
            logger.warning("the download of '%s' broke (%s): going on", file, _said(error))
    raise AssertionError("the loop returns or raises")


def _is_broken_transfer(error: Exception) -> bool:
    """Whether a connection broke in the middle, by the HTTP library's own error."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError | OfflineModeIsEnabled):
        return False
    libraries = ("requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2")
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.partition(".")[0] in libraries


def _explained(file: str, error: Exception) -> Exception:
    """What huggingface_hub's error means here, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{constants.ENDPOINT}, dataset {HUB_REPOSITORY}"
    causes = list(_causes(error))
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes):
        return ConnectionError(
            f"'{file}' is not in the Hugging Face cache ({constants.HF_HUB_CACHE}), and huggingface_hub is in offline "
            "mode; unset HF_HUB_OFFLINE, or fetch it where there is a network"
        )
    if isinstance(error, GatedRepoError):
        return PermissionError(f"{where} asks for a login to give '{file}' out ({_said(error)}); run: hf auth login")
    if isinstance(error, LocalEntryNotFoundError):
        return ConnectionError(
            f"could not reach {where} ({_said(causes[-1])}), and '{file}' is not in the cache "
            f"({constants.HF_HUB_CACHE}); check the network, HTTPS_PROXY and HF_ENDPOINT"
        )
    if isinstance(error, EntryNotFoundError | RepositoryNotFoundError | RevisionNotFoundError):
        return FileNotFoundError(
            f"expected '{file}' at {where}, but it is not there ({_said(error)}); it may have been moved: look for it "
            "there, unpack it under the root yourself, and tell us"
        )
    return ConnectionError(f"could not download '{file}' from {where} ({_said(error)})")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it, the first cause last."""
    while error is not None:
        yield error
        error = error.__cause__


def _said(error: BaseException) -> str:
    """Kind and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


# Putting in place


def _put_in_place(file: Path, place: Path, quality: str | None, force: bool) -> None:
    """Unpack the vaults of an archive and give them their names, each at once."""
    place.mkdir(exist_ok=True)
    there = frozenset() if force else frozenset(path.name for path in place.glob("[!.]*"))
    try:
        with _fresh(place / ".fetching") as directory:
            unpack(file, place.name, directory, leave_out=there)
            _move(directory, place, quality)
    except DamagedArchiveError as error:
        for path in {file.resolve(), file}:  # the cache's link and what it points to
            path.unlink(missing_ok=True)
        raise DamagedArchiveError(
            f"{error}; it was removed from the Hugging Face cache, so that fetching again downloads it again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            place.rmdir()  # if it is empty, because something went wrong


def _move(directory: Path, place: Path, quality: str | None) -> None:
    """Give unpacked vaults their names; what had such a name before goes away with the directory."""
    unpacked = sorted(path.name for path in directory.iterdir())
    vaults = [name for name in unpacked if is_vault(directory / name)]
    if quality not in vaults if quality else unpacked and not vaults:
        raise ArchiveError(
            f"expected {f'the quality {quality!r}' if quality else 'vaults'} in the archive of {place.stem}, got "
            f"{', '.join(vaults) or 'no vault'}"
        )
    for name in vaults:
        if (place / name).exists():
            (place / name).rename(directory / f".{name}.replaced")
        (directory / name).rename(place / name)
