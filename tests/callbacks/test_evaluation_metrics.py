"""Averages of returns, against scipy and by hand, and what a decision costs."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import trim_mean
from torch import Tensor, nn

from callbacks.episodes import Episodes
from callbacks.evaluation_metrics import (
    InterquartileMean,
    StandardDeviation,
    acting_parameters,
    averages,
    evaluation_metrics,
)
from lightning_modules import BC, VGM2P
from lightning_modules.networks.policies import StandardisedPolicy
from tests.callbacks.test_episodes import Constant


@pytest.mark.parametrize("number", [*range(1, 10), 64, 257])
def test_iqm_is_scipys_trimmed_mean(number: int):
    values = torch.from_numpy(np.random.default_rng(number).standard_cauchy(number))
    metric = InterquartileMean().set_dtype(torch.float64)
    metric.update(values)
    assert float(metric.compute()) == pytest.approx(trim_mean(values.numpy(), 0.25), rel=1e-12)


def test_iqm_by_hand_and_over_several_updates():
    metric = InterquartileMean()
    metric.update(torch.tensor([100.0, 1.0]))
    metric.update(torch.tensor([3.0, -50.0, 2.0, 4.0]))
    assert float(metric.compute()) == 2.5, "1, 2, 3 and 4 are left of six"
    metric.reset()
    metric.update(torch.tensor([7.0]))
    assert float(metric.compute()) == 7.0


def test_deviation_divides_by_the_number():
    metric = StandardDeviation()
    metric.update(torch.tensor([1.0, 3.0]))
    assert float(metric.compute()) == 1.0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("kind", [InterquartileMean, StandardDeviation])
def test_nothing_to_average(kind: Any):
    with pytest.raises(ValueError, match=rf"{kind.__name__} expected at least one value before compute\(\), got none"):
        kind().compute()


def test_scores_exist_only_where_references_do():
    numbers = averages(np.array([0.5, 1.0, 0.0, 1.0]), "matrix/xor")
    assert numbers == {
        "return_mean": 0.625,
        "return_std": np.sqrt(0.171875),
        "return_iqm": 0.75,
        "normalised_score": 25,
    }
    for scenario in ("mpe/simple_tag", "my_games:harvest"):
        assert set(averages(np.ones(2), scenario)) == {"return_mean", "return_std", "return_iqm"}


def test_what_is_not_a_number_shows():
    assert all(np.isnan(value) for value in averages(np.array([1.0, np.nan]), "matrix/xor").values())


def test_everything_about_a_policys_episodes():
    result = Episodes(np.array([1.0, 0.0]), np.array([True, False]), np.array([3, 6]), 1.5, 2, lost=4)
    numbers = evaluation_metrics(result, Constant(0, network_calls=2), "matrix/xor", can_be_won=True)
    assert numbers == {
        "return_mean": 0.5,
        "return_std": 0.5,
        "return_iqm": 0.5,
        "normalised_score": 0.0,
        "win_rate": 0.5,
        "episode_length": 4.5,
        "ms_per_decision": 1.5,
        "lost_episodes": 4.0,
        "network_calls": 2.0,
        "parameters": 0.0,
    }
    assert "win_rate" not in evaluation_metrics(result, Constant(0), "matrix/xor", can_be_won=False)


@dataclass
class Several(Constant):
    """Holds networks in all ways that there are; one of them twice."""

    action: int = 0
    networks: list[nn.Module] = field(default_factory=list)
    by_name: dict[str, nn.Module] = field(default_factory=dict)
    inner: Any = None
    mean: Tensor = field(default_factory=lambda: torch.zeros(100))


def test_parameters_of_the_acting_networks_count_once():
    one, two, three = nn.Linear(3, 2), nn.Linear(1, 1), nn.Linear(4, 1, bias=False)  # 8, 2 and 4
    policy: Any = Several(networks=[one, two], by_name={"again": one}, inner=Several(networks=[three]))
    assert acting_parameters(policy) == 14
    assert acting_parameters(StandardisedPolicy(policy, torch.zeros(9), torch.ones(9))) == 14


class Plain:
    """Neither a dataclass nor a module."""

    def __init__(self) -> None:
        self.network, self.scale = nn.Linear(3, 2), 2.0


def test_parameters_of_any_object_and_of_the_algorithms():
    plain: Any = Plain()
    assert acting_parameters(plain) == 8
    bc = BC(2, 3, 1, 4, True, hidden_dims=[8])
    assert acting_parameters(bc.policy) == sum(p.numel() for p in bc.parameters())
    vgm2p = VGM2P(n_agents=2, obs_dim=3, state_dim=1, action_dim=4, discrete=True, hidden_dims=[8])
    acting = sum(p.numel() for p in vgm2p.acting_velocity.parameters())
    assert 0 < acting == acting_parameters(vgm2p.policy), "neither critic nor the trained copy"
