import errno
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from datamodules import archives
from datamodules.archives import ArchiveError, DamagedArchiveError, unpack
from datamodules.vaults import is_vault

VAULT = {"metadata.json": b"{}", "manifest.ocdbt": b"manifest", "d/0001": b"data" * 100}

Make = Callable[[zipfile.ZipFile], None]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def make_archive(tmp_path: Path, make: Make, prefix: str = "", qualities: tuple[str, ...] = ("Good",)) -> Path:
    """An archive with small vaults, and whatever ``make`` puts into it."""
    file = tmp_path / "3m.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for quality in qualities:
            for name, content in VAULT.items():
                archive.writestr(f"{prefix}3m.vlt/{quality}/{name}", content)
        make(archive)
    return file


def nothing(archive: zipfile.ZipFile) -> None:
    pass


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("prefix", ["", "vaults/og_marl/smac_v1/", "./".strip("./")])
def test_vaults_are_found_wherever_they_lie(tmp_path: Path, directory: Path, prefix: str) -> None:
    def more(archive: zipfile.ZipFile) -> None:
        archive.writestr("README.md", "read me")
        archive.writestr("__MACOSX/3m.vlt/Good/._metadata.json", "junk")
        archive.writestr("3m.vlt/.DS_Store", "junk")
        archive.mkdir("3m.vlt/Empty")

    unpack(make_archive(tmp_path, more, prefix, ("Good", "Poor")), "3m.vlt", directory)
    assert tree(directory) == {f"{quality}/{name}": VAULT[name] for quality in ("Good", "Poor") for name in VAULT}
    assert is_vault(directory / "Good")


def test_what_is_not_needed_is_left_out(tmp_path: Path, directory: Path) -> None:
    file = make_archive(tmp_path, nothing, qualities=("Good", "Poor"))
    unpack(file, "3m.vlt", directory, leave_out=frozenset({"Good"}))
    assert [path.name for path in directory.iterdir()] == ["Poor"]


def add(name: str, mode: int = 0, content: bytes = b"x") -> Make:
    """Puts in a member with a mode of a POSIX system."""

    def make(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.create_system = 3
        archive.writestr(info, content, zipfile.ZIP_DEFLATED)

    return make


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (add("../outside"), r"without '\.\.' and backslash, got '\.\./outside'"),
        (add("3m.vlt/Good/../../../outside"), "plain relative names"),
        (add("/etc/outside"), "plain relative names"),
        (add("//host/outside"), "plain relative names"),
        (add("3m.vlt/Good/..\\..\\outside"), "plain relative names"),
        (add("C:\\outside"), "plain relative names"),
        (add("3m.vlt/./Good/x"), "plain relative names"),
        (add("3m.vlt//Good/x"), "plain relative names"),
        (add("3m.vlt/Good/x\ny"), "plain relative names"),
        (add("3m.vlt/Good/link", stat.S_IFLNK | 0o777, b"/etc/passwd"), "got a link or device, '3m.vlt/Good/link'"),
        (add("README", stat.S_IFLNK | 0o777, b"/etc/passwd"), "link or device"),
        (add("3m.vlt/Good/pipe", stat.S_IFIFO | 0o666), "link or device"),
        (add("3m.vlt/Good/disk", stat.S_IFBLK | 0o666), "link or device"),
        (add("3m.vlt/Good/directory", stat.S_IFDIR | 0o755), "link or device"),
        (add("3m.vlt/Good/metadata.json"), "every name once, got '3m.vlt/Good/metadata.json' twice"),
        (add("3m.vlt/Good/d"), "a directory above '3m.vlt/Good/d/0001', got a file of that name"),
        (add("copy/3m.vlt/Good/metadata.json"), "each quality once, got '3m.vlt/Good/' and 'copy/3m.vlt/Good/'"),
        (add("3m.vlt/Good/bomb", content=bytes(2**20)), r"at most 200 times its \d+ bytes and at most"),
        (add("bomb beside it", content=bytes(2**20)), "at most 200 times"),
    ],
)
def test_harmful_archives_are_refused_whole(tmp_path: Path, directory: Path, make: Make, message: str) -> None:
    file = make_archive(tmp_path, make)
    with pytest.raises(ArchiveError, match=f"the archive '3m.zip' was refused: .*{message}"):
        unpack(file, "3m.vlt", directory)
    assert tree(directory) == {}
    assert {path.name for path in tmp_path.iterdir()} == {"3m.zip", "out"}


