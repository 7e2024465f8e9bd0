"""The command as a user meets it: help, mistakes, run directories, interruption and going on."""

import contextlib
import csv
import importlib.metadata
import importlib.util
import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from datamodules import OfflineDataModule
from environments.recording import record
from lightning_modules import VGM2P
from vgm2p_cli import main

CONFIG = Path(__file__).parent.parent / "configs" / "matrix.yaml"
MODELS = CONFIG.parent / "model"
CRITIC_UPDATES, CREDIT_UPDATES, UPDATES = 6, 5, 22

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def vaults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 episodes: 270 to train on, 9 batches of 30 an epoch."""
    root = tmp_path_factory.mktemp("vaults")
    record("embedded/matrix/xor", "Mixed", root, episodes=300, progress=False)
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small(tmp_path: Path, vaults: Path) -> Path:
    return write_small(tmp_path, vaults)


def write_small(directory: Path, vaults: Path) -> Path:
    """The matrix benchmark, made tiny: checkpoints after every update, rollouts, all three stages."""
    config = yaml.safe_load(CONFIG.read_text())
    config["trainer"] |= {
        "max_steps": UPDATES,
        "val_check_interval": 4,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
    }
    for callback in config["trainer"]["callbacks"]:
        if callback["class_path"] == "callbacks.RolloutEvaluation":
            callback["init_args"] = {"episodes": 8, "every_n_updates": 5, "final_episodes": 8}
        if callback["class_path"] == "callbacks.StageSwitch":
            callback["init_args"] = {"check_every": 2}
        if callback["class_path"] == "callbacks.LastCheckpoint":
            callback["init_args"] = {"every_n_updates": 1}
    config["model"]["init_args"] |= {
        "critic_updates": CRITIC_UPDATES,
        "credit": "local",
        "credit_updates": CREDIT_UPDATES,
        "hidden_dims": [8],
        "critic_hidden_dims": [8],
    }
    config["data"]["init_args"] |= {"root": str(vaults), "batch_size": 32}
    path = directory / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def checkpoint(run: str | Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(Path(run) / "checkpoints" / "last.ckpt", weights_only=True)
    return loaded


def assert_same(left: Any, right: Any, where: str = "") -> None:
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, list | tuple):
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same(a, b, f"{where}/{index}")
    else:
        assert left == right, where


def metrics(run: str | Path) -> list[dict[str, str]]:
    """Logged rows without durations, in the order of their updates."""
    with (Path(run) / "metrics.csv").open(newline="") as file:
        rows = [
            {key: value for key, value in row.items() if value and "seconds" not in key and "ms_per" not in key}
            for row in csv.DictReader(file)
        ]
    return sorted(rows, key=lambda row: (int(row["step"]), sorted(row)))


def assert_same_metrics(resumed: list[dict[str, str]], whole: list[dict[str, str]]) -> None:
    """Equal rows, but for losses of a finished stage, which Lightning repeats until the end of the epoch."""
    assert len(resumed) == len(whole)
    for left, right in zip(resumed, whole, strict=True):
        assert left.items() <= right.items()
        assert all(key.startswith("train/") for key in right.keys() - left.keys())


def interrupted(update: int) -> list[str]:
    return ["--trainer.callbacks+=tests.interruption.Interrupt", f"--trainer.callbacks.init_args.update={update}"]


@pytest.fixture(scope="module")
def whole(vaults: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an uninterrupted ``fit``, as in ``small``."""
    directory = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(directory):
        main(["fit", "--config", str(write_small(directory, vaults))])
    return directory / "runs/matrix/version_0"


# The first update of an epoch is number 9 and 18, of the credit's stage number 6, of the policy's number 11.
@pytest.mark.parametrize("update", [5, 6, 9, 11, 16])
def test_an_interrupted_run_goes_on_to_the_same_numbers(update: int, here: Path, small: Path, whole: Path):
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(small), *interrupted(update)])
    stopped = checkpoint("runs/matrix/version_0")
    assert stopped["global_step"] == update
    main(["fit", "--config", str(small), "--ckpt_path", "last"])
    assert [path.name for path in Path("runs/matrix").iterdir()] == ["version_0"], "it goes on in its own directory"
    expected, resumed = checkpoint(whole), checkpoint("runs/matrix/version_0")
    assert expected["global_step"] == resumed["global_step"] == UPDATES
    assert_same(resumed["state_dict"], expected["state_dict"])
    assert_same(resumed["optimizer_states"], expected["optimizer_states"])
    assert_same_metrics(metrics("runs/matrix/version_0"), metrics(whole))


