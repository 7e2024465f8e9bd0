import pytest
import torch

from lightning_modules.joint_steps import JointSteps, joint_steps
from lightning_modules.local_credit import LocalCredit
from lightning_modules.networks.targets import polyak_update
from tests.lightning_modules.batches import (
    ACTION_DIM,
    generator,
    normal,
    parts_moved_by,
    random_batch,
    randomise,
    team_shape,
)

RATE = 0.1
pytestmark = pytest.mark.usefixtures("float64")


def make_credit(discrete=True, **options):
    return LocalCredit(**{"shape": team_shape(discrete), "hidden_dims": (8,), "target_rate": RATE, **options})


def fit(credit, steps, advantages, updates, learning_rate):
    """Full-batch Adam with a step size that falls to 1 %."""
    optimizer = torch.optim.Adam([p for p in credit.parameters() if p.requires_grad], learning_rate)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - 0.99 * update / updates)
        optimizer.zero_grad()
        torch.stack(list(credit.losses(steps, advantages).values())).sum().backward()
        optimizer.step()
        for source, target, rate in credit.target_pairs():
            polyak_update(source, target, rate)
    return credit


@pytest.mark.parametrize("discrete", [True, False])
def test_each_loss_moves_only_its_own_network(discrete):
    credit, steps = randomise(make_credit(discrete)), joint_steps(random_batch(discrete))
    losses = credit.losses(steps, steps.advantages)
    assert {name: parts_moved_by(loss, credit) for name, loss in losses.items()} == {
        "credit_baseline": {"baseline"},
        "credit": {"action_value"},
        "credit_behaviour": {"behaviour"},
    }


def test_losses_by_hand():
    credit, steps = randomise(make_credit()), joint_steps(random_batch())
    free = steps.legal_actions.sum(dim=-1) > 1
    assert bool(free.any()) and bool((~free).any())
    baseline, residual, likelihood = 0.0, 0.0, 0.0
    b, g = credit.baseline(steps.obs).detach(), credit.action_value(steps.obs, steps.actions).detach()
    logs = credit.behaviour.log_prob(
        steps.features(credit.behaviour.encoder), steps.actions, steps.legal_actions
    ).detach()
    for m, i in free.nonzero().tolist():
        baseline += (b[m, i] - steps.advantages[m]) ** 2
        residual += (b[m, i] + g[m, i] - steps.advantages[m]) ** 2
        likelihood -= logs[m, i]
    losses = credit.losses(steps, steps.advantages)
    expected = dict(credit_baseline=baseline, credit=residual, credit_behaviour=likelihood)
    for name, total in expected.items():
        torch.testing.assert_close(losses[name].detach(), total / free.sum(), rtol=1e-12, atol=1e-12)


def test_agents_without_a_choice_are_left_out():
    steps = joint_steps(random_batch())
    only = torch.zeros_like(steps.legal_actions).scatter_(-1, steps.actions.unsqueeze(-1), True)
    forced = steps._replace(legal_actions=only)
    credit = randomise(make_credit())
    assert not credit.free_agents(forced).any()
    assert all(float(loss.detach()) == 0 for loss in credit.losses(forced, steps.advantages).values())
    torch.testing.assert_close(credit.credits(forced), torch.zeros(steps.actions.shape), rtol=0, atol=1e-12)
    continuous = joint_steps(random_batch(False))
    assert bool(make_credit(False).free_agents(continuous).all())


def test_credits_of_a_state_cancel_over_the_behaviour():
    """Σ_a β(a | o_i) h(o_i, a) = 0 for any networks whatever."""
    credit, steps = randomise(make_credit()), joint_steps(random_batch())
    logits = credit.behaviour(steps.obs).masked_fill(~steps.legal_actions, -torch.inf)
    chances = logits.softmax(dim=-1).detach()
    total = torch.zeros(steps.actions.shape)
    for action in range(ACTION_DIM):
        credits = credit.credits(steps._replace(actions=torch.full_like(steps.actions, action)))
        total += chances[..., action] * credits
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-12)
    assert float(credit.credits(steps).abs().mean()) > 0.1


def test_credits_come_from_the_averaged_copies_without_a_graph():
    credit, steps = randomise(make_credit()), joint_steps(random_batch())
    before = credit.credits(steps)
    randomise(credit.action_value, seed=7)
    randomise(credit.baseline, seed=8)
    assert torch.equal(credit.credits(steps), before) and not before.requires_grad
    randomise(credit.target_action_value, seed=9)
    assert not torch.equal(credit.credits(steps), before)
    pairs = {(id(pair.source), id(pair.target), pair.rate) for pair in credit.target_pairs()}
    assert pairs == {
        (id(credit.baseline), id(credit.target_baseline), RATE),
        (id(credit.action_value), id(credit.target_action_value), RATE),
    }


def test_the_held_out_error_by_hand():
    credit, steps = randomise(make_credit()), joint_steps(random_batch())
    free = credit.free_agents(steps)
    answer = credit.target_baseline(steps.obs) + credit.target_action_value(steps.obs, steps.actions)
    expected = (answer - steps.advantages.unsqueeze(-1)).square()[free].mean().detach()
    torch.testing.assert_close(credit.held_out_error(steps, steps.advantages), expected, rtol=0, atol=1e-12)


