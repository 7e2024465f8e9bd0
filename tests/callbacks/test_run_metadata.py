import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from torch import nn

from callbacks import RunMetadata, run_metadata
from callbacks.run_metadata import AXIS, ID_FILE, description, name_run, prepare_wandb, wandb_mode
from tests.wandb_files import Logged

KNOWN = {"algorithm": "BC", "dataset": "embedded/smax/3m", "quality": "Mixed", "seed": 2}


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


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch):
    for name in ("WANDB_NAME", "WANDB_RUN_GROUP", "WANDB_JOB_TYPE", "VGM2P_GRID", "VGM2P_CELL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nothing_said")
@pytest.mark.parametrize("stage, job", [("fit", "train"), ("test", "test")])
def test_a_run_gets_a_readable_name(stage: str, job: str, tmp_path: Path):
    logger = WandbLogger(save_dir=tmp_path, project="p")
    named = name_run(logger, KNOWN, stage)
    assert named.items() <= logger._wandb_init.items()
    assert name_run(logger, KNOWN, stage) == {}, "it has a name now"
    assert named == {"name": "BC embedded/smax/3m/Mixed seed 2", "group": "embedded/smax/3m/Mixed", "job_type": job}


@pytest.mark.usefixtures("nothing_said")
def test_names_that_the_user_gave_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_NAME", "from the variable")
    logger = WandbLogger(save_dir=tmp_path, project="p", group="from the configuration")
    assert name_run(logger, KNOWN, "fit") == {"job_type": "train"}
    assert logger._wandb_init["group"] == "from the configuration"
    assert logger._wandb_init["name"] is None, "wandb reads the variable"


@pytest.mark.usefixtures("nothing_said")
def test_a_cell_carries_the_names_of_its_grid(monkeypatch: pytest.MonkeyPatch):
    data = SimpleNamespace(dataset="embedded/smax/3m", quality="Mixed", seed=1, statistics={"return_mean": 7.0})
    trainer: Any = SimpleNamespace(callbacks=[], datamodule=data)
    module: Any = nn.Linear(2, 3)
    alone = description(trainer, module)
    assert (alone["task"], alone["model_name"]) == ("embedded/smax/3m Mixed", "Linear") and "grid" not in alone
    assert alone["parameters"] == 9 and alone["data_return_mean"] == 7.0 and alone["versions"]["torch"]
    assert alone["commit"] is None or len(alone["commit"]) == 40
    monkeypatch.setenv("VGM2P_GRID", "small")
    monkeypatch.setenv("VGM2P_CELL", "3m/linear_wide/seed_1")
    cell = description(trainer, module)
    assert (cell["grid"], cell["grid_dataset"], cell["grid_model"]) == ("small", "3m", "linear_wide")
    assert (cell["task"], cell["model_name"], cell["algorithm"]) == ("3m", "linear_wide", "Linear")


def test_without_a_wandb_logger_nothing_happens(monkeypatch: pytest.MonkeyPatch):
    """Other loggers hear nothing, and nothing is looked up: no data, no versions, no commit."""
    looked = []
    monkeypatch.setattr(run_metadata, "description", lambda *_: looked.append("description"))
    other = MagicMock(spec=CSVLogger)
    trainer: Any = SimpleNamespace(loggers=[other], is_global_zero=True)
    module: Any = nn.Linear(2, 3)
    RunMetadata().setup(trainer, module, "fit")
    assert looked == [] and other.mock_calls == []


@pytest.mark.filterwarnings("ignore")
def test_a_real_run_says_what_it_is(logged_runs: Mapping[str, Logged]):
    for algorithm, run in logged_runs.items():
        assert run.name == f"{algorithm} embedded/matrix/xor/Mixed seed 3"
        assert (run.group, run.job_type) == ("embedded/matrix/xor/Mixed", "train")
        assert run.tags == (algorithm, "embedded/matrix/xor", "Mixed")
        assert run.axes["*"] == run.axes["eval/return_mean"] == AXIS
        config = run.config
        assert config["stage"] == "fit" and config["algorithm"] == algorithm
        assert config["model"]["init_args"]["hidden_dims"] == [8] and config["trainer"]["max_steps"] == 24
        assert config["model"]["init_args"]["learning_rate"] > 0, "defaults, too"
        assert config["data"]["init_args"]["batch_size"] == 32 and config["seed"] == config["seed_everything"] == 3
        assert config["data_episodes"] == 100 and config["state_dim"] == 1
        directory = run.file.parents[3] / "runs" / algorithm / "version_0"
        assert (directory / ID_FILE).read_text() == run.id == run.file.stem.removeprefix("run-")


@pytest.mark.filterwarnings("ignore")
def test_two_algorithms_lie_on_the_same_axes(logged_runs: Mapping[str, Logged]):
    vgm2p, bc = (
        {key for key in logged_runs[name].summary if key.startswith(("eval/", "final/")) and key.count("/") == 1}
        for name in ("VGM2P", "BC")
    )
    assert vgm2p == bc >= {"eval/return_mean", "eval/best", "final/return_mean", "final/seconds_per_update"}
    played = [[row[AXIS] for row in run.history if "eval/return_mean" in row] for run in logged_runs.values()]
    assert played == [[9, 14, 19], [4, 9, 14, 19]], "updates counted from 0, the policy's only"
    assert all(AXIS in row for run in logged_runs.values() for row in run.history)
