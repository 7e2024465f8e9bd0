import pytest
import torch

from lightning_modules.losses.qtran import qtran_bound_loss, qtran_optimality_loss

PAYOFF = torch.tensor([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]], dtype=torch.float64)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def inputs():
    """Sums, joint values and state values whose gap is 1.5, -0.5 and 0."""
    return tuple(
        each.requires_grad_() for each in (tensor(2.0, 1.0, -1.0), tensor(1.0, 2.0, 3.0), tensor(0.5, 0.5, 4.0))
    )


def test_the_optimum_is_met_from_both_sides():
    torch.testing.assert_close(qtran_optimality_loss(*inputs()), tensor(2.25, 0.25, 0.0))


def test_other_joint_actions_are_only_kept_from_falling_below():
    torch.testing.assert_close(qtran_bound_loss(*inputs()), tensor(0.0, 0.25, 0.0))


@pytest.mark.parametrize("loss", [qtran_optimality_loss, qtran_bound_loss])
def test_the_teams_value_is_not_moved(loss):
    summed, joint, state = inputs()
    loss(summed, joint, state).sum().backward()
    assert joint.grad is None
    expected = {qtran_optimality_loss: tensor(3.0, -1.0, 0.0), qtran_bound_loss: tensor(0.0, -1.0, 0.0)}[loss]
    torch.testing.assert_close(summed.grad, expected)
    torch.testing.assert_close(state.grad, expected)


def fitted(loss, n_updates=300):
    """Two tables of three values and one value of the state, from zero; and the joint action they choose."""
    tables, state = torch.zeros(2, 3, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    tables[0, 2] = tables[1, 1] = 1.0  # at first they choose one of the joint actions that pay 0
    parameters = [tables.requires_grad_(), state.requires_grad_()]
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    for _ in range(n_updates):
        optimizer.zero_grad()
        loss(tables, state).backward()
        optimizer.step()
    return tables.detach(), state.detach(), tuple(tables.argmax(dim=-1).tolist())


def test_agents_find_the_best_joint_action_of_the_papers_game_and_a_plain_sum_does_not():
    """Table 1 of the paper; every joint action is seen equally often, and the team's value is known."""

    def sums(tables):
        return tables[0].unsqueeze(1) + tables[1].unsqueeze(0)

    def qtran(tables, state):
        first, second = tables.detach().argmax(dim=-1)
        best = qtran_optimality_loss(sums(tables)[first, second], PAYOFF[first, second], state)
        return best + 0.1 * qtran_bound_loss(sums(tables), PAYOFF, state).mean()

    tables, _, choice = fitted(lambda tables, state: (sums(tables) - PAYOFF).square().mean())
    assert 0 not in choice
    means = PAYOFF.mean(dim=1) - PAYOFF.mean() / 2  # the least squares fit by a sum
    torch.testing.assert_close(tables.mean(dim=0), means, rtol=0, atol=1e-3)

    tables, state, choice = fitted(qtran)
    assert choice == (0, 0)
    gap = sums(tables) + state - PAYOFF
    assert float(gap[0, 0]) == pytest.approx(0, abs=0.05) and float(gap.min()) > -0.2
