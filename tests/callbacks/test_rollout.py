"""What rollouts log, print and keep."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from callbacks import rollout
from callbacks.checkpoints import LastCheckpoint
from callbacks.rollout import RolloutEvaluation, check_best_metric
from datamodules import OfflineDataModule
from environments.recording import record
from lightning_modules import BC
from lightning_modules.networks.policies import Policy
from tests.callbacks.test_episodes import Failing


@pytest.mark.parametrize(
    "options",
    [{"episodes": 0}, {"every_n_updates": -1}, {"every_n_epochs": -1}, {"final_episodes": 0}, {"seed": -1}],
    ids=str,
)
def test_impossible_numbers_are_refused(options: dict[str, int]):
    name = next(iter(options))
    with pytest.raises(ValueError, match=rf"RolloutEvaluation.{name} must be at least \d, got {options[name]}"):
        RolloutEvaluation(**options)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> OfflineDataModule:
    root = tmp_path_factory.mktemp("vaults")
    record("embedded/matrix/xor", "Mixed", root, episodes=40, progress=False)
    return OfflineDataModule("embedded/matrix/xor", root=root, batch_size=8)


def fit(
    data: OfflineDataModule, directory: Path, max_steps: int = 7, resume: Path | None = None, **options: Any
) -> tuple[dict[str, Tensor], Trainer, RolloutEvaluation]:
    torch.manual_seed(0)
    module = BC(2, 1, 1, 2, True, hidden_dims=[8])
    callback = RolloutEvaluation(episodes=4, final_episodes=6, **options)
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=directory,
        max_steps=max_steps,
        max_epochs=-1,
        logger=CSVLogger(directory, name="", version=""),
        callbacks=[callback, LastCheckpoint(every_n_updates=1)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module.state_dict(), trainer, callback


def table_of(directory: Path, name: str = "evaluation.csv") -> list[dict[str, str]]:
    with (directory / name).open(newline="") as file:
        return list(csv.DictReader(file))


def rollouts_of(directory: Path) -> list[int]:
    """After how many updates the policy was played."""
    return [int(row["step"]) + 1 for row in table_of(directory, "metrics.csv") if row.get("eval/return_mean")]


@pytest.mark.filterwarnings("ignore")
def test_looking_does_not_change_what_is_trained(data: OfflineDataModule, tmp_path: Path):
    watched, trainer, callback = fit(data, tmp_path / "watched", every_n_updates=2)
    unwatched, _, _ = fit(data, tmp_path / "unwatched", every_n_updates=0)
    assert all(torch.equal(watched[name], unwatched[name]) for name in watched)
    assert trainer.callback_metrics["eval/best"] == callback.best >= trainer.callback_metrics["eval/return_mean"]
    assert 0 <= float(trainer.callback_metrics["eval/win_rate"]) <= 1
    assert (tmp_path / "watched/checkpoints/best.ckpt").is_file()
    assert callback.state_dict()["updates"] == {"train": 7}
    assert rollouts_of(tmp_path / "watched") == [2, 4, 6] and not rollouts_of(tmp_path / "unwatched")
    assert [row["policy"] for row in table_of(tmp_path / "watched")] == ["the data", "policy, sampled", "policy, mode"]


@pytest.mark.filterwarnings("ignore")
def test_every_metric_is_logged_for_every_policy(data: OfflineDataModule, tmp_path: Path):
    module, trainer, _ = fit(data, tmp_path, every_n_updates=7)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for prefix in ("eval", "eval/policy, sampled", "eval/policy, mode"):
        assert logged[f"{prefix}/return_mean"] == logged[f"{prefix}/win_rate"]
        assert logged[f"{prefix}/normalised_score"] == pytest.approx(200 * logged[f"{prefix}/return_mean"] - 100)
        assert {f"{prefix}/{name}" for name in ("return_std", "return_iqm", "ms_per_decision")} <= set(logged)
        assert logged[f"{prefix}/episode_length"] == logged[f"{prefix}/network_calls"] == 1
        assert logged[f"{prefix}/lost_episodes"] == 0
        assert logged[f"{prefix}/parameters"] == sum(value.numel() for value in module.values())
    sampled = table_of(tmp_path)[1]
    assert float(sampled["IQM"]) == pytest.approx(logged["eval/policy, sampled/return_iqm"])
    assert float(sampled["score"]) == pytest.approx(logged["eval/policy, sampled/normalised_score"])


@pytest.mark.filterwarnings("ignore")
def test_all_policies_are_played_while_training_if_asked(data: OfflineDataModule, tmp_path: Path):
    fit(data, tmp_path / "all", every_n_updates=3, all_policies=True)
    fit(data, tmp_path / "one", every_n_updates=3)
    asked, plain = (
        [int(row["step"]) + 1 for row in table_of(tmp_path / name, "metrics.csv") if row["eval/policy, mode/win_rate"]]
        for name in ("all", "one")
    )
    assert asked == [3, 6, 7] and plain == [7]


@pytest.mark.filterwarnings("ignore")
def test_only_the_main_policy_plays_at_the_end_if_asked(data: OfflineDataModule, tmp_path: Path):
    fit(data, tmp_path / "all")
    fit(data, tmp_path / "main", final_policies="main")
    every, main = (table_of(tmp_path / name) for name in ("all", "main"))
    assert [row["policy"] for row in every] == ["the data", "policy, sampled", "policy, mode"]
    kept = [{name: text for name, text in row.items() if name != "ms per decision"} for row in every[:2]]
    assert [{name: text for name, text in row.items() if name != "ms per decision"} for row in main] == kept


@pytest.mark.filterwarnings("ignore")
def test_what_acts_without_chance_plays_beside_the_main_policy_if_asked(
    data: OfflineDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def played(module: BC) -> dict[str, Policy]:
        names = ("policy, 4 steps", "policy, w = 1", "policy", "policy, mode", "policy, zero noise")
        return dict.fromkeys(names, module.policy)

    monkeypatch.setattr(BC, "evaluation_policies", played)
    fit(data, tmp_path, final_policies="without_chance")
    rows = [row["policy"] for row in table_of(tmp_path)]
    assert rows == ["the data", "policy", "policy, mode", "policy, zero noise"]


@pytest.mark.filterwarnings("ignore")
def test_rollouts_by_epochs(data: OfflineDataModule, tmp_path: Path):
    _, trainer, _ = fit(data, tmp_path / "both", max_steps=20, every_n_epochs=2, every_n_updates=5)
    length = trainer.num_training_batches
    assert length == 5
    assert rollouts_of(tmp_path / "both") == [5, 10, 15, 20], "once, where updates and epochs agree"
    fit(data, tmp_path / "epochs", max_steps=20, every_n_epochs=2, every_n_updates=0)
    assert rollouts_of(tmp_path / "epochs") == [10, 20]
    fit(data, tmp_path / "end", every_n_epochs=0, every_n_updates=0)
    assert not rollouts_of(tmp_path / "end") and len(table_of(tmp_path / "end")) == 3


class Scripted:
    """Rollouts whose numbers are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **series: list[float]) -> None:
        self.series, self.played = series, 0
        monkeypatch.setattr(rollout, "evaluation_metrics", self)

    def __call__(self, *args: Any) -> dict[str, float]:
        self.played += 1
        given = {name: values[min(self.played, len(values)) - 1] for name, values in self.series.items()}
        return {"return_mean": 0.0, "episode_length": 0.0} | given


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("metric", "update"), [("return_mean", 4), ("win_rate", 6), ("episode_length", 2)])
def test_the_best_checkpoint_is_chosen_by_the_metric_asked_for(
    data: OfflineDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: Any, update: int
):
    Scripted(monkeypatch, return_mean=[1, 3, 2], win_rate=[0.1, 0.2, 0.3], episode_length=[9, 8, 7])
    _, trainer, callback = fit(data, tmp_path, every_n_updates=2, best_metric=metric)
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] == update
    last = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 7, "kept beside it"
    assert callback.best == trainer.callback_metrics["eval/best"] == {"return_mean": 3, "win_rate": 0.3}.get(metric, 9)


