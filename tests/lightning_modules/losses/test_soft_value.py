import math

import pytest
import torch

from lightning_modules.losses.soft_value import soft_value_loss


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


Q = tensor(-1.0, 0.5, 2.0, 2.5)


def slope_at(v, weight, temperature, q=Q):
    value = tensor(v).requires_grad_()
    soft_value_loss(q, value.expand(len(q)), weight, temperature).mean().backward()
    return float(value.grad)


@pytest.mark.parametrize(("weight", "temperature"), [(1.0, 1.0), (0.3, 0.5), (2.0, 10.0)])
def test_the_minimiser_is_the_soft_maximum(weight, temperature):
    optimum = float(temperature / weight * (weight * Q / temperature).exp().mean().log())
    assert slope_at(optimum, weight, temperature) == pytest.approx(0, abs=1e-12)
    assert slope_at(optimum - 0.1, weight, temperature) < -1e-6
    assert slope_at(optimum + 0.1, weight, temperature) > 1e-6


def test_gradient_descent_finds_the_soft_maximum():
    value = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    for _ in range(2000):
        (gradient,) = torch.autograd.grad(soft_value_loss(Q, value.expand(4), 0.5, 1.0).mean(), value)
        value = (value - 0.5 * gradient).detach().requires_grad_()
    assert float(value.detach()) == pytest.approx(float(2 * (Q / 2).exp().mean().log()), abs=1e-8)


def test_the_temperature_goes_from_the_mean_to_the_maximum():
    def minimiser(temperature):
        low, high = -1.0, 2.5
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if slope_at(middle, 1.0, temperature) < 0 else (low, middle)
        return low

    assert minimiser(1e4) == pytest.approx(float(Q.mean()), abs=1e-3)
    assert minimiser(0.4) == pytest.approx(2.5, abs=0.5)


def test_values_by_hand():
    # z = 0 and m = 0; then z = -5 and m = -1; then z = 2 and m = 2.
    torch.testing.assert_close(soft_value_loss(tensor(3.0), tensor(3.0), 1.0, 1.0), tensor(1.0 + 3.0))
    torch.testing.assert_close(soft_value_loss(tensor(-3.0), tensor(2.0), 1.0, 1.0), tensor(math.exp(-4) + 2 * math.e))
    torch.testing.assert_close(soft_value_loss(tensor(9.0), tensor(1.0), 0.5, 2.0), tensor(1 + math.exp(-2) * 0.25))


def test_every_agent_has_its_own_weight_and_the_loss_is_not_reduced():
    q, v, weight = (
        tensor([1.0, 2.0], [3.0, 4.0]),
        torch.zeros(2, 2, dtype=torch.float64),
        tensor([1.0, 0.0], [0.5, 0.25]),
    )
    torch.testing.assert_close(soft_value_loss(q, v, weight, 1.0), (weight * q - 1.5).exp())


def test_clipped_entries_only_pull_the_value_down():
    value = tensor(0.0).requires_grad_()
    soft_value_loss(tensor(1e9), value, 0.5, 1.0).sum().backward()
    assert float(value.grad) == pytest.approx(0.5 * math.exp(-10))


def test_only_the_value_receives_a_gradient():
    q, v, weight = (tensor(number).requires_grad_() for number in (1.0, 2.0, 0.5))
    soft_value_loss(q, v, weight, 1.0).sum().backward()
    assert q.grad is None and weight.grad is None and v.grad is not None


def test_refuses_impossible_options():
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        soft_value_loss(Q, Q, 1.0, 0.0)
    with pytest.raises(ValueError, match="clip must be above 0, got -1"):
        soft_value_loss(Q, Q, 1.0, 1.0, clip=-1.0)


def test_padding_does_not_rescale_the_gradient():
    """Only entries that count choose m: with padding of any size they have the loss that they have alone."""
    q, v = tensor(0.5, -0.3, 9.0), tensor(0.1, 0.2, 0.0)
    alone = soft_value_loss(q[:2], v[:2], 1.0, 1.0)
    padded = soft_value_loss(q, v, 1.0, 1.0, mask=torch.tensor([True, True, False]))
    torch.testing.assert_close(padded[:2], alone, rtol=0, atol=0)
    assert float(soft_value_loss(q, v, 1.0, 1.0)[0]) < 1e-3 < float(alone[0])
