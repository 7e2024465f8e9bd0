import math

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from lightning_modules.losses.conservative import (
    agent_weights,
    categorical_divergence,
    legal_log_sum_exp,
    normal_divergence,
    normal_log_density,
    proposal_log_sum_exp,
    uniform_log_density,
)
from tests.lightning_modules.batches import generator, normal, random_legal_actions


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("constant", [-30.0, 0.0, 2.5])
def test_of_a_constant_value_it_is_the_logarithm_of_the_number_of_legal_actions(constant):
    legal = random_legal_actions(50, 3, 6)
    soft = legal_log_sum_exp(torch.full((50, 3, 6), constant, dtype=torch.float64), legal)
    torch.testing.assert_close(soft - constant, legal.sum(dim=-1).double().log())


def test_illegal_actions_neither_count_nor_learn():
    values = tensor(1.0, 50.0, 2.0).requires_grad_()
    soft = legal_log_sum_exp(values, torch.tensor([True, False, True]))
    assert float(soft.detach()) == pytest.approx(math.log(math.e + math.e**2))
    soft.backward()
    expected = tensor(1.0, 0.0, math.e) / (1 + math.e)
    torch.testing.assert_close(values.grad, expected)


def test_padding_without_legal_actions_is_finite():
    values = normal(4, 3).requires_grad_()
    soft = legal_log_sum_exp(values, torch.zeros(4, 3, dtype=torch.bool))
    soft.sum().backward()
    assert bool(soft.isfinite().all()) and bool(values.grad.isfinite().all())


def test_proposals_by_hand():
    soft = proposal_log_sum_exp(tensor(1.0, 0.0), tensor(1.5, 1.0).log())
    assert float(soft) == pytest.approx(math.log((math.e / 1.5 + 1) / 2))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_even_proposals_of_a_constant_give_the_volume_of_the_box(dim):
    counts = torch.tensor([True, True, False])  # 2 x 2
    values = torch.full((4, 5, 6), 7.0, dtype=torch.float64)
    soft = proposal_log_sum_exp(values, uniform_log_density(counts), dim)
    assert soft.shape == torch.Size(size for axis, size in enumerate((4, 5, 6)) if axis != dim)
    torch.testing.assert_close(soft, torch.full_like(soft, 7 + 2 * math.log(2)))


def test_proposals_estimate_the_integral_whatever_they_were_drawn_from():
    """The logarithm of ∫ exp(2a) da over [-1, 1] is log sinh 2."""
    even = 2 * torch.rand(200_000, generator=generator(), dtype=torch.float64) - 1
    counts = torch.tensor([True])
    soft = proposal_log_sum_exp(2 * even, uniform_log_density(counts))
    assert float(soft) == pytest.approx(math.log(math.sinh(2)), abs=0.01)
    noise = normal(200_000, 1)
    wide = proposal_log_sum_exp(-((noise.squeeze(-1)) ** 2), normal_log_density(noise, 1.0, counts))
    assert float(wide) == pytest.approx(math.log(math.pi) / 2, abs=0.01)  # ∫ exp(-x²) dx


def test_the_density_of_noise():
    noise, std = normal(6, 4), 0.2
    expected = Normal(tensor(0.0), tensor(std)).log_prob(std * noise)
    every = torch.ones(4, dtype=torch.bool)
    torch.testing.assert_close(normal_log_density(noise, std, every), expected.sum(dim=-1))
    some = torch.tensor([True, False, True, False])
    torch.testing.assert_close(normal_log_density(noise, std, some), expected[:, some].sum(dim=-1))


def test_the_divergence_of_choices():
    values, behaviour = normal(40, 5), normal(40, 5, seed=1)
    legal = random_legal_actions(40, 5)
    masked = behaviour.masked_fill(~legal, -1e9).log_softmax(dim=-1)
    ours = categorical_divergence(values, masked, legal)
    exact = [
        kl_divergence(Categorical(logits=row[allowed]), Categorical(logits=other[allowed]))
        for row, other, allowed in zip(values, behaviour, legal, strict=True)
    ]
    torch.testing.assert_close(ours, torch.stack(exact), rtol=0, atol=2e-3)  # up to the smallest chance of 1e-5
    torch.testing.assert_close(
        categorical_divergence(values, values.masked_fill(~legal, -1e9).log_softmax(-1), legal),
        torch.zeros(40, dtype=torch.float64),
        rtol=0,
        atol=1e-12,
    )


def test_an_impossible_choice_has_a_finite_divergence():
    far = categorical_divergence(tensor(900.0, 0.0), tensor(-900.0, 0.0), torch.tensor([True, True]))
    assert float(far) == pytest.approx(-math.log(1e-5), rel=1e-3)


def test_the_divergence_of_normal_distributions():
    mean, other = normal(7, 3), normal(7, 3, seed=1)
    std, other_std = tensor(0.2, 0.5, 1.0), tensor(0.4, 0.4, 3.0)
    expected = kl_divergence(Normal(mean, std), Normal(other, other_std))
    counts = torch.tensor([True, False, True])
    ours = normal_divergence(mean, std, other, other_std, counts)
    torch.testing.assert_close(ours, expected[:, counts].sum(dim=-1))


def test_weights_of_agents():
    divergences = tensor(0.0, math.log(2), math.log(5)).requires_grad_()
    torch.testing.assert_close(agent_weights(divergences, 0.0), torch.full((3,), 1 / 3, dtype=torch.float64))
    torch.testing.assert_close(agent_weights(divergences, 1.0), tensor(1.0, 2.0, 5.0) / 8)
    torch.testing.assert_close(agent_weights(divergences, -1.0), tensor(10.0, 5.0, 2.0) / 17)
    assert torch.equal(agent_weights(divergences, math.inf), tensor(0.0, 0.0, 1.0))
    assert torch.equal(agent_weights(divergences, -math.inf), tensor(1.0, 0.0, 0.0))
    torch.testing.assert_close(agent_weights(divergences, 1e4), tensor(0.0, 0.0, 1.0))
    assert not agent_weights(divergences, 1.0).requires_grad
