import math

import pytest
import torch

from lightning_modules.flows.path import interpolate, path_velocity, sample_instants, sample_times

N_ROWS = 200_000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def points(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_time_zero_is_data_and_time_one_is_noise():
    x, noise = points(5, 3, seed=0), points(5, 3, seed=1)
    zero, one = torch.zeros(5, 1, dtype=torch.float64), torch.ones(5, 1, dtype=torch.float64)
    assert torch.equal(interpolate(x, noise, zero), x)
    assert torch.equal(interpolate(x, noise, one), noise)
    assert torch.equal(interpolate(x, noise, 0), x)


def test_a_quarter_of_the_way_by_hand():
    x, noise = torch.tensor([[4.0, -2.0]]), torch.tensor([[8.0, 2.0]])
    torch.testing.assert_close(interpolate(x, noise, torch.tensor([[0.25]])), torch.tensor([[5.0, -1.0]]))


def test_the_derivative_of_the_path_is_the_stated_velocity():
    x, noise = points(2, 4, 3, seed=0), points(2, 4, 3, seed=1)
    t = torch.rand(2, 4, 1, generator=generator(2), dtype=torch.float64)
    _, derivative = torch.func.jvp(lambda time: interpolate(x, noise, time), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(derivative, path_velocity(x, noise), rtol=0, atol=1e-12)


@pytest.mark.parametrize("distribution", ["uniform", "logit_normal"])
@pytest.mark.parametrize("flow_ratio", [0.0, 0.3, 0.5, 1.0])
def test_times_are_ordered_bounded_and_the_share_is_exact(distribution, flow_ratio):
    r, t, average = sample_times((64, 7), flow_ratio, 0.05, distribution, generator())
    assert r.shape == t.shape == (64, 7, 1)
    assert average.shape == (64, 7) and average.dtype == torch.bool
    assert int(average.sum()) == round(flow_ratio * 64 * 7)
    assert bool((r[average] < t[average]).all())
    assert torch.equal(r[~average], t[~average])
    assert float(r.min()) >= 0 and float(t.min()) >= 0.05 and float(t.max()) <= 1


def test_r_reaches_below_the_smallest_t():
    r, _, average = sample_times((10_000,), 1.0, 0.5, "uniform", generator())
    assert bool(average.all()) and float(r.min()) < 0.01


def test_uniform_times_are_the_ordered_pair_of_two_uniforms():
    # E max = 2/3 and E min = 1/3; their standard error over 200,000 draws is 5e-4.
    r, t, average = sample_times((N_ROWS,), 0.5, 0.1, "uniform", generator())
    assert float(t.mean()) == pytest.approx(0.1 + 0.9 * 2 / 3, abs=3e-3)
    assert float(r[average].mean()) == pytest.approx(1 / 3, abs=3e-3)


def test_logit_normal_times_have_the_requested_logits():
    # The median of the larger of two N(m, s²) is m + s Φ⁻¹(√½), that of the smaller m - s Φ⁻¹(√½).
    r, t, average = sample_times((N_ROWS,), 0.5, 0.0, "logit_normal", generator(), mean=-1.0, std=2.0)
    quantile = torch.special.ndtri(torch.tensor(math.sqrt(0.5))).item()
    assert float(t.logit().median()) == pytest.approx(-1 + 2 * quantile, abs=0.03)
    assert float(r[average].logit().median()) == pytest.approx(-1 - 2 * quantile, abs=0.03)


def test_the_rows_with_r_below_t_are_random_and_equally_likely():
    source = generator()
    counts = sum(sample_times((10,), 0.5, 0.0, "uniform", source).average.double() for _ in range(2000))
    # Binomial(2000, 1/2) has a deviation of 22: five of them.
    assert float((counts - 1000).abs().max()) < 5 * 22.4


@pytest.mark.parametrize("distribution", ["uniform", "logit_normal"])
def test_all_randomness_comes_from_the_generator(distribution):
    torch.manual_seed(0)
    first = sample_times((50,), 0.5, 0.05, distribution, generator(3))
    torch.manual_seed(1)
    second = sample_times((50,), 0.5, 0.05, distribution, generator(3))
    other = sample_times((50,), 0.5, 0.05, distribution, generator(4))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first.t, other.t)


def test_a_single_row_without_a_leading_shape():
    r, t, average = sample_times((), 1.0, 0.05, "uniform", generator())
    assert r.shape == t.shape == (1,) and average.shape == ()


@pytest.mark.parametrize("flow_ratio", [-0.1, 1.1])
def test_refuses_an_impossible_share(flow_ratio):
    with pytest.raises(ValueError, match=r"flow_ratio must be in \[0, 1\], got"):
        sample_times((4,), flow_ratio, 0.05, "uniform", generator())


@pytest.mark.parametrize("min_time", [-0.1, 1.0])
def test_refuses_an_impossible_smallest_time(min_time):
    with pytest.raises(ValueError, match=r"min_time must be in \[0, 1\), got"):
        sample_times((4,), 0.5, min_time, "uniform", generator())
    with pytest.raises(ValueError, match=r"min_time must be in \[0, 1\), got"):
        sample_instants((4,), min_time, generator())


def test_instants_are_uniform_above_the_smallest_time():
    t = sample_instants((N_ROWS,), 0.2, generator())
    assert t.shape == (N_ROWS, 1) and float(t.min()) >= 0.2 and float(t.max()) <= 1
    shares = torch.histc(t, 8, min=0.2, max=1.0) / N_ROWS
    assert float((shares - 1 / 8).abs().max()) < 4 * (7 / 64 / N_ROWS) ** 0.5
    assert torch.equal(t, sample_instants((N_ROWS,), 0.2, generator()))


def test_refuses_an_unknown_distribution():
    with pytest.raises(ValueError, match="unknown time distribution 'beta'; choose"):
        sample_times((4,), 0.5, 0.05, "beta", generator())
