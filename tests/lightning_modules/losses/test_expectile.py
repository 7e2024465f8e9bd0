import pytest
import torch

from lightning_modules.losses.expectile import expectile_loss


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.8])
def test_the_minimiser_on_zero_and_one_is_the_expectile_itself(expectile):
    estimate = tensor(expectile).requires_grad_()
    expectile_loss(tensor(0.0, 1.0) - estimate, expectile).mean().backward()
    torch.testing.assert_close(estimate.grad, tensor(0.0), rtol=0, atol=1e-12)
    # Convex, so a zero gradient is the minimum; still, nothing on a fine grid is smaller.
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)
    losses = expectile_loss(tensor(0.0, 1.0).unsqueeze(-1) - grid, expectile).mean(dim=0)
    assert float(grid[losses.argmin()]) == pytest.approx(expectile, abs=1e-9)


def test_one_half_is_half_the_squared_error():
    error = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(expectile_loss(error, 0.5), error.square() / 2)


def test_targets_above_the_estimate_weigh_more():
    torch.testing.assert_close(expectile_loss(tensor(2.0, -2.0), 0.8), tensor(3.2, 0.8))


@pytest.mark.parametrize("expectile", [0.0, 1.0])
def test_refuses_an_expectile_outside_the_open_interval(expectile):
    with pytest.raises(ValueError, match=r"expectile must be in \(0, 1\), got"):
        expectile_loss(tensor(1.0), expectile)
