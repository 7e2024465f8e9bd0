"""One game in many copies, with policies whose actions are known."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from callbacks.joint_actions import play_once, with_noises
from environments.registry import make_vector_env


@dataclass(frozen=True)
class Coins:
    """The first agent tosses a coin; the second one does the opposite, or tosses another coin."""

    shared_noise: bool = False
    network_calls: int = 3

    def initial_state(self, n_envs: int) -> None:
        return None

    def act(self, obs: Tensor, legal: Tensor, state: None, generator: torch.Generator) -> tuple[Tensor, None]:
        coins = torch.randint(2, (len(obs), 2), generator=generator)
        return torch.stack([coins[:, 0], 1 - coins[:, 0]], dim=1) if self.shared_noise else coins, None


def test_games_are_won_where_choices_differ():
    played = play_once(Coins(), make_vector_env("matrix/xor", 64))
    differ = played.actions[:, 0] != played.actions[:, 1]
    assert played.won.tolist() == differ.tolist() and played.rewards.tolist() == differ.astype(float).tolist()
    assert 10 < differ.sum() < 54 and played.calls == 3 and played.state.tolist() == [[1.0]] * 64


def test_the_same_seed_draws_the_same_and_another_one_does_not():
    env = make_vector_env("matrix/xor", 64)
    first, again, other = (play_once(Coins(), env, seed).actions for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_noises_by_name():
    env = make_vector_env("matrix/xor", 64)
    won = {noise: play_once(policy, env).won.mean() for noise, policy in with_noises(Coins()).items()}
    assert won["shared"] == 1.0 and won["own"] < 0.85
    assert list(with_noises(object())) == ["own"]  # type: ignore[arg-type]


def test_longer_games_are_refused():
    env = make_vector_env("matrix/bridge", 2)

    class Still(Coins):
        def act(self, obs: Tensor, legal: Tensor, state: None, generator: torch.Generator) -> tuple[Tensor, None]:
            return legal.long().argmax(dim=-1), None

    with pytest.raises(ValueError, match=r"expected games of one step, .* got one that goes on"):
        play_once(Still(), env)