def test_a_killed_run_goes_on_in_another_process(here: Path, small: Path):
    command = [sys.executable, "-m", "vgm2p_cli", "fit", "--config", str(small)]
    environment = {**os.environ, "PYTHONPATH": str(CONFIG.parents[1]), "WANDB_MODE": "disabled"}
    kill = ["--trainer.callbacks+=tests.interruption.Kill", "--trainer.callbacks.init_args.update=13"]
    killed = subprocess.run([*command, *kill], env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert checkpoint("runs/matrix/version_0")["global_step"] == 13
    subprocess.run([*command, "--ckpt_path", "last"], env=environment, capture_output=True, check=True)
    subprocess.run(command, env=environment, capture_output=True, check=True)  # never interrupted
    expected, resumed = checkpoint("runs/matrix/version_1"), checkpoint("runs/matrix/version_0")
    assert_same(resumed["state_dict"], expected["state_dict"])
    assert_same(resumed["optimizer_states"], expected["optimizer_states"])


def test_a_finished_run_can_be_made_longer(here: Path, small: Path, whole: Path):
    main(["fit", "--config", str(small), "--trainer.max_steps", "14"])
    main(["fit", "--config", str(small), "--ckpt_path", "last"])
    assert_same(checkpoint("runs/matrix/version_0")["state_dict"], checkpoint(whole)["state_dict"])


def test_what_a_run_leaves_in_its_directory(whole: Path):
    files = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.csv", "evaluation.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"} <= files
    logged = set().union(*metrics(whole))
    assert {"train/value_loss", "train/credit_loss", "train/policy_loss", "val/policy_loss"} <= logged
    assert {"eval/return_mean", "eval/win_rate", "eval/best", "value/stored_advantage_std"} <= logged
    saved = yaml.safe_load((whole / "config.yaml").read_text())
    assert saved["model"]["init_args"]["critic_updates"] == CRITIC_UPDATES
    assert "n_agents" not in saved["model"]["init_args"], "linked values are not part of the configuration"


def test_the_saved_configuration_runs_again(here: Path, whole: Path):
    main(["fit", "--config", str(whole / "config.yaml")])
    assert_same(checkpoint("runs/matrix/version_0")["state_dict"], checkpoint(whole)["state_dict"])


def test_the_seed_changes_the_run(here: Path, small: Path, whole: Path):
    main(["fit", "--config", str(small), "--seed_everything", "1"])
    weights, others = (checkpoint(run)["state_dict"] for run in ("runs/matrix/version_0", whole))
    assert any(not torch.equal(weights[name], others[name]) for name in weights if name.startswith("velocity."))


@pytest.fixture
def finished(here: Path, whole: Path) -> Path:
    """A copy of the finished run in the current directory."""
    shutil.copytree(whole.parent.parent, here / "runs")
    return here / "runs/matrix/version_0"


def test_test_shows_the_table_of_the_run_again(finished: Path, small: Path, capsys: pytest.CaptureFixture[str]):
    main(["test", "--config", str(small), "--ckpt_path", "last"])
    assert "cloning (null condition)" in capsys.readouterr().out
    tables = [list(csv.DictReader((finished / place).open())) for place in ("evaluation.csv", "test/evaluation.csv")]
    assert tables[0][0]["policy"] == "the data"
    assert [row["return"] for row in tables[0]] == [row["return"] for row in tables[1]]
    assert (finished / "metrics.csv").is_file(), "the run's own metrics are untouched"


def test_validate_and_predict(finished: Path, small: Path):
    main(["validate", "--config", str(small), "--ckpt_path", "best"])
    assert (finished / "validate/metrics.csv").is_file()
    main(["predict", "--config", str(small), "--ckpt_path", "last"])
    actions = np.load(finished / "predict/predictions.npz")["actions"]
    assert actions.shape == (300, 2)
    assert set(np.unique(actions)) <= {0, 1}


def test_options_of_the_command_line_win_over_the_checkpoint_which_wins_over_the_file(finished: Path, small: Path):
    config = yaml.safe_load(small.read_text())
    config["model"]["init_args"]["label_threshold"] = 0.5
    small.write_text(yaml.safe_dump(config))
    with pytest.warns(UserWarning, match=r"label_threshold 0.0 \(configuration file: 0.5\)"):
        main(["test", "--ckpt_path", "last", "--model.init_args.guidance_scale", "4", "--config", str(small)])
    used = yaml.safe_load((finished / "test/config.yaml").read_text())["model"]["init_args"]
    assert used["guidance_scale"] == 4.0
    assert used["label_threshold"] == 0.0


def test_another_algorithm_on_the_same_data(here: Path, small: Path):
    main(["fit", "--config", str(small), "--model", str(MODELS / "awr.yaml")])
    saved = yaml.safe_load(Path("runs/matrix/version_0/config.yaml").read_text())
    assert saved["model"]["class_path"] == "lightning_modules.AWR"
    assert saved["model"]["init_args"]["critic_updates"] == CRITIC_UPDATES, "what both have is kept"


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the user reads on a mistake: short, with exit code 2."""
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert len(message.splitlines()) < 15
    return message


MISTAKES = {
    "--model.init_args.guidnace_scale=3": r"'guidnace_scale' is not accepted\nDid you mean 'guidance_scale'",
    "--trainer.max_stepz=3": r"trainer.max_stepz=3\nDid you mean 'trainer.max_steps'",
    "--model=lightning_modules.VGMP": r"no attribute 'VGMP'\nDid you mean 'VGM2P'",
    "--model=VGMP": "Did you mean 'VGM2P'",
    "--model=lightning_module.VGM2P": "Did you mean 'lightning_modules'",
    "--model.init_args.guidance_scale=x": '"guidance_scale":\n.*float.*x',
    "--model.init_args.output=endpiont": r"\['endpoint', 'velocity'\].*endpiont",
    "--model.init_args.guidance_scale=-1": "guidance_scale must be at least 0, got -1",
    "--model.init_args.n_agents=4": "model.init_args.n_agents is taken from the data",
    "--data.init_args.seed=4": "taken from seed_everything",
    "--data.init_args.dataset=embedded/matrix/xr": "unknown dataset 'embedded/matrix/xr'; did you mean",
    "--data.init_args.batch_size=0": "batch_size of at least 1, got 0",
    "--trainer.max_steps=11": "trainer.max_steps must be above 11, got 11",
    "--trainer.accelerator=gpuu": "accelerator='gpuu'",
    "--ckpt_path=nowhere.ckpt": "expected a checkpoint file, 'last' or 'best', got 'nowhere.ckpt'",
    "--ckpt_path=last": "expected a run of this configuration .* with a last.ckpt in 'runs/matrix', found none",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_before_anything_runs(
    mistake: str, here: Path, small: Path, capsys: pytest.CaptureFixture[str]
):
    assert re.search(MISTAKES[mistake], refused(["fit", "--config", str(small), mistake], capsys))
    assert not list(here.glob("runs/*/*")), "no run directory is left behind"


def test_an_impossible_option_is_told_before_data_is_recorded(
    here: Path, small: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["--data.init_args.root", "elsewhere", "--model.init_args.discount", "2"]
    assert "discount must be in [0, 1], got 2.0" in refused(["fit", "--config", str(small), *words], capsys)
    assert not (here / "elsewhere").exists()


def test_last_never_means_a_run_of_something_else(finished: Path, small: Path, capsys: pytest.CaptureFixture[str]):
    words = ["fit", "--config", str(small), "--ckpt_path", "last", "--seed_everything", "5"]
    message = refused(words, capsys)
    assert "seed 5" in message and "found those of other runs only" in message and "seed 0" in message


def test_a_checkpoint_of_another_algorithm_is_refused(finished: Path, small: Path, capsys: pytest.CaptureFixture[str]):
    checkpoint_file = str(finished / "checkpoints/last.ckpt")
    words = ["test", "--config", str(small), "--model", "BC", "--ckpt_path", checkpoint_file]
    assert "add --model lightning_modules.VGM2P" in refused(words, capsys)


def test_print_config_shows_defaults_and_runs_nothing(here: Path, small: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(["fit", "--config", str(small), "--print_config"])
    assert left.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for shown, cls, name in (
        (printed["model"], VGM2P, "flow_ratio"),
        (printed["data"], OfflineDataModule, "validation_fraction"),
    ):
        assert shown["init_args"][name] == inspect.signature(cls).parameters[name].default
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--help"], "lightning data record DATASET QUALITY"),
        (["fit", "--help"], "Options of an algorithm: --model.help VGM2P"),
        (["fit", "--model.help", "VGM2P"], "w with which ``policy`` acts"),
        (["fit", "--data.help", "OfflineDataModule"], "Share of the episodes held out for validation"),
    ],
)
def test_help_explains(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    assert expected in " ".join(capsys.readouterr().out.split())


def test_without_wandb_the_run_goes_on_and_says_so(here: Path, small: Path, monkeypatch: pytest.MonkeyPatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else found(name, *rest)
    )
    with pytest.warns(UserWarning, match=r"Weights & Biases, which is not installed.*\[wandb\]"):
        main(["fit", "--config", str(small)])
    assert Path("runs/matrix/version_0/metrics.csv").is_file()


def test_the_command_is_ours():
    try:
        scripts = importlib.metadata.distribution("vgm2p").entry_points.select(group="console_scripts")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed: pip install -e .")
    assert [(script.name, script.value) for script in scripts] == [("lightning", "vgm2p_cli:main")]


def test_the_message_is_the_one_that_was_meant():
    """A cause of ours explains; one that was replaced on purpose (``from None``) does not."""
    from environments.registry import split_scenario
    from vgm2p_cli import refusal

    def replaced(cause: BaseException | None) -> BaseException:
        try:
            split_scenario("smax/3n")
        except ValueError as error:
            try:
                raise KeyError("outer") from (error if cause else None)
            except KeyError as outer:
                return outer
        raise AssertionError("refused")

    explained, silent = refusal(replaced(ValueError())), refusal(replaced(None))
    assert "did you mean smax/3m" in str(explained)
    assert silent is None  # raised here, not by the project


def films(directory: str | Path) -> list[str]:
    return sorted(path.name for path in (Path(directory) / "videos").glob("*"))


def test_films_of_a_run_and_of_an_old_one(here: Path, small: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("av")
    main(["fit", "--config", str(small), "--callbacks.videos", "true"])
    run = Path("runs/matrix/version_0")
    assert films(run) == ["episode_1.mp4", "episode_2.mp4"]
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["callbacks"] == {"videos": True}
    assert "callbacks.Videos" not in [callback["class_path"] for callback in saved["trainer"]["callbacks"]]
    main(["test", "--config", str(small), "--callbacks.videos", "3", "--ckpt_path", "last"])
    assert films(run / "test") == ["episode_1.mp4", "episode_2.mp4", "episode_3.mp4"]
    assert "runs/matrix/version_0/test/videos/episode_3.mp4: return " in capsys.readouterr().out
    # What the run has kept says all that is needed to do the same again
    saved["trainer"]["logger"][0]["init_args"]["version"] = None
    Path("again.yaml").write_text(yaml.safe_dump(saved))
    main(["fit", "--config", "again.yaml", "--callbacks.videos", "1"])
    assert films("runs/matrix/version_1") == ["episode_1.mp4"]


def test_films_can_be_asked_for_in_the_file(here: Path, small: Path):
    pytest.importorskip("av")
    config = yaml.safe_load(small.read_text())
    entry = {"class_path": "callbacks.Videos", "init_args": {"episodes": 1, "every_n_updates": 20}}
    config["trainer"]["callbacks"].append(entry)
    small.write_text(yaml.safe_dump(config))
    main(["fit", "--config", str(small)])
    assert films("runs/matrix/version_0") == ["episode_1.mp4", "update_20_episode_1.mp4"]
    small.write_text(yaml.safe_dump({**config, "callbacks": {"videos": 2}}))
    main(["test", "--config", str(small), "--ckpt_path", "last"])
    assert films("runs/matrix/version_0/test") == ["episode_1.mp4", "episode_2.mp4"], "the entry, with that number"


@pytest.mark.parametrize("number", ["-1", "many", "1.5"])
def test_a_number_of_films_that_cannot_be(number: str, small: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(small), f"--callbacks.videos={number}"])
    assert "callbacks.videos" in capsys.readouterr().err
