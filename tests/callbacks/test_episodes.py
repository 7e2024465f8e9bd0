"""Whole episodes, against an environment whose episodes can be computed by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from callbacks.episodes import Episodes, check_fits, play
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


class Failing(Countdown):
    """The same, but the simulators of some copies break down in their first step."""

    def __init__(self, failing: Sequence[int]) -> None:
        super().__init__()
        self.failing = list(failing)
        self.lost = np.zeros(3, bool)

    def reset(self, seeds: Sequence[int]) -> VectorStep:
        self.lost[:] = False
        return super().reset(seeds)

    def step(self, actions: Any) -> VectorStep:
        self.lost[self.failing] = True
        return super().step(actions)

    def _show(self, rewards: Any) -> VectorStep:
        shown = super()._show(np.where(self.lost, 0, rewards))
        truncations = shown.truncations | self.lost
        return shown._replace(truncations=truncations, won=shown.won & ~self.lost, lost=self.lost.copy())


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


class Always(Constant):
    def act(self, obs: Tensor, legal: Tensor, state: int, generator: torch.Generator | None) -> tuple[Tensor, int]:
        return torch.full(obs.shape[:2], self.action), state


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


def test_lost_episodes_count_nowhere():
    result = play(Constant(3), Failing([1]), [2, 5, 4], CPU)
    assert result.returns.tolist() == [12.0, 24.0]
    assert result.lengths.tolist() == [2, 4]
    assert result.won.tolist() == [True, True]
    assert result.lost == 1


def test_copies_without_an_episode_of_their_own_cannot_lose_one():
    result = play(Always(3), Failing([2]), [2, 5, 4, 6], CPU)
    assert result.returns.tolist() == [12.0, 30.0, 36.0]  # 4 was the third copy's; it lost a copy of 6, too
    assert result.lost == 1


def test_nothing_but_lost_episodes_is_an_error():
    with pytest.raises(RuntimeError, match=r"'countdown' lost all 4 episodes .* take RolloutEvaluation out"):
        play(Always(3), Failing([0, 1, 2]), [2, 5, 4, 6], CPU)


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


def test_standard_error_of_one_episode_is_unknown():
    assert np.isnan(Episodes(np.ones(1), np.ones(1, bool), np.ones(1, int), 1.0, 1).return_error)
