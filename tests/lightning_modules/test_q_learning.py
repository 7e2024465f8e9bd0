import pytest
import torch

from lightning_modules.losses.temporal_difference import td_mask
from lightning_modules.q_learning import QLearning
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    generator,
    make_macql,
    moved_by,
    normal,
    one_step_games,
    random_batch,
    team_shape,
    train,
)

DISCOUNT = 0.9
PAYOFF = torch.tensor([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]])  # of QTRAN's paper, table 1
pytestmark = pytest.mark.usefixtures("float64")


def learner(mixer="qmix", trace_decay=0.0):
    module = QLearning(team_shape(), (8,), mixer, DISCOUNT, trace_decay=trace_decay, target_rate=0.1)
    with torch.no_grad():  # large answers, and a target network that differs
        for seed, network in enumerate((module.q, module.target_q)):
            for index, parameter in enumerate(network.parameters()):
                parameter.copy_(normal(*parameter.shape, seed=100 * seed + index))
    return module


def best_legal(values, legal):
    allowed = [action for action in range(ACTION_DIM) if legal[action]]
    return allowed[int(values[allowed].argmax())]


def by_hand(module, batch):
    """Plain loops over windows, steps and agents: summed squared errors and the number of steps."""
    q, target = module.q, module.target_q
    online, lagged = q.local.all_values(batch.obs), target.local.all_values(batch.obs)
    errors = []
    for row in range(len(batch.obs)):
        for step in range(batch.obs.shape[1] - 1):
            terminal, valid = bool(batch.terminals[row, step]), batch.valid[row]
            if not valid[step] or not (terminal or valid[step + 1]):
                continue
            chosen = torch.stack([online[row, step, i, batch.actions[row, step, i]] for i in range(N_AGENTS)])
            best = [
                best_legal(online[row, step + 1, i], batch.legal_actions[row, step + 1, i]) for i in range(N_AGENTS)
            ]
            later = torch.stack([lagged[row, step + 1, i, best[i]] for i in range(N_AGENTS)])
            if q.mixer is None:
                value, bootstrap = chosen, later
            else:
                value = q.mixer(chosen, batch.state[row, step])
                bootstrap = target.mixer(later, batch.state[row, step + 1])
            target_value = batch.rewards[row, step] + (0 if terminal else DISCOUNT) * bootstrap.detach()
            errors.append((value - target_value).square().mean())
    return torch.stack(errors).mean() / 2


@pytest.mark.parametrize("mixer", ["none", "vdn", "qmix"])
def test_the_loss_by_hand(mixer):
    module, batch = learner(mixer), random_batch(window=4)
    loss = module.td_loss(batch, module.utilities(batch))
    torch.testing.assert_close(loss, by_hand(module, batch))
    expected = torch.autograd.grad(by_hand(module, batch), list(module.q.parameters()))
    torch.testing.assert_close(torch.autograd.grad(loss, list(module.q.parameters())), expected)


def test_what_qtran_minimises_by_hand():
    module, batch = learner("qtran"), random_batch()
    q, usable = module.q, td_mask(batch.valid, batch.terminals)
    utilities = module.utilities(batch)
    steps, greedy = utilities.learning_steps(), utilities.greedy()
    values = q.joint(steps, batch.actions[:, :-1])
    baseline = q.qtran.state_value(batch.state[:, :-1])
    optimum = steps.values.masked_fill(~steps.legal_actions, -torch.inf).amax(dim=-1).sum(dim=-1)
    optimum = optimum - q.joint(steps, greedy[:, :-1]).detach() + baseline
    bound = (steps.of(batch.actions[:, :-1]).sum(dim=-1) - values.detach() + baseline).clamp(max=0)
    error = values - module.targets(batch, greedy)
    expected = ((error**2 + optimum**2 + 0.1 * bound**2) / 2)[usable].mean()
    torch.testing.assert_close(module.td_loss(batch, utilities), expected)


