import math

import pytest
import torch

from lightning_modules.losses.advantage import (
    continuous_condition,
    exponential_weights,
    generalised_advantages,
    normalise_advantages,
    quantile_labels,
    sign_labels,
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
    with pytest.raises(ValueError, match="maximum of the weights must be above 0, got 0"):
        exponential_weights(tensor(1.0), 1.0, 0.0)
    with pytest.raises(ValueError, match="clip must be above 0 deviations, got 0"):
        continuous_condition(tensor(1.0), 0.0, 1.0, clip=0.0)
