from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from callbacks.value_diagnostics import agreement, best_behaviour, returns_to_go


def recording(**fields: Any) -> Any:
    """Two episodes of 3 and 2 steps."""
    fields = {"reward_scale": 1.0, "episode_bounds": np.array([[0, 3], [3, 5]])} | fields
    ends = np.array([False, False, True, False, True])
    return SimpleNamespace(rewards=np.array([1, 2, 4, 8, 16], np.float32), ends=ends, **fields)


def test_returns_to_go_by_hand():
    assert returns_to_go(recording(), 0.5).tolist() == [3.0, 4.0, 4.0, 16.0, 16.0]
    assert returns_to_go(recording(), 0.0).tolist() == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert returns_to_go(recording(reward_scale=10.0), 1.0).tolist() == [70.0, 60.0, 40.0, 240.0, 160.0]


def test_the_best_behaviour_is_the_one_with_the_highest_return():
    data = recording(episode_behaviour=np.array([4, 1]), episode_returns=np.array([7.0, 24.0]))
    assert best_behaviour(data).tolist() == [False, False, False, True, True]
    assert best_behaviour(recording(episode_behaviour=None)) is None
    assert best_behaviour(recording(episode_behaviour=np.array([1, 1]))) is None


def test_agreement_by_hand():
    answers = {
        "q": torch.tensor([1.0, 2.0, 3.0, 4.0]),
        "v": torch.tensor([0.0, 0.0, 2.0, 2.0]),
        "advantage": torch.tensor([100.0, -3.0, 1.0, 2.0]),
    }
    followed = np.array([2.0, 4.0, 6.0, 8.0, 99.0], np.float32)  # longer than what was asked about
    best = np.array([True, False, False, True, True])
    numbers = agreement(answers, followed, best)
    assert numbers["value/q_return_correlation"] == pytest.approx(1.0)
    expected = np.corrcoef(answers["advantage"].numpy(), [2.0, 4.0, 4.0, 6.0])[0, 1]
    assert float(numbers["value/advantage_return_correlation"]) == pytest.approx(expected, abs=1e-6)
    assert numbers["value/separation"] == pytest.approx(1.0)  # 100 and 2 against -3 and 1
    assert agreement(answers, followed, ~best)["value/separation"] == pytest.approx(0.0)
    assert "value/separation" not in agreement(answers, followed, None)
