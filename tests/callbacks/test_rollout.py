"""Rollouts against an environment whose episodes can be computed by hand."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from callbacks import rollout
from callbacks.rollout import Episodes, RolloutEvaluation, check_fits, play, write
from datamodules import OfflineDataModule
from environments.recording import record
from environments.vector import VectorStep
from lightning_modules import BC

CPU = torch.device("cpu")


class Countdown:
    """Copy e with seed s ends after s steps, won if s is even; every step pays the sum of the agents' actions."""

    name, n_envs, n_agents, obs_dim, state_dim, action_dim, discrete, can_be_won = (
        "countdown",
        3,
        2,
        1,
        1,
        4,
        True,
        True,
    )

    def __init__(self) -> None:
        self.resets: list[list[int]] = []
        self.calls = 0

    def reset(self, seeds: Sequence[int]) -> VectorStep:
        self.resets.append(list(seeds))
        self.left, self.even = np.array(seeds), np.array(seeds) % 2 == 0
        return self._show(np.zeros(3, np.float32))

    def step(self, actions: Any) -> VectorStep:
        self.calls += 1
        paid = np.where(self.left > 0, actions.sum(axis=1), 0)
        self.left = np.maximum(self.left - 1, 0)
        return self._show(paid.astype(np.float32))

    def close(self) -> None:
        self.closed = True

    def _show(self, rewards: Any) -> VectorStep:
        over = self.left == 0
        return VectorStep(
            obs=np.broadcast_to(self.left[:, None, None], (3, 2, 1)).astype(np.float32),
            state=self.left[:, None].astype(np.float32),
            legal_actions=np.ones((3, 2, 4), bool),
            rewards=rewards,
            terminals=over & self.even,
            truncations=over & ~self.even,
            won=over & self.even,
            agent_rewards=np.repeat(rewards[:, None], 2, axis=1),
        )


@dataclass
class Constant:
    """Always the same action; remembers how often it was asked and how many agents at a time."""

    action: int
    network_calls: int = 1

    def __post_init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def initial_state(self, n_envs: int) -> int:
        return 0

    def act(self, obs: Tensor, legal: Tensor, state: int, generator: torch.Generator | None) -> tuple[Tensor, int]:
        assert state == len(self.shapes) % 1000, "memory is handed on"
        self.shapes.append(tuple(obs.shape))
        return torch.full(obs.shape[:2], self.action), state + 1


class Dice(Constant):
    def act(self, obs: Tensor, legal: Tensor, state: int, generator: torch.Generator | None) -> tuple[Tensor, int]:
        return torch.randint(4, obs.shape[:2], generator=generator), state


def test_returns_lengths_and_wins_by_hand():
    policy, env = Constant(3), Countdown()
    result = play(policy, env, [2, 5, 4], CPU)
    assert result.returns.tolist() == [12.0, 30.0, 24.0]  # two agents, action 3, s steps
    assert result.lengths.tolist() == [2, 5, 4]
    assert result.won.tolist() == [True, False, True]
    assert policy.shapes == [(3, 2, 1)] * 5, "one call per step for all copies and agents, until the longest ends"
    assert result.return_error == pytest.approx(np.std([12, 30, 24], ddof=1) / np.sqrt(3))


def test_more_episodes_than_copies_are_played_in_rounds():
    env = Countdown()
    result = play(Dice(0), env, [1, 2, 3, 4], CPU)
    assert env.resets == [[1, 2, 3], [4, 4, 4]]
    assert result.lengths.tolist() == [1, 2, 3, 4]


def test_equal_seeds_give_equal_episodes_and_leave_global_randomness_alone():
    torch.manual_seed(5), np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first, second = (play(Dice(0), Countdown(), [7, 8, 9], CPU).returns for _ in range(2))
    assert first.tolist() == second.tolist()
    assert play(Dice(0), Countdown(), [8, 7, 9], CPU).returns.tolist() != first.tolist()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_a_module_of_another_map_is_refused():
    env: Any = Countdown()
    check_fits("countdown", env, BC(2, 1, 1, 4, True, hidden_dims=[4]))
    with pytest.raises(ValueError, match=r"'countdown' has n_agents = 2 but the model expects 5; was the data"):
        check_fits("countdown", env, BC(5, 1, 1, 4, True, hidden_dims=[4]))


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


def test_standard_error_of_one_episode_is_unknown():
    assert np.isnan(Episodes(np.ones(1), np.ones(1, bool), np.ones(1, int), 1.0, 1).return_error)


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