# Two agents in two situations. In each, agent 1 chooses among three actions and agent 2 leans towards what agent 1
# does; there is a fourth action that nobody takes. Number of times each joint action was recorded:
COUNTS = torch.tensor([[[6, 2, 2], [1, 2, 1], [1, 1, 4]], [[2, 2, 1], [3, 6, 1], [1, 1, 3]]])
FIRST, SECOND = torch.tensor([1.0, -0.5, 0.25]), torch.tensor([-2.0, 1.0, 1.5])  # what actions are worth
SITUATION = torch.tensor([0.0, 3.0])


def bandit():
    """All recorded joint actions, A = worth of both + what the situation gives whatever is done."""
    where = COUNTS.nonzero().repeat_interleave(COUNTS[COUNTS > 0], dim=0)
    situation, actions = where[:, 0], where[:, 1:]
    advantages = FIRST[actions[:, 0]] + SECOND[actions[:, 1]] + SITUATION[situation]
    obs = torch.eye(2)[situation].unsqueeze(1).expand(-1, 2, 2)
    steps = JointSteps(
        obs=obs,
        state=torch.zeros(len(obs), 1),
        actions=actions,
        legal_actions=torch.ones(len(obs), 2, 4, dtype=torch.bool),
        advantages=advantages,
        credits=torch.full((len(obs), 2), torch.nan),
        windows=obs.unsqueeze(1),
        position=torch.arange(len(obs)),
    )
    return steps, situation


def exact_credits(steps, situation):
    """E[A | o, a_i] - E[A | o] by counting, (M, N)."""
    exact = torch.empty(steps.actions.shape)
    for m in range(len(exact)):
        same = situation == situation[m]
        for agent in range(2):
            alike = same & (steps.actions[:, agent] == steps.actions[m, agent])
            exact[m, agent] = steps.advantages[alike].mean() - steps.advantages[same].mean()
    return exact


def test_credits_recover_what_an_agents_own_action_changes():
    steps, situation = bandit()
    credit = make_credit(shape=team_shape(n_agents=2, obs_dim=2, action_dim=4), hidden_dims=(16,))
    fit(credit, steps, steps.advantages, updates=400, learning_rate=0.03)
    exact = exact_credits(steps, situation)
    assert float(exact.abs().max()) > 1 and float((exact[:, 0] - exact[:, 1]).abs().max()) > 1
    torch.testing.assert_close(credit.credits(steps), exact, rtol=0, atol=0.03)
    # The action that nobody took was never learned about: g stays exactly 0, a value that the residual has on average.
    unknown = torch.full_like(steps.actions, 3)
    assert bool((credit.action_value(steps.obs, unknown) == 0).all())
    assert float(credit.credits(steps._replace(actions=unknown)).abs().max()) < 0.05


def test_continuous_credits_recover_what_an_agents_own_action_changes():
    """A = 2 a_1 - a_2 of independent actions: credits 2 (a_1 - E a_1) and -(a_2 - E a_2)."""
    means = torch.tensor([[0.2], [-0.1]])
    actions = means + 0.2 * normal(150, 2, 1)
    steps = JointSteps(
        obs=torch.zeros(150, 2, 1),
        state=torch.zeros(150, 1),
        actions=actions,
        legal_actions=torch.ones(150, 2, 1, dtype=torch.bool),
        advantages=2 * actions[:, 0, 0] - actions[:, 1, 0],
        credits=torch.full((150, 2), torch.nan),
        windows=torch.zeros(150, 1, 2, 1),
        position=torch.arange(150),
    )
    shape = team_shape(discrete=False, n_agents=2, obs_dim=1, action_dim=1)
    credit = make_credit(shape=shape, hidden_dims=(16,), n_samples=200)
    fit(credit, steps, steps.advantages, updates=200, learning_rate=0.03)
    centred = (actions - actions.mean(dim=0)).squeeze(-1) * torch.tensor([2.0, -1.0])
    error = credit.credits(steps, generator()) - centred
    assert float(error.abs().mean()) < 0.08 < 0.15 < float(centred.abs().mean())
    assert float(error.mean().abs()) < 0.04


def test_continuous_credits_are_what_the_generator_draws():
    credit, steps = randomise(make_credit(False, n_samples=3)), joint_steps(random_batch(False))
    first, again, other = (credit.credits(steps, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    source, draws = generator(), []
    std = credit.behaviour.log_std.clamp(-5, 2).exp()
    for _ in range(3):
        noise = torch.randn(steps.actions.shape, generator=source)
        draw = (credit.behaviour(steps.obs) + std * noise).clamp(-1, 1)
        draws.append(credit.target_action_value(steps.obs, draw))
    expected = credit.target_action_value(steps.obs, steps.actions) - torch.stack(draws).mean(dim=0)
    torch.testing.assert_close(first, expected.detach(), rtol=0, atol=1e-12)
