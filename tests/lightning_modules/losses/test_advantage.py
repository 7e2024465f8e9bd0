import math

import pytest
import torch

from lightning_modules.losses.advantage import (
    continuous_condition,
    exponential_weights,
    generalised_advantages,
    in_batch_units,
    normalise_advantages,
    quantile_labels,
    sign_labels,
    softmax_weights,
)

LABELLERS = [
    lambda advantages: sign_labels(advantages, 0.0),
    lambda advantages: quantile_labels(advantages, 0.0),
    lambda advantages: continuous_condition(advantages, 0.0, 1.0),
]


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_equal_advantages_have_weight_one():
    advantages = tensor(4.2, 4.2, 4.2)
    normalised = normalise_advantages(advantages, advantages.mean(), advantages.std())
    torch.testing.assert_close(exponential_weights(normalised, 0.1, 20.0), torch.ones(3, dtype=torch.float64))


def test_weights_by_hand_and_clipped():
    weights = exponential_weights(tensor(0.0, 0.5, -0.5, 9.0, 1e6), 0.5, 20.0)
    torch.testing.assert_close(weights, tensor(1.0, math.e, 1 / math.e, 20.0, 20.0))


def test_weights_of_normalised_advantages_ignore_a_constant_shift():
    advantages = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shifted = advantages + 7
    first, second = (
        exponential_weights(normalise_advantages(a, a.mean(), a.std()), 1 / 3, 100.0) for a in (advantages, shifted)
    )
    torch.testing.assert_close(first, second, rtol=1e-10, atol=0)


def test_no_gradient_flows_through_the_weights():
    assert not exponential_weights(tensor(1.0).requires_grad_(), 1.0, 10.0).requires_grad


def test_normalised_advantages_by_hand():
    torch.testing.assert_close(normalise_advantages(tensor(1.0, 5.0), 3.0, 4.0), tensor(-0.5, 0.5))
    torch.testing.assert_close(normalise_advantages(tensor(1.0, 5.0), tensor(3.0), tensor(4.0)), tensor(-0.5, 0.5))


def test_advantages_in_units_of_their_size_in_the_batch():
    advantages, mask = tensor(3.0, -4.0, torch.nan, 1e9), torch.tensor([True, True, False, False])
    unit = math.sqrt((9 + 16) / 2)
    torch.testing.assert_close(in_batch_units(advantages, mask)[:2], tensor(3 / unit, -4 / unit))
    torch.testing.assert_close(in_batch_units(100 * advantages, mask)[:2], tensor(3 / unit, -4 / unit))
    assert not in_batch_units(advantages.requires_grad_(), mask).requires_grad
    assert in_batch_units(tensor(0.0, 0.0), torch.tensor([True, True])).tolist() == [0.0, 0.0]


def test_softmax_weights_by_hand():
    scores, mask = tensor(0.0, math.log(3), 50.0, torch.nan), torch.tensor([True, True, False, False])
    torch.testing.assert_close(softmax_weights(scores, 1.0, mask), tensor(2 / 4, 6 / 4, 0.0, 0.0))
    torch.testing.assert_close(softmax_weights(scores, 0.5, mask), tensor(2 / 10, 18 / 10, 0.0, 0.0))
    torch.testing.assert_close(softmax_weights(scores + 100, 0.5, mask), tensor(2 / 10, 18 / 10, 0.0, 0.0))
    assert not softmax_weights(scores.requires_grad_(), 1.0, mask).requires_grad


def test_softmax_weights_compete_over_all_steps_and_for_each_agent_alone():
    source = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 3, 2, generator=source, dtype=torch.float64)
    mask = torch.rand(5, 3, generator=source) < 0.6
    weights = softmax_weights(scores, 0.3, mask)
    assert weights.shape == scores.shape and bool((weights[~mask] == 0).all())
    torch.testing.assert_close(weights[mask].mean(dim=0), tensor(1.0, 1.0))
    for agent in range(2):
        alone = softmax_weights(scores[..., agent], 0.3, mask)
        torch.testing.assert_close(weights[..., agent], alone)
        powers = (scores[..., agent][mask] / 0.3).exp()
        torch.testing.assert_close(alone[mask], powers / powers.mean())
    torch.testing.assert_close(softmax_weights(scores, 1e9, mask)[mask], torch.ones(int(mask.sum()), 2).double())


def test_softmax_weights_of_nothing_are_zero():
    weights = softmax_weights(tensor(1.0, torch.nan), 1.0, torch.tensor([False, False]))
    assert weights.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("decay", "expected"),
    [(0.0, (1.0, 2.0, 4.0, 8.0, 16.0)), (0.5, (3.0, 4.0, 4.0, 16.0, 16.0)), (1.0, (7.0, 6.0, 4.0, 24.0, 16.0))],
)
def test_generalised_advantages_sum_to_the_end_of_the_episode_and_no_further(decay, expected):
    one_step, ends = tensor(1.0, 2.0, 4.0, 8.0, 16.0), torch.tensor([False, False, True, False, True])
    torch.testing.assert_close(generalised_advantages(one_step, ends, decay), tensor(*expected))


def test_refuses_an_impossible_decay():
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\], got 1\.5"):
        generalised_advantages(tensor(1.0), torch.tensor([True]), 1.5)


def test_the_sign_label_is_strict():
    advantages = tensor(-1.0, 0.0, 1e-9, 2.0)
    assert sign_labels(advantages).tolist() == [False, False, True, True]
    assert sign_labels(advantages, -0.5).tolist() == [False, True, True, True]
    assert sign_labels(advantages, 1.0).tolist() == [False, False, False, True]


def test_the_quantile_label_marks_the_requested_share():
    advantages = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).double() - 5000
    labels = quantile_labels(advantages, advantages.quantile(0.75))
    assert int(labels.sum()) == 250 and float(advantages[labels].min()) > float(advantages[~labels].max())


def test_the_quantile_label_includes_the_quantile_itself():
    assert quantile_labels(tensor(1.0, 2.0, 3.0), 2.0).tolist() == [False, True, True]
    assert quantile_labels(tensor(1.0, 2.0), tensor(2.0, 1.0)).tolist() == [False, True]


def test_the_continuous_condition_is_normalised_and_clipped():
    condition = continuous_condition(tensor(-100.0, 1.0, 3.0, 5.0, 100.0), 3.0, 2.0)
    torch.testing.assert_close(condition, tensor(-3.0, -1.0, 0.0, 1.0, 3.0))
    torch.testing.assert_close(continuous_condition(tensor(100.0), 3.0, 2.0, clip=1.5), tensor(1.5))


@pytest.mark.parametrize("label", LABELLERS)
def test_refuses_data_that_are_not_labelled_yet(label):
    with pytest.raises(ValueError, match="expected an advantage for every step, got NaN for 1 of 2"):
        label(tensor(1.0, float("nan")))


def test_weights_of_unlabelled_data_show():
    assert bool(exponential_weights(tensor(float("nan")), 1.0, 10.0).isnan().all())


def test_refuses_impossible_options():
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        exponential_weights(tensor(1.0), 0.0, 10.0)
    with pytest.raises(ValueError, match="temperature must be above 0, got -1"):
        softmax_weights(tensor(1.0), -1.0, torch.tensor([True]))
    with pytest.raises(ValueError, match="maximum of the weights must be above 0, got 0"):
        exponential_weights(tensor(1.0), 1.0, 0.0)
    with pytest.raises(ValueError, match="clip must be above 0 deviations, got 0"):
        continuous_condition(tensor(1.0), 0.0, 1.0, clip=0.0)
