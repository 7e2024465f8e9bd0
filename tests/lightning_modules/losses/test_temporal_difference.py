import pytest
import torch

from lightning_modules.losses.temporal_difference import lambda_returns, td_mask, td_target

NAN = float("nan")


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def flags(*values):
    return torch.tensor(values, dtype=torch.bool)


# A three-step episode in a window of four positions; the last one is padding.
REWARDS = tensor(1.0, 2.0, 4.0, 99.0)
VALUES = tensor(10.0, 20.0, 40.0, 77.0)
VALID = flags(1, 1, 1, 0)
TERMINAL, TRUNCATED = flags(0, 0, 1, 0), flags(0, 0, 0, 0)


def one_step(terminals, discount):
    return td_target(REWARDS[:-1], terminals[:-1], VALUES[1:], discount)


@pytest.mark.parametrize(
    ("discount", "expected"),
    [(0.0, (1.0, 2.0, 4.0)), (0.5, (11.0, 22.0, 4.0)), (1.0, (21.0, 42.0, 4.0))],
)
def test_one_step_targets_of_a_terminal_episode(discount, expected):
    torch.testing.assert_close(one_step(TERMINAL, discount), tensor(*expected))
    assert torch.equal(td_mask(VALID, TERMINAL), flags(1, 1, 1))


@pytest.mark.parametrize(
    ("discount", "expected"),
    [(0.0, (1.0, 2.0)), (0.5, (11.0, 22.0)), (1.0, (21.0, 42.0))],
)
def test_one_step_targets_of_a_truncated_episode_leave_out_its_last_step(discount, expected):
    mask = td_mask(VALID, TRUNCATED)
    assert torch.equal(mask, flags(1, 1, 0))
    torch.testing.assert_close(one_step(TRUNCATED, discount)[mask], tensor(*expected))


def test_the_mask_of_every_combination_in_a_window_of_two():
    valid = flags([1, 1], [1, 1], [1, 0], [1, 0], [0, 0], [0, 0])
    terminals = flags([0, 0], [1, 0], [0, 0], [1, 1], [0, 0], [1, 1])
    assert torch.equal(td_mask(valid, terminals), flags([1], [1], [0], [1], [0], [0]))


def test_what_follows_a_terminal_is_not_even_looked_at():
    assert float(td_target(tensor(3.0), flags(1), tensor(NAN), 0.9)) == 3


def test_no_gradient_reaches_the_targets():
    values = VALUES.clone().requires_grad_()
    assert not td_target(REWARDS, TERMINAL, values, 0.9).requires_grad
    assert not lambda_returns(REWARDS, TERMINAL, VALID, values, 0.9, 0.5).requires_grad


@pytest.mark.parametrize("terminals", [TERMINAL, TRUNCATED])
@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_trace_decay_zero_is_the_one_step_target(terminals, discount):
    targets = lambda_returns(REWARDS, terminals, VALID, VALUES, discount, 0.0)
    torch.testing.assert_close(targets, one_step(terminals, discount))


def test_trace_decay_one_is_the_discounted_return():
    targets = lambda_returns(REWARDS, TERMINAL, VALID, VALUES, 0.5, 1.0)
    torch.testing.assert_close(targets, tensor(1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4.0))
    undiscounted = lambda_returns(REWARDS, TERMINAL, VALID, VALUES, 1.0, 1.0)
    torch.testing.assert_close(undiscounted, tensor(7.0, 6.0, 4.0))


def test_a_truncated_episode_bootstraps_from_its_last_observed_value():
    targets = lambda_returns(REWARDS, TRUNCATED, VALID, VALUES, 0.5, 1.0)
    # V = 40 is the value of the last recorded step; the padding's reward and value play no part.
    torch.testing.assert_close(targets[:2], tensor(1 + 0.5 * (2 + 0.5 * 40), 2 + 0.5 * 40))


def test_a_window_inside_an_episode_bootstraps_from_its_last_position():
    targets = lambda_returns(REWARDS, TRUNCATED, flags(1, 1, 1, 1), VALUES, 0.5, 1.0)
    torch.testing.assert_close(
        targets, tensor(1 + 0.5 * (2 + 0.5 * (4 + 0.5 * 77)), 2 + 0.5 * (4 + 0.5 * 77), 4 + 38.5)
    )


def test_half_a_trace_by_hand():
    targets = lambda_returns(REWARDS, TERMINAL, VALID, VALUES, 0.5, 0.25)
    second = 2 + 0.5 * (0.75 * 40 + 0.25 * 4)
    torch.testing.assert_close(targets, tensor(1 + 0.5 * (0.75 * 20 + 0.25 * second), second, 4.0))


def test_nothing_leaks_across_a_terminal_or_from_padding():
    rewards, values = REWARDS.clone(), VALUES.clone()
    rewards[3], values[3] = NAN, NAN
    assert bool(lambda_returns(rewards, TERMINAL, VALID, values, 0.9, 0.7).isfinite().all())
    assert bool(lambda_returns(rewards, TRUNCATED, VALID, values, 0.9, 0.7)[:2].isfinite().all())


def test_any_leading_shape():
    stacked = [torch.stack([a, a]).view(2, 1, 4) for a in (REWARDS, TERMINAL, VALID, VALUES)]
    targets = lambda_returns(*stacked, 0.5, 0.25)
    assert targets.shape == (2, 1, 3)
    torch.testing.assert_close(targets[1, 0], lambda_returns(REWARDS, TERMINAL, VALID, VALUES, 0.5, 0.25))


def test_refuses_an_impossible_trace_decay():
    with pytest.raises(ValueError, match=r"trace_decay must be in \[0, 1\], got 1.5"):
        lambda_returns(REWARDS, TERMINAL, VALID, VALUES, 0.5, 1.5)