@pytest.mark.parametrize("mixer", ["none", "vdn", "qmix", "qtran"])
def test_targets_get_no_gradient(mixer):
    module, batch = learner(mixer), random_batch()
    assert not module.targets(batch, module.utilities(batch).greedy()).requires_grad
    assert all(name.startswith("q.") for name in moved_by(module.td_loss(batch, module.utilities(batch)), module))
    (pair,) = module.target_pairs()
    assert pair.source is module.q and pair.target is module.target_q and pair.rate == 0.1


def test_longer_returns():
    """λ = 1 along a window without end is the discounted sum and what is left behind it."""
    module = learner("vdn", trace_decay=1.0)
    batch = random_batch(window=4)
    forever = torch.zeros_like(batch.terminals)
    batch = batch._replace(terminals=forever, truncations=forever, valid=~forever)
    greedy = module.utilities(batch).greedy()
    left = module.target_q.joint(module.target_q.utilities(batch.obs, batch.state, batch.legal_actions), greedy)
    rewards = batch.rewards
    expected = rewards[:, 0] + 0.9 * rewards[:, 1] + 0.81 * rewards[:, 2] + 0.729 * left[:, 3]
    torch.testing.assert_close(module.targets(batch, greedy)[:, 0], expected)


def test_diagnostics_are_means_over_steps_with_a_target():
    module, batch = learner("vdn"), random_batch()
    usable, values = td_mask(batch.valid, batch.terminals), module.q.local.all_values(batch.obs[:, :-1])
    answers = module.diagnostics(batch)
    recorded = values.gather(-1, batch.actions[:, :-1].unsqueeze(-1)).squeeze(-1).sum(dim=-1)
    best = values.masked_fill(~batch.legal_actions[:, :-1], -torch.inf).amax(dim=-1).sum(dim=-1)
    torch.testing.assert_close(answers["q_recorded"], recorded[usable].mean())
    torch.testing.assert_close(answers["q_policy"], best[usable].mean())
    targets = module.targets(batch, module.utilities(batch).greedy())
    torch.testing.assert_close(answers["q_target"], targets[usable].mean())
    assert not any(answer.requires_grad for answer in answers.values())


def trained_on_the_payoff(mixer, updates):
    """Plain Q-learning (no conservatism) on every joint action of the 3 x 3 game, equally often."""
    torch.manual_seed(0)
    dims = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 3}
    module = make_macql(**dims, mixer=mixer, penalty_weight=0.0, hidden_dims=(16,), target_rate=0.1)
    pairs = [[first, second] for first in range(3) for second in range(3)]
    batch = one_step_games(pairs, [1] * 9, PAYOFF.flatten().tolist(), n_actions=3)
    for _ in range(2):
        train(module, batch, updates, learning_rate=3e-2)
    q = module.learner.q
    utilities = q.utilities(batch.obs[:1, :1], batch.state[:1, :1], batch.legal_actions[:1, :1])
    choice = module.policy.act(batch.obs[:1, 0], batch.legal_actions[:1, 0], None, generator())[0]
    joint = torch.tensor(pairs)
    return utilities, choice.squeeze(0).tolist(), q.joint(utilities, joint.view(9, 1, 1, 2)).flatten().detach()


@pytest.mark.slow
def test_a_sum_misses_the_best_joint_action_that_qtran_finds():
    utilities, choice, values = trained_on_the_payoff("vdn", 200)
    # Least squares fit of a sum: row means -16/3, -4, -4 minus half the mean of all, -40/9
    expected = PAYOFF.mean(dim=1) - PAYOFF.mean() / 2
    torch.testing.assert_close(utilities.values.mean(dim=(0, 1, 2)).detach(), expected.double(), rtol=0, atol=0.05)
    assert choice != [0, 0]
    utilities, choice, values = trained_on_the_payoff("qtran", 400)
    torch.testing.assert_close(values, PAYOFF.flatten().double(), rtol=0, atol=0.5)
    assert choice == [0, 0]
