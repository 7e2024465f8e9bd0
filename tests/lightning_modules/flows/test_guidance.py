import math

import pytest
import torch

from lightning_modules.flows.guidance import (
    drop_condition,
    effective_scale,
    guide,
    input_guided_velocity,
    sample_scale,
    train_guided_velocity,
)

N_ROWS = 100_000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_scale_zero_is_unconditional_one_conditional_and_linear_between():
    unconditional, conditional = normal(4, 3, 2, seed=0), normal(4, 3, 2, seed=1)
    assert torch.equal(guide(unconditional, conditional, 0.0), unconditional)
    torch.testing.assert_close(guide(unconditional, conditional, 1.0), conditional, rtol=0, atol=1e-12)
    middle = (unconditional + conditional) / 2
    torch.testing.assert_close(guide(unconditional, conditional, 0.5), middle, rtol=0, atol=1e-12)
    beyond = 3 * conditional - 2 * unconditional
    torch.testing.assert_close(guide(unconditional, conditional, 3.0), beyond, rtol=0, atol=1e-12)


def test_every_row_has_its_own_scale():
    guided = guide(torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([[2.0], [5.0]]))
    assert torch.equal(guided, torch.tensor([[2.0] * 3, [5.0] * 3]))


def test_guided_local_policies_coordinate_ever_more_often():
    """Two agents, four joint actions; the first two succeed. Guidance tilts each agent's own marginal.

    Independent guided policies pick the majority corner ever more often, although none sees the other.
    """
    joint = torch.tensor([[0.15, 0.50], [0.20, 0.15]], dtype=torch.float64)  # rows: agent 1 (-, +); columns: agent 2
    success = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    conditional = joint * success / (joint * success).sum()
    given_action = (joint * success).sum(dim=1) / joint.sum(dim=1)
    torch.testing.assert_close(given_action, torch.tensor([0.769, 0.571], dtype=torch.float64), rtol=0, atol=5e-4)

    def success_rate(scale):
        first, second = (
            guide(joint.sum(dim=dim).log(), conditional.sum(dim=dim).log(), scale).softmax(dim=0) for dim in (1, 0)
        )
        return float((torch.outer(first, second) * success).sum())

    rates = [success_rate(scale) for scale in (0.0, 1.0, 3.0, 10.0)]
    assert rates == pytest.approx([0.545, 0.592, 0.704, 0.948], abs=5e-4)


def test_guided_log_probabilities_are_the_tilted_distribution():
    behaviour = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    good = torch.tensor([0.2, 0.9, 0.4], dtype=torch.float64)
    conditional = behaviour * good / (behaviour * good).sum()
    for scale in (0.0, 1.0, 4.0):
        tilted = behaviour * good**scale
        guided = guide(behaviour.log(), conditional.log(), scale).softmax(dim=0)
        torch.testing.assert_close(guided, tilted / tilted.sum(), rtol=0, atol=1e-12)


def test_dropout_has_its_rate():
    mask = drop_condition((N_ROWS,), 0.1, generator())
    assert mask.dtype == torch.bool and mask.shape == (N_ROWS,)
    assert float(mask.double().mean()) == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / N_ROWS))


def test_dropout_always_and_never():
    assert bool(drop_condition((7, 3), 1.0, generator()).all())
    assert not bool(drop_condition((7, 3), 0.0, generator()).any())


def test_scales_are_log_uniform():
    scale = sample_scale((N_ROWS, 1), 8.0, generator())
    assert scale.shape == (N_ROWS, 1) and float(scale.min()) >= 1 and float(scale.max()) <= 8.0001
    shares = scale.log().div(math.log(8)).mul(4).floor().clamp(max=3).long().flatten().bincount(minlength=4) / N_ROWS
    torch.testing.assert_close(shares, torch.full((4,), 0.25), rtol=0, atol=5 * math.sqrt(0.25 * 0.75 / N_ROWS))


