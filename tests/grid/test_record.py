"""What a grid was run with."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import pytest

from grid import record


def test_versions_of_what_is_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(record, "PACKAGES", ("torch", "no-such-package"))
    assert record.versions() == {"python": platform.python_version(), "torch": importlib.metadata.version("torch")}


def test_the_commit_and_whether_files_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(record, "HERE", tmp_path)
    assert record.code_version() == {"commit": None, "changed_files": None}, "no clone"

    def git(*words: str) -> str:
        options = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *options, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    assert record.code_version() == {"commit": git("rev-parse", "HEAD"), "changed_files": False}
    (tmp_path / "file").write_text("2")
    assert record.code_version()["changed_files"] is True


def test_the_machine():
    found = record.hardware()
    assert found["processor"] and 1 <= found["usable_cores"] <= found["cores"] and found["gpus"] == found["gpus"]
    assert set(found) == {"processor", "cores", "usable_cores", "torch_threads", "gpus", "system"}
