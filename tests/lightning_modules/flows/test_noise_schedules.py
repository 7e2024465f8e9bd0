import math

import pytest
import torch

from lightning_modules.flows.noise_schedules import (
    cosine_schedule,
    draw_levels,
    linear_schedule,
    noise_schedule,
    visited_levels,
    vp_schedule,
)
from tests.lightning_modules.batches import generator

KINDS = pytest.mark.parametrize("kind", ["vp", "linear", "cosine"])
pytestmark = pytest.mark.usefixtures("float64")


def kept_by(added):
    """ᾱ of a list of β, one product at a time."""
    kept = [1.0]
    for beta in added:
        kept.append(kept[-1] * (1 - beta))
    return torch.tensor(kept)


@KINDS
@pytest.mark.parametrize("levels", [1, 5, 100])
def test_everything_is_kept_at_first_and_then_ever_less_but_always_something(kind, levels):
    kept = noise_schedule(kind, levels)
    assert kept.shape == (levels + 1,) and kept.dtype == torch.float64
    assert float(kept[0]) == 1 and float(kept[-1]) > 0
    assert bool((kept[1:] < kept[:-1]).all())


@KINDS
def test_it_ends_in_noise_whatever_the_number_of_levels(kind):
    assert float(noise_schedule(kind, 50)[-1]) < 0.007


def test_vp_is_the_product_of_its_steps():
    """β_k as the paper writes it, multiplied; the schedule has the product in closed form."""
    added = [1 - math.exp(-0.1 / 5 - 0.5 * (10 - 0.1) * (2 * k - 1) / 25) for k in range(1, 6)]
    torch.testing.assert_close(vp_schedule(5), kept_by(added), rtol=0, atol=1e-12)
    assert float(vp_schedule(5)[-1]) == pytest.approx(math.exp(-5.05), abs=1e-12)


def test_linear_is_the_published_one_at_a_thousand_levels_and_its_scaled_form_at_others():
    thousand = [1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)]
    torch.testing.assert_close(linear_schedule(1000), kept_by(thousand), rtol=0, atol=1e-12)
    hundred = [10 * (1e-4 + (0.02 - 1e-4) * k / 99) for k in range(100)]
    torch.testing.assert_close(linear_schedule(100), kept_by(hundred), rtol=0, atol=1e-12)


def test_cosine_in_the_middle_and_where_it_is_cut():
    at = [math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0.0, 0.5)]
    kept = cosine_schedule(10)
    assert float(kept[5]) == pytest.approx(at[1] / at[0], abs=1e-12)
    assert float(kept[10]) == pytest.approx(0.001 * float(kept[9]), abs=1e-15)


@pytest.mark.parametrize(("kind", "name"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_diffusers_has_the_same_schedules(kind, name):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule=name)
    torch.testing.assert_close(noise_schedule(kind, 1000)[1:].float(), scheduler.alphas_cumprod, rtol=1e-3, atol=1e-6)


def test_visited_levels():
    assert visited_levels(5, 5) == (5, 4, 3, 2, 1, 0)
    assert visited_levels(10, 4) == (10, 8, 5, 2, 0)
    assert visited_levels(100, 1) == (100, 0)


@pytest.mark.parametrize("levels", [1, 2, 7, 100])
def test_visited_levels_always_fall(levels):
    for steps in range(1, levels + 1):
        visited = visited_levels(levels, steps)
        assert len(visited) == steps + 1 and list(visited) == sorted(set(visited), reverse=True)


def test_an_update_draws_every_level_but_the_data_equally_often():
    drawn = draw_levels((300, 100), 4, generator())
    assert drawn.shape == (300, 100, 1) and drawn.dtype == torch.int64
    shares = torch.bincount(drawn.flatten(), minlength=5) / 30000
    assert float(shares[0]) == 0
    torch.testing.assert_close(shares[1:], torch.full((4,), 0.25), rtol=0, atol=0.01)  # 4 standard errors
    assert torch.equal(drawn, draw_levels((300, 100), 4, generator()))


@pytest.mark.parametrize("steps", [0, 6])
def test_refuses_more_steps_than_levels_and_none(steps):
    with pytest.raises(ValueError, match=rf"steps of a diffusion sampler must be in 1..5, its levels, got {steps}"):
        visited_levels(5, steps)


def test_refuses_a_schedule_without_levels_or_of_unknown_kind():
    with pytest.raises(ValueError, match="levels of a noise schedule must be at least 1, got 0"):
        noise_schedule("vp", 0)
    with pytest.raises(ValueError, match="unknown noise schedule 'sigmoid'; choose 'vp', 'linear' or 'cosine'"):
        noise_schedule("sigmoid", 5)
