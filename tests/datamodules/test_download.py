import errno
import importlib
import io
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datamodules import download
from datamodules.archives import ArchiveError, DamagedArchiveError
from datamodules.download import fetch
from datamodules.vaults import is_vault
from tests.datamodules.hub import Hub, point_at, serving

DATASET, FILE = "og_marl/smac_v1/3m", "core/smac_v1/3m.zip"
QUALITIES = ("Good", "Medium", "Poor")


def content_of(quality: str, files: int = 3, size: int = 20_000) -> dict[str, bytes]:
    """Files of a small vault; their content cannot be compressed and tells the quality."""
    generator = random.Random(quality)
    names = ("metadata.json", "manifest.ocdbt", *(f"d/{number:04}" for number in range(files)))
    return {name: quality.encode() + generator.randbytes(size) for name in names}


def make_archive(qualities: tuple[str, ...] = QUALITIES, **sizes: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for quality in qualities:
            for name, content in content_of(quality, **sizes).items():
                archive.writestr(f"3m.vlt/{quality}/{name}", content)
    return file.getvalue()


def with_member(name: str, mode: int = 0, content: bytes = b"x") -> bytes:
    file = io.BytesIO(make_archive())
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    with serving(monkeypatch, cache) as hub:
        hub.files[FILE] = make_archive()
        yield hub


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "vaults"


def scenario(root: Path) -> Path:
    return root / "og_marl/smac_v1/3m.vlt"


def assert_nothing_came(root: Path) -> None:
    assert [path.name for path in root.rglob("*") if path.name not in ("og_marl", "smac_v1", ".3m.lock")] == []


def test_all_qualities_come_in_one_download(hub: Hub, root: Path) -> None:
    assert fetch(DATASET, "Good", root) == scenario(root) / "Good"
    for quality in QUALITIES:
        assert is_vault(scenario(root) / quality)
        assert tree(scenario(root) / quality) == content_of(quality)
    assert hub.downloads() == [None]
    assert sorted(path.name for path in scenario(root).iterdir()) == list(QUALITIES)


def test_what_is_there_needs_no_network(hub: Hub, root: Path) -> None:
    assert fetch(DATASET, None, root) == scenario(root)
    hub.requests.clear()
    assert fetch(DATASET, None, str(root)) == scenario(root)
    assert fetch(DATASET, "Poor", root) == scenario(root) / "Poor"
    assert hub.requests == []


def test_what_is_there_is_kept(hub: Hub, root: Path) -> None:
    fetch(DATASET, None, root)
    shutil.rmtree(scenario(root) / "Poor")
    (scenario(root) / "Good/metadata.json").write_text("mine")
    fetch(DATASET, None, root)
    assert tree(scenario(root) / "Poor") == content_of("Poor")
    assert (scenario(root) / "Good/metadata.json").read_text() == "mine"
    assert hub.downloads() == [None], "the archive was in the cache"


def test_force_replaces_it(hub: Hub, root: Path) -> None:
    fetch(DATASET, None, root)
    (scenario(root) / "Good/metadata.json").write_text("mine")
    (scenario(root) / "Good/more").write_text("mine")
    fetch(DATASET, "Good", root, force=True)
    assert tree(scenario(root)) == {f"{q}/{name}": data for q in QUALITIES for name, data in content_of(q).items()}


def test_what_is_no_vault_is_not_touched(hub: Hub, root: Path) -> None:
    (scenario(root) / "Good").mkdir(parents=True)
    (scenario(root) / "Good/notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"expected a vault or nothing in '.*3m.vlt/Good', found something else"):
        fetch(DATASET, "Good", root)
    assert hub.requests == []
    fetch(DATASET, "Poor", root)
    assert tree(scenario(root) / "Good") == {"notes.txt": b"mine"}
    fetch(DATASET, "Good", root, force=True)
    assert tree(scenario(root) / "Good") == content_of("Good")


def test_a_broken_transfer_goes_on_where_it_stopped(hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)  # what is kept of a broken one
    hub.drop_after = [100_000]
    fetch(DATASET, "Good", root)
    first, second = hub.downloads()
    assert first is None
    assert second is not None and second.startswith("bytes=")
    assert 0 < int(second.removeprefix("bytes=").rstrip("-")) <= 100_000
    assert tree(scenario(root) / "Good") == content_of("Good")


def test_a_transfer_that_breaks_every_time(hub: Hub, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.drop_after = [0] * 1000
    with pytest.raises(ConnectionError, match=r"the download of 'core/smac_v1/3m.zip' broke 3 times .*run it again"):
        fetch(DATASET, "Good", root)
    assert_nothing_came(root)
    hub.drop_after = []
    fetch(DATASET, "Good", root)


def test_a_damaged_archive_is_downloaded_again(hub: Hub, root: Path, cache: Path) -> None:
    whole = hub.files[FILE]
    hub.files[FILE] = whole[:50_000] + bytes([whole[50_000] ^ 1]) + whole[50_001:]
    with pytest.raises(DamagedArchiveError, match=r"'3m.zip' is damaged: .*removed from the Hugging Face cache"):
        fetch(DATASET, "Good", root)
    assert_nothing_came(root)
    assert not [path for path in cache.rglob("*") if path.name == "3m.zip"]
    assert not any((cache / "datasets--InstaDeepAI--og-marl/blobs").iterdir())
    hub.files[FILE] = whole
    fetch(DATASET, "Good", root)
    assert tree(scenario(root) / "Good") == content_of("Good")
    assert hub.downloads() == [None, None]


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (with_member("3m.vlt/Good/../../../../outside"), r"without '\.\.'"),
        (with_member("3m.vlt/Good/link", 0o120777, b"/etc/passwd"), "link or device"),
        (with_member("3m.vlt/Good/bomb", content=bytes(10**8)), "expected it to unpack to at most 200 times"),
    ],
    ids=["outside", "link", "bomb"],
)
def test_harmful_archives_leave_nothing(hub: Hub, root: Path, archive: bytes, message: str) -> None:
    hub.files[FILE] = archive
    with pytest.raises(ArchiveError, match=f"'3m.zip' was refused: .*{message}"):
        fetch(DATASET, "Good", root)
    assert_nothing_came(root)


def test_an_archive_without_the_quality_or_any_vault(hub: Hub, root: Path) -> None:
    hub.files[FILE] = make_archive(("Medium", "Poor"))
    with pytest.raises(ArchiveError, match=r"expected the quality 'Good' in the archive of 3m, got Medium, Poor"):
        fetch(DATASET, "Good", root)
    assert_nothing_came(root)
    hub.files[FILE] = with_member("3m.vlt/Good/x").replace(b"metadata.json", b"metadata.txt_")
    with pytest.raises(ArchiveError, match="expected vaults in the archive of 3m, got no vault"):
        fetch(DATASET, None, root)
    assert_nothing_came(root)


def test_a_dataset_without_a_card(hub: Hub, root: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in content_of("Replay").items():
            archive.writestr(f"20_trains.vlt/Replay/{name}", data)
    hub.files["core/flatland/20_trains.zip"] = content.getvalue()
    assert fetch("og_marl/flatland/20_trains", None, root) == root / "og_marl/flatland/20_trains.vlt"
    hub.requests.clear()
    assert fetch("og_marl/flatland/20_trains", "Replay", root).name == "Replay"
    assert fetch("og_marl/flatland/20_trains", None, root).is_dir()
    assert hub.requests == []


@pytest.mark.parametrize(
    ("refusal", "kind", "message"),
    [
        (
            (404, "EntryNotFound"),
            FileNotFoundError,
            r"expected 'core/smac_v1/3m.zip' at .*InstaDeepAI/og-marl, but it is",
        ),
        ((404, "RepoNotFound"), FileNotFoundError, "but it is not there"),
        (
            (403, "GatedRepo"),
            PermissionError,
            r"asks for a login to give 'core/smac_v1/3m.zip' out .*run: hf auth login",
        ),
        (
            (500, "Broken"),
            ConnectionError,
            r"could not reach http://127.*500.*check the network, HTTPS_PROXY and HF_ENDP",
        ),
    ],
)
def test_what_the_hub_refuses(
    hub: Hub,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: tuple[int, str],
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.refusal = refusal
    with pytest.raises(kind, match=message):
        fetch(DATASET, "Good", root)
    assert_nothing_came(root)


def test_no_network(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        point_at(url, cache, monkeypatch.setattr)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        with pytest.raises(ConnectionError, match=rf"could not reach {url}.*'core/smac_v1/3m.zip' is not in the cache"):
            fetch(DATASET, "Good", root)
    assert_nothing_came(root)


def test_offline_mode(hub: Hub, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def set_offline(value: bool) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", value)
        getattr(importlib.import_module("huggingface_hub.utils._http"), "reset_sessions", lambda: None)()  # older ones

    set_offline(True)
    with pytest.raises(ConnectionError, match=r"not in the Hugging Face cache .*offline mode; unset HF_HUB_OFFLINE"):
        fetch(DATASET, "Good", root)
    set_offline(False)
    fetch(DATASET, "Good", root)
    set_offline(True)
    assert is_vault(fetch(DATASET, "Good", tmp_path / "another root")), "the archive is in the cache"
    set_offline(False)


def test_disks_that_are_full_or_read_only(hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_with(code: int) -> Any:
        def open_file(*args: object, **options: object) -> None:
            raise OSError(code, os.strerror(code), "/mnt/small")

        return open_file

    for code, kind, message in (
        (errno.ENOSPC, OSError, "could not write '/mnt/small': No space left on device; make room, choose another"),
        (errno.EACCES, PermissionError, "could not write '/mnt/small': .*expected a directory that can be written"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr("huggingface_hub.hf_hub_download", fails_with(code))
            with pytest.raises(kind, match=message):
                fetch(DATASET, "Good", root)
        with monkeypatch.context() as patched:
            patched.setattr(download, "unpack", fails_with(code))
            with pytest.raises(kind, match=message):
                fetch(DATASET, "Good", root)
    assert_nothing_came(root)


def test_names_are_checked_before_anything_else(hub: Hub, root: Path) -> None:
    with pytest.raises(ValueError, match="unknown dataset 'og_marl/smac_v1/3mm'; did you mean og_marl/smac_v1/3m"):
        fetch("og_marl/smac_v1/3mm", None, root)
    with pytest.raises(ValueError, match=r"unknown quality 'Goood' of og_marl/smac_v1/3m; did you mean Good\?"):
        fetch(DATASET, "Goood", root)
    with pytest.raises(ValueError, match="not published but recorded"):
        fetch("embedded/smax/3m", "Mixed", root)
    with pytest.raises(ValueError, match="a quality that names one directory"):
        fetch("og_marl/flatland/20_trains", "../Replay", root)
    assert hub.requests == [] and not root.exists()


# Several processes, and dead ones


def in_another_process(what: str, hub: Hub, root: Path, cache: Path, count: int) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.datamodules.fetching", what, hub.url, str(root), str(cache), str(count)]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_several_processes_download_it_once(hub: Hub, root: Path, cache: Path) -> None:
    assert in_another_process("several_at_once", hub, root, cache, 3) == {"succeeded": [True, True, True]}
    assert tree(scenario(root) / "Good") == content_of("Good")
    assert hub.downloads() == [None]


def test_killed_at_any_moment_it_leaves_nothing_or_whole_vaults(hub: Hub, root: Path, cache: Path) -> None:
    hub.files[FILE] = make_archive(files=25, size=8000)
    result = in_another_process("killed", hub, root, cache, 30)
    found = result["found"]
    assert result["qualities"] == list(QUALITIES)
    assert len(found) == 30
    assert all(after_kill["whole"] for after_kill in found), "a half-written vault"
    assert all(after_kill["again"] for after_kill in found), "the next start did not clear up and succeed"
    assert any(after_kill["leftover"] for after_kill in found), "no kill hit the unpacking"
    assert any(after_kill["vaults"] == 0 for after_kill in found)