@pytest.mark.filterwarnings("ignore:(?!.*begins anew)")
def test_a_resumed_run_keeps_the_best(data: OfflineDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Scripted(monkeypatch, return_mean=[3, 1, 2], win_rate=[0.5])
    fit(data, tmp_path, max_steps=4, every_n_updates=2)
    last = tmp_path / "checkpoints/last.ckpt"
    _, _, callback = fit(data, tmp_path, resume=last, every_n_updates=2)
    assert callback.best == 3
    assert torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)["global_step"] == 2
    with pytest.warns(UserWarning, match=r"chosen by return_mean, this run asks for win_rate: .* begins anew"):
        _, _, callback = fit(data, tmp_path, max_steps=9, resume=last, every_n_updates=2, best_metric="win_rate")
    assert callback.best == 0.5


def test_a_checkpoint_that_does_not_say_was_chosen_by_the_return():
    callback = RolloutEvaluation()
    callback.load_state_dict({"best": 1.5, "seconds": {}, "updates": {}})
    assert callback.best == 1.5


@pytest.mark.filterwarnings("ignore")
def test_an_epochs_rollout_is_not_lost_when_the_run_stops_before_it(data: OfflineDataModule, tmp_path: Path):
    """The newest checkpoint is that of the epoch's last update, before the epoch's rollout."""
    _, _, whole = fit(data, tmp_path / "whole", max_steps=15, every_n_epochs=1, every_n_updates=0)
    fit(data, tmp_path / "cut", max_steps=10, every_n_epochs=1, every_n_updates=0)
    last = tmp_path / "cut/checkpoints/last.ckpt"
    _, _, resumed = fit(data, tmp_path / "rest", max_steps=15, resume=last, every_n_epochs=1, every_n_updates=0)
    assert resumed.best == whole.best
    assert rollouts_of(tmp_path / "rest")[-1] == 15


def test_a_best_metric_that_the_environment_does_not_have_is_refused():
    check_best_metric("normalised_score", "matrix/xor", can_be_won=True)
    with pytest.raises(ValueError, match=r"that 'my:game' has, got 'win_rate', but nothing is won .* return_mean, "):
        check_best_metric("win_rate", "my:game", can_be_won=False)
    with pytest.raises(ValueError, match=r"got 'normalised_score', but .* no reference returns of it; choose one of"):
        check_best_metric("normalised_score", "my:game", can_be_won=False)


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
    assert [float(row["return"]) > 0 for row in table_of(tmp_path)][1:] == [True, True]
    assert [row["lost"] for row in table_of(tmp_path)] == ["", "2", "2"]
