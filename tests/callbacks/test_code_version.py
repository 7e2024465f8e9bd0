"""Which code made something."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import pytest

from callbacks import code_version


def test_versions_of_what_is_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(code_version, "PACKAGES", ("torch", "no-such-package"))
    expected = {"python": platform.python_version(), "torch": importlib.metadata.version("torch")}
    assert code_version.versions() == expected


def test_the_commit_and_whether_files_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(code_version, "HERE", tmp_path)
    assert code_version.code_version() == {"commit": None, "changed_files": None}, "no clone"

    def git(*words: str) -> str:
        options = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *options, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    assert code_version.code_version() == {"commit": git("rev-parse", "HEAD"), "changed_files": False}
    (tmp_path / "file").write_text("2")
    assert code_version.code_version()["changed_files"] is True
