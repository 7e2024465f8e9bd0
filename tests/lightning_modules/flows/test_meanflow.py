import pytest
import torch

from lightning_modules.flows.meanflow import (
    adaptive_weight,
    compound_velocity,
    endpoint_from_velocity,
    meanflow_target,
    sample,
    time_derivative,
    velocity_from_endpoint,
)
from lightning_modules.flows.path import interpolate, path_velocity

MEAN, STD = 0.7, 0.5
"""Data N(0.7, 0.5²), for which everything is known exactly."""


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def marginal_std(t):
    return ((1 - t) ** 2 * STD**2 + t**2).sqrt()


def exact_velocity(z, t):
    """E[noise - x | z_t = z] for Gaussian data."""
    slope = (t - (1 - t) * STD**2) / marginal_std(t) ** 2
    return -MEAN + slope * (z - (1 - t) * MEAN)


def exact_average_velocity(z, r, t):
    """(z_t - z_r) / (t - r) along the exact flow, on which (z_t - (1 - t) mean) / std_t is constant."""
    end = (1 - r) * MEAN + marginal_std(r) / marginal_std(t) * (z - (1 - t) * MEAN)
    return (z - end) / (t - r)


@pytest.fixture
def rows():
    source = torch.Generator().manual_seed(0)
    r, t = torch.rand(2, 64, 1, generator=source, dtype=torch.float64).sort(dim=0).values
    return torch.randn(64, 3, generator=source, dtype=torch.float64), r, t


def test_the_exact_gaussian_flow_satisfies_the_meanflow_identity(rows):
    z, r, t = rows
    velocity = exact_velocity(z, t)
    u, derivative = time_derivative(exact_average_velocity, z, r, t, velocity)
    torch.testing.assert_close(u, exact_average_velocity(z, r, t), rtol=0, atol=0)
    assert float((u - meanflow_target(velocity, derivative, r, t)).abs().max()) < 1e-10
    assert float((compound_velocity(u, derivative, r, t) - velocity).abs().max()) < 1e-10


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_any_number_of_steps_of_the_exact_flow_gives_the_exact_map(steps):
    noise = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = sample(exact_average_velocity, noise, steps)
    torch.testing.assert_close(data, MEAN + STD * noise, rtol=0, atol=1e-12)


def test_the_derivative_matches_finite_differences_along_the_flow(rows):
    z, r, t = rows
    tangent = exact_velocity(z, t) + 1.0  # any direction will do, not only the flow's own

    def u(z, r, t):
        return torch.sin(z * t) + r.exp() * z.square()

    h = 1e-6
    along = (u(z + h * tangent, r, t + h) - u(z - h * tangent, r, t - h)) / (2 * h)
    _, derivative = time_derivative(u, z, r, t, tangent)
    torch.testing.assert_close(derivative, along, rtol=1e-7, atol=1e-7)


def test_point_mass_data_give_a_straight_flow():
    x, noise, t = tensor([0.3, -0.8]), tensor([1.5, 0.2]), tensor([0.6])
    z = interpolate(x, noise, t)
    torch.testing.assert_close(velocity_from_endpoint(z, x, t), path_velocity(x, noise), rtol=0, atol=1e-12)
    torch.testing.assert_close(sample(lambda z, r, t: velocity_from_endpoint(z, x, t), noise, 3), x, rtol=0, atol=1e-12)


def test_equal_times_reduce_to_flow_matching(rows):
    z, _, t = rows
    velocity, derivative = z.cos(), 1e3 * z
    assert torch.equal(meanflow_target(velocity, derivative, t, t), velocity)
    assert torch.equal(compound_velocity(velocity, derivative, t, t), velocity)


def test_target_and_compound_velocity_by_hand():
    velocity, derivative, r, t = tensor([2.0]), tensor([3.0]), tensor([0.25]), tensor([0.75])
    torch.testing.assert_close(meanflow_target(velocity, derivative, r, t), tensor([0.5]))  # 2 - ½ · 3
    torch.testing.assert_close(compound_velocity(velocity, derivative, r, t), tensor([3.5]))  # 2 + ½ · 3


def test_no_gradient_reaches_the_target():
    velocity, derivative = tensor([2.0]).requires_grad_(), tensor([3.0]).requires_grad_()
    r, t = tensor([0.25]), tensor([0.75])
    assert not meanflow_target(velocity, derivative, r, t).requires_grad
    compound_velocity(velocity, derivative, r, t).sum().backward()
    assert velocity.grad == 1 and derivative.grad is None


def test_both_objectives_have_the_same_gradient(rows):
    z, r, t = rows
    weight = tensor(0.4).requires_grad_()
    velocity = z.sin()

    def u(z, r, t):
        return weight * (z * t).tanh() + (t - r) * z * weight

    value, derivative = time_derivative(u, z, r, t, velocity)
    plain = (value - meanflow_target(velocity, derivative, r, t)).square().sum()
    improved = (compound_velocity(value, derivative, r, t) - velocity).square().sum()
    (first,) = torch.autograd.grad(plain, weight, retain_graph=True)
    (second,) = torch.autograd.grad(improved, weight)
    torch.testing.assert_close(first, second)
    assert float(first.abs()) > 1e-3


def test_endpoint_and_velocity_are_inverse(rows):
    z, _, t = rows
    endpoint = z.tanh()
    back = endpoint_from_velocity(z, velocity_from_endpoint(z, endpoint, t), t)
    torch.testing.assert_close(back, endpoint, rtol=0, atol=1e-12)


def test_one_step_of_an_endpoint_network_lands_on_the_endpoint():
    noise = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = sample(lambda z, r, t: velocity_from_endpoint(z, z.tanh(), t), noise)
    torch.testing.assert_close(data, noise.tanh(), rtol=0, atol=1e-12)


def test_the_sampler_walks_from_one_to_zero():
    visited = []

    def u(z, r, t):
        visited.append((r.item(), t.item()))
        assert r.shape == t.shape == (1, 1)
        return torch.zeros_like(z)

    sample(u, torch.zeros(1, 4), 4)
    assert visited == [(0.75, 1.0), (0.5, 0.75), (0.25, 0.5), (0.0, 0.25)]


def test_the_adaptive_weight_by_hand():
    error = tensor(0.0, 0.24, 3.99)
    torch.testing.assert_close(adaptive_weight(error, 1.0, 0.01), tensor(100.0, 4.0, 0.25))
    torch.testing.assert_close(adaptive_weight(error, 0.5, 0.01), tensor(10.0, 2.0, 0.5))


def test_exponent_zero_is_exactly_one():
    assert torch.equal(adaptive_weight(tensor(0.0, 1e-30, 7.0), 0.0), torch.ones(3, dtype=torch.float64))


def test_no_gradient_flows_through_the_adaptive_weight():
    assert not adaptive_weight(tensor(1.0).requires_grad_(), 1.0).requires_grad


def test_refuses_impossible_options():
    with pytest.raises(ValueError, match="exponent of the adaptive weight must be at least 0, got -1"):
        adaptive_weight(tensor(1.0), -1)
    with pytest.raises(ValueError, match="epsilon of the adaptive weight must be above 0, got 0"):
        adaptive_weight(tensor(1.0), 1, 0)
    with pytest.raises(ValueError, match="steps of the MeanFlow sampler must be at least 1, got 0"):
        sample(exact_average_velocity, torch.zeros(1, 1), 0)
