"""What rollouts log, print and keep."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from callbacks import rollout
from callbacks.rollout import RolloutEvaluation, write
from datamodules import OfflineDataModule
from environments.recording import record
from lightning_modules import BC
from tests.callbacks.test_episodes import Failing


@pytest.mark.parametrize(
    "options", [{"episodes": 0}, {"every_n_updates": -1}, {"final_episodes": 0}, {"seed": -1}], ids=str
)
def test_impossible_numbers_are_refused(options: dict[str, int]):
    name = next(iter(options))
    with pytest.raises(ValueError, match=rf"RolloutEvaluation.{name} must be at least \d, got {options[name]}"):
        RolloutEvaluation(**options)


def test_the_table_keeps_its_numbers(tmp_path: Path):
    rows = [{"policy": "the data", "return": 0.5, "won": None}, {"policy": "policy", "return": 1.25, "won": 0.75}]
    write(rows, tmp_path / "evaluation.csv")
    with (tmp_path / "evaluation.csv").open(newline="") as file:
        assert [row["return"] for row in csv.DictReader(file)] == ["0.5", "1.25"]
    assert rollout._cell("won", 0.75) == "75%" and rollout._cell("return", 1.25) == "1.250"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> OfflineDataModule:
    root = tmp_path_factory.mktemp("vaults")
    record("embedded/matrix/xor", "Mixed", root, episodes=40, progress=False)
    return OfflineDataModule("embedded/matrix/xor", root=root, batch_size=8)


def fit(
    data: OfflineDataModule, directory: Path, **options: Any
) -> tuple[dict[str, Tensor], Trainer, RolloutEvaluation]:
    torch.manual_seed(0)
    module = BC(2, 1, 1, 2, True, hidden_dims=[8])
    callback = RolloutEvaluation(episodes=4, final_episodes=6, **options)
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=directory,
        max_steps=7,
        max_epochs=-1,
        logger=False,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return module.state_dict(), trainer, callback


@pytest.mark.filterwarnings("ignore")
def test_looking_does_not_change_what_is_trained(data: OfflineDataModule, tmp_path: Path):
    watched, trainer, callback = fit(data, tmp_path / "watched", every_n_updates=2)
    unwatched, _, _ = fit(data, tmp_path / "unwatched", every_n_updates=0)
    assert all(torch.equal(watched[name], unwatched[name]) for name in watched)
    assert trainer.callback_metrics["eval/best"] == callback.best >= trainer.callback_metrics["eval/return_mean"]
    assert 0 <= float(trainer.callback_metrics["eval/win_rate"]) <= 1
    assert (tmp_path / "watched/checkpoints/best.ckpt").is_file()
    assert callback.state_dict()["updates"] == {"train": 7}
    with (tmp_path / "watched/evaluation.csv").open(newline="") as file:
        assert [row["policy"] for row in csv.DictReader(file)] == ["the data", "policy, sampled", "policy, mode"]


def test_the_environment_is_that_of_the_datas_source(monkeypatch: pytest.MonkeyPatch):
    assert rollout.scenario_of_data("og_marl/mamujoco/2halfcheetah") == "mamujoco/2halfcheetah-og_marl"
    assert rollout.scenario_of_data("my/smax/3m") == "smax/3m"
    for dataset in ("my/game/map", "omiga/smac_v1/corridor"):
        with pytest.raises(ValueError, match=r"RolloutEvaluation\.environment .* or take RolloutEvaluation out"):
            rollout.scenario_of_data(dataset)


class FailingXor(Failing):
    """Three copies of something of XOR's shapes; the first copy's simulator always breaks down."""

    action_dim = 2

    def __init__(self) -> None:
        super().__init__([0])

    def reset(self, seeds: Any) -> Any:
        return super().reset([2 + seed % 2 for seed in seeds])

    def _show(self, rewards: Any) -> Any:
        shown = super()._show(rewards)
        return shown._replace(legal_actions=shown.legal_actions[..., :2])


@pytest.mark.filterwarnings("ignore:(?!.*lost)")
def test_lost_episodes_are_logged_and_warned_of_once(
    data: OfflineDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollout, "make_vector_env", lambda scenario, n_envs: FailingXor())
    with pytest.warns(UserWarning, match="'countdown' lost 2 of 4 episodes to failures") as warned:
        _, trainer, _ = fit(data, tmp_path, every_n_updates=2)
    assert len([warning for warning in warned if "lost" in str(warning.message)]) == 1
    assert trainer.callback_metrics["eval/lost_episodes"] == 2
    assert trainer.callback_metrics["eval/policy, mode/lost_episodes"] == 2
    with (tmp_path / "evaluation.csv").open(newline="") as file:
        assert [float(row["return"]) > 0 for row in csv.DictReader(file)][1:] == [True, True]