def test_a_largest_scale_of_one_is_no_guidance():
    assert torch.equal(sample_scale((5,), 1.0, generator()), torch.ones(5))


def test_draws_come_from_the_generator_alone():
    for draw in (lambda g: drop_condition((99,), 0.5, g), lambda g: sample_scale((99,), 4.0, g)):
        torch.manual_seed(0)
        first = draw(generator(5))
        torch.manual_seed(1)
        assert torch.equal(first, draw(generator(5)))
        assert not torch.equal(first, draw(generator(6)))


def test_input_guidance_by_hand():
    v, conditional, unconditional = torch.tensor([1.0]), torch.tensor([5.0]), torch.tensor([3.0])
    torch.testing.assert_close(input_guided_velocity(v, conditional, unconditional, 4.0), torch.tensor([2.5]))
    assert torch.equal(input_guided_velocity(v, conditional, unconditional, 1.0), v)


@pytest.mark.parametrize("scale", [1.0, 2.0, 8.0])
def test_input_guidance_settles_at_the_guided_velocity(scale):
    velocities, unconditional = normal(50, 2, seed=0) + 1, normal(1, 2, seed=1)  # v given the condition; v_∅*
    scales = torch.full((50, 1), scale, dtype=torch.float64)
    answer = torch.zeros(1, 2, dtype=torch.float64)
    for _ in range(300):  # contracts by 1 - 1/w
        answer = input_guided_velocity(velocities, answer, unconditional, scales).mean(dim=0, keepdim=True)
    guided = guide(unconditional, velocities.mean(dim=0, keepdim=True), scale)
    torch.testing.assert_close(answer, guided, rtol=0, atol=1e-10)


def test_built_in_guidance_by_hand():
    v, conditional, unconditional = torch.tensor([1.0]), torch.tensor([10.0]), torch.tensor([100.0])
    # 2 · 1 + (1 - 2 - ½) · 100 + ½ · 10
    target = train_guided_velocity(v, conditional, unconditional, 2.0, 0.5)
    torch.testing.assert_close(target, torch.tensor([-143.0]))


@pytest.mark.parametrize(
    ("omega", "kappa", "scale"), [(1.0, 0.5, 2.0), (3.0, 0.0, 3.0), (0.5, 0.75, 2.0), (0.4, 0.6, 1.0)]
)
def test_built_in_guidance_settles_at_its_effective_scale(omega, kappa, scale):
    assert effective_scale(omega, kappa) == pytest.approx(scale)
    velocities, unconditional = normal(50, 2, seed=0) + 1, normal(1, 2, seed=1)
    answer = torch.zeros(1, 2, dtype=torch.float64)
    for _ in range(150):  # contracts by κ
        answer = train_guided_velocity(velocities, answer, unconditional, omega, kappa).mean(dim=0, keepdim=True)
    guided = guide(unconditional, velocities.mean(dim=0, keepdim=True), scale)
    torch.testing.assert_close(answer, guided, rtol=0, atol=1e-10)


def test_no_gradient_reaches_the_guided_targets():
    v, conditional, unconditional = (normal(3, 2, seed=seed).requires_grad_() for seed in range(3))
    assert not input_guided_velocity(v, conditional, unconditional, 2.0).requires_grad
    assert not train_guided_velocity(v, conditional, unconditional, 1.0, 0.5).requires_grad
    assert guide(unconditional, conditional, 2.0).requires_grad


def test_refuses_impossible_options():
    with pytest.raises(ValueError, match=r"rate of dropped conditions must be in \[0, 1\], got 1.5"):
        drop_condition((1,), 1.5, generator())
    with pytest.raises(ValueError, match=r"maximum of the guidance scale must be at least 1, got 0\.5"):
        sample_scale((1,), 0.5, generator())
    with pytest.raises(ValueError, match=r"kappa must be in \[0, 1\), got 1"):
        effective_scale(1.0, 1.0)
