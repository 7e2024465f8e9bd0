import math

import torch
from torch.distributions import Normal, kl_divergence

from lightning_modules.losses.cloning import choice_cloning_error, squared_cloning_error, standard_normal_divergence
from tests.lightning_modules.batches import normal


def test_squared_error_is_a_mean_over_the_entries_that_count():
    actions, recorded = torch.tensor([[0.5, 0.0, 9.0]]), torch.tensor([[0.0, -1.0, 0.0]])
    assert squared_cloning_error(actions, recorded, torch.tensor([[True, True, False]])).item() == (0.25 + 1.0) / 2
    assert squared_cloning_error(actions, recorded, torch.zeros(1, 3, dtype=torch.bool)).item() == 0


def test_entries_that_pad_an_action_have_no_gradient():
    actions = torch.ones(1, 3, requires_grad=True)
    squared_cloning_error(actions, torch.zeros(1, 3), torch.tensor([[True, False, True]])).sum().backward()
    assert actions.grad.tolist() == [[1.0, 0.0, 1.0]]


def test_cross_entropy_is_over_legal_choices():
    logits = torch.tensor([[[0.0, math.log(3.0), 5.0]]], dtype=torch.float64)
    legal = torch.tensor([[[True, True, False]]])
    expected = torch.tensor([[math.log(4.0)]], dtype=torch.float64)
    torch.testing.assert_close(choice_cloning_error(logits, torch.tensor([[0]]), legal), expected)
    assert choice_cloning_error(logits, torch.tensor([[0]]), torch.zeros_like(legal)).isfinite().all()


def test_divergence_from_the_standard_normal_distribution():
    mean, log_std = normal(4, 3), normal(4, 3, seed=1)
    standard = Normal(torch.zeros(4, 3, dtype=torch.float64), 1.0)
    torch.testing.assert_close(
        standard_normal_divergence(mean, log_std), kl_divergence(Normal(mean, log_std.exp()), standard)
    )
    assert standard_normal_divergence(torch.zeros(2), torch.zeros(2)).tolist() == [0.0, 0.0]
