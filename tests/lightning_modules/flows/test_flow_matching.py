import pytest
import torch

from lightning_modules.flows.flow_matching import euler, flow_matching_loss


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_loss_by_hand():
    x, noise, prediction = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 1.0]]), torch.tensor([[1.0, 1.0]])
    # noise - x = (3, -1)
    torch.testing.assert_close(flow_matching_loss(prediction, x, noise), torch.tensor([[4.0, 4.0]]))


def test_the_path_velocity_has_no_loss():
    x, noise = normal(4, 3, 2, seed=0), normal(4, 3, 2, seed=1)
    assert float(flow_matching_loss(noise - x, x, noise).max()) == 0


def test_a_constant_velocity_is_exact_in_one_step():
    x, noise = normal(5, 2, seed=0), normal(5, 2, seed=1)
    torch.testing.assert_close(euler(lambda z, t: noise - x, noise, 1), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_constant_velocity_is_exact_in_any_number_of_steps(steps):
    x, noise = normal(5, 2, seed=0), normal(5, 2, seed=1)
    torch.testing.assert_close(euler(lambda z, t: noise - x, noise, steps), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
def test_three_t_squared_integrates_to_one_at_rate_one_over_steps(steps):
    # Backwards from t = 1, Euler sees the right end of every interval: Σ 3 (k/K)² / K = 1 + 3/(2K) + 1/(2K²).
    end = euler(lambda z, t: 3 * t.square(), torch.zeros(1, 1, dtype=torch.float64), steps)
    assert float(-end) == pytest.approx(1 + 1.5 / steps + 0.5 / steps**2, abs=1e-12)


def test_the_exact_gaussian_flow_is_reached_at_first_order():
    # Data N(0, ½²): v(z, t) = z (t - (1 - t)/4) / ((1 - t)²/4 + t²) carries noise to half of itself.
    def velocity(z, t):
        return z * (t - (1 - t) / 4) / ((1 - t) ** 2 / 4 + t**2)

    noise = normal(100, 1)
    errors = [float((euler(velocity, noise, steps) - noise / 2).abs().max()) for steps in (500, 1000)]
    assert errors[1] < 5e-3
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


def test_refuses_less_than_one_step():
    with pytest.raises(ValueError, match="steps of Euler's method must be at least 1, got 0"):
        euler(lambda z, t: z, torch.zeros(1, 1), 0)
