import os
from pathlib import Path

import pytest

from callbacks.run_metadata import ID_FILE, prepare_wandb, wandb_mode


@pytest.mark.parametrize(
    "environment, login, expected",
    [
        ({}, "", "offline"),
        ({"WANDB_API_KEY": "secret"}, "", "online"),
        ({}, "machine api.wandb.ai login user password secret", "online"),
        ({}, "machine example.org login user password secret", "offline"),
        ({"WANDB_BASE_URL": "https://example.org"}, "machine example.org login user password secret", "online"),
        ({}, "this is no netrc file", "offline"),
        ({"WANDB_MODE": "disabled", "WANDB_API_KEY": "secret"}, "", "given"),
    ],
)
def test_runs_are_sent_only_for_users_who_logged_in(
    environment: dict[str, str], login: str, expected: str, tmp_path: Path
):
    path = tmp_path / "netrc"
    path.write_text(login + "\n")
    path.chmod(0o600)
    assert wandb_mode(environment, path) == expected


def test_without_a_login_file_runs_stay_here(tmp_path: Path):
    assert wandb_mode({"NETRC": str(tmp_path / "nothing")}) == "offline"


def test_a_continued_run_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert prepare_wandb(None) is None
    assert prepare_wandb(tmp_path) is None
    (tmp_path / ID_FILE).write_text("abc123\n")
    assert prepare_wandb(tmp_path) == "abc123"
    assert os.environ["WANDB_MODE"] == "disabled", "what the user said counts"