def test_a_null_byte_hides_nothing(tmp_path: Path, directory: Path) -> None:
    file = make_archive(tmp_path, add("3m.vlt/Good/a?b"))
    file.write_bytes(file.read_bytes().replace(b"a?b", b"a\0b"))
    with pytest.raises(ArchiveError, match="plain relative names"):
        unpack(file, "3m.vlt", directory)


def test_a_password_is_refused(tmp_path: Path, directory: Path) -> None:
    file = make_archive(tmp_path, nothing)
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02")  # the first entry of the central directory; its flags are 8 bytes on
    content[at + 8] |= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ArchiveError, match="expected files without a password"):
        unpack(file, "3m.vlt", directory)


def test_sizes_that_are_a_lie_are_noticed(tmp_path: Path, directory: Path) -> None:
    file = make_archive(tmp_path, nothing)
    content = bytearray(file.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # "d/0001", 400 bytes long; the size is 24 bytes on
    for size, message in ((40, "CRC"), (4000, "shorter than the archive says")):
        content[at + 24 : at + 28] = size.to_bytes(4, "little")
        file.write_bytes(bytes(content))
        shutil.rmtree(directory)
        directory.mkdir()
        with pytest.raises(DamagedArchiveError, match=message):
            unpack(file, "3m.vlt", directory)
        assert all(path.stat().st_size <= 400 for path in directory.rglob("*") if path.is_file())


def test_limits(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make_archive(tmp_path, nothing)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 2)
    with pytest.raises(ArchiveError, match="expected at most 2 members, got 3"):
        unpack(file, "3m.vlt", directory)
    monkeypatch.undo()
    monkeypatch.setattr(archives, "MOST_BYTES", 409)
    with pytest.raises(ArchiveError, match="at most 409, but it declares 410"):
        unpack(file, "3m.vlt", directory)
    assert tree(directory) == {}
    monkeypatch.setattr(archives, "MOST_BYTES", 410)
    unpack(file, "3m.vlt", directory)


def test_the_limits_admit_vaults_of_20_gb() -> None:
    assert archives.MOST_BYTES > 5 * 20e9
    assert archives.MOST_RATIO >= 100


def test_a_full_disk_is_noticed_before_anything_is_written(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_archive(tmp_path, nothing)
    usage = SimpleNamespace(free=archives.SPARE_BYTES + 409)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"unpacking needs 0.3 GB, but the disk has 0.3 GB free") as raised:
        unpack(file, "3m.vlt", directory)
    assert raised.value.errno == errno.ENOSPC
    assert tree(directory) == {}
    usage.free += 1
    unpack(file, "3m.vlt", directory)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "page", "unknown method"])
def test_damage_is_noticed(tmp_path: Path, directory: Path, damage: str) -> None:
    file = make_archive(tmp_path, nothing)
    content = file.read_bytes()
    start = content.index(b"d/0001") + len(b"d/0001")
    flipped = content[:start] + bytes([content[start] ^ 0xFF]) + content[start + 1 :]
    method = content.replace(b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x63\x00")
    damaged = {
        "cut": content[:-100],
        "flipped": flipped,
        "empty": b"",
        "page": b"<html>Login</html>",
        "unknown method": method,
    }
    file.write_bytes(damaged[damage])
    with pytest.raises(DamagedArchiveError, match=r"the archive '3m.zip' is damaged: "):
        unpack(file, "3m.vlt", directory)


def test_an_archive_of_something_else_is_refused(tmp_path: Path, directory: Path) -> None:
    file = make_archive(tmp_path, add("8m.vlt/Good/metadata.json"), qualities=())
    with pytest.raises(ArchiveError, match=r"expected '3m.vlt/<quality>/' in it, got 8m.vlt"):
        unpack(file, "3m.vlt", directory)
    with pytest.raises(ArchiveError, match="got nothing"):
        unpack(make_archive(tmp_path, nothing, qualities=()), "3m.vlt", directory)
