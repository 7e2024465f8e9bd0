import math

import pytest
import torch
from torch.distributions import Normal

from lightning_modules.actor_critic import ActorCritic
from lightning_modules.joint_steps import joint_steps
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    generator,
    moved_by,
    normal,
    parts_moved_by,
    random_batch,
    team_shape,
)

DISCOUNT = 0.9
pytestmark = pytest.mark.usefixtures("float64")


def learner(**options):
    options = {"discount": DISCOUNT, "trace_decay": 0.0, "target_rate": 0.1, **options}
    module = ActorCritic(team_shape(discrete=False), (8,), **options)
    with torch.no_grad():  # large answers, and target networks that differ
        for seed, network in enumerate((module.actor, module.critic, module.target_actor, module.target_critic)):
            for index, parameter in enumerate(network.parameters()):
                parameter.copy_(normal(*parameter.shape, seed=100 * seed + index))
    return module


def critic_value(member, batch, row, step, joint):
    return member(batch.obs[row, step], batch.state[row, step], joint)


def test_the_critics_loss_by_hand():
    """Plain loops over windows, steps and critics."""
    module, batch = learner(), random_batch(discrete=False, window=4)
    errors = []
    for row in range(len(batch.obs)):
        for step in range(batch.obs.shape[1] - 1):
            terminal = bool(batch.terminals[row, step])
            if not batch.valid[row, step] or not (terminal or batch.valid[row, step + 1]):
                continue
            proposed = module.target_actor(batch.obs[row, step + 1])
            later = [critic_value(each, batch, row, step + 1, proposed) for each in module.target_critic.members]
            target = (batch.rewards[row, step] + (0 if terminal else DISCOUNT) * min(later)).detach()
            values = [critic_value(each, batch, row, step, batch.actions[row, step]) for each in module.members]
            errors.append(sum((value - target) ** 2 for value in values))
    torch.testing.assert_close(module.td_loss(batch, generator()), torch.stack(errors).mean() / 2)


@pytest.mark.parametrize("others", ["recorded", "policies"])
def test_the_actors_loss_by_hand(others):
    module, batch = learner(others=others, action_penalty=0.3), random_batch(discrete=False)
    terms, sizes = [], []
    for row in range(len(batch.obs)):
        for step in range(batch.obs.shape[1] - 1):
            if not batch.valid[row, step]:
                continue
            proposed = module.actor(batch.obs[row, step])
            sizes.append(proposed.square().mean())
            for agent in range(N_AGENTS):
                joint = (batch.actions[row, step] if others == "recorded" else proposed.detach()).clone()
                joint[agent] = proposed[agent]
                terms.append(critic_value(module.members[0], batch, row, step, joint))
    expected = -torch.stack(terms).mean() + 0.3 * torch.stack(sizes).mean()
    loss = module.actor_loss(batch, module.actions(batch))
    torch.testing.assert_close(loss, expected)
    parameters = [p for p in module.actor.parameters() if p.requires_grad]
    torch.testing.assert_close(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters))


def test_agents_together_follow_the_gradient_along_the_joint_policy():
    module, batch = learner(others="policies", action_penalty=0.0), random_batch(discrete=False)
    parameters = [p for p in module.actor.parameters() if p.requires_grad]
    own = torch.autograd.grad(module.actor_loss(batch, module.actions(batch)), parameters)
    values = module.members[0](batch.obs[:, :-1], batch.state[:, :-1], module.actions(batch)[:, :-1])
    joint = torch.autograd.grad(-values[batch.valid[:, :-1]].mean() / N_AGENTS, parameters)
    torch.testing.assert_close(own, joint)


def test_each_loss_moves_its_own_networks_only():
    module, batch = learner(), random_batch(discrete=False)
    assert parts_moved_by(module.td_loss(batch, generator()), module) == {"critic"}
    moved = moved_by(module.actor_loss(batch, module.actions(batch)), module)
    assert moved and all(name.startswith("actor.mlp") for name in moved)
    assert not module.actor.log_std.requires_grad
    assert all(p.requires_grad for p in module.critic.parameters())
    assert [pair.source for pair in module.target_pairs()] == [module.actor, module.critic]


def test_noise_of_the_targets_comes_from_the_generator():
    module, batch = learner(target_noise=0.3), random_batch(discrete=False)
    first = module.targets(batch, generator(1))
    assert torch.equal(first, module.targets(batch, generator(1)))
    assert not torch.equal(first, module.targets(batch, generator(2)))
    assert torch.equal(learner().targets(batch, generator(1)), learner().targets(batch, generator(2)))


def padded(batch):
    """The last agent's last entry only pads its action."""
    legal = batch.legal_actions.clone()
    legal[..., -1, -1] = False
    return batch._replace(legal_actions=legal, actions=batch.actions.masked_fill(~legal, 0.0))


def drawn(module, batch, count=500, std=0.2, seed=0):
    steps = joint_steps(batch)
    actions = module.actions(batch)
    return steps, actions, module.proposals(batch, actions, steps, count, std, generator(seed))


def test_where_proposals_come_from():
    module, batch = learner(), padded(random_batch(discrete=False, batch=8))
    with torch.no_grad():
        module.actor.mlp.head.weight.mul_(0.1)  # away from the borders, where draws are clipped
    steps, actions, proposals = drawn(module, batch, count=4000, std=0.05)
    assert proposals.actions.shape == (12_000, len(steps.obs), N_AGENTS, ACTION_DIM)
    assert not proposals.actions.requires_grad
    even, near = proposals.actions[:4000], proposals.actions[4000:].unflatten(0, (4000, 2))
    here, later = near[:, 0], near[:, 1]
    counts = steps.legal_actions[0]
    assert float(even[:, :, counts].mean()) == pytest.approx(0, abs=0.01)
    assert float(even[:, :, counts].std()) == pytest.approx(1 / math.sqrt(3), abs=0.01)
    assert bool((proposals.actions[:, :, ~counts] == 0).all())
    flat = actions.detach().flatten(0, 1)
    following = torch.where(batch.valid.flatten()[steps.position + 1], steps.position + 1, steps.position)
    torch.testing.assert_close(here.mean(dim=0), flat[steps.position], rtol=0, atol=0.02)
    torch.testing.assert_close(later.mean(dim=0), flat[following], rtol=0, atol=0.02)
    assert bool((following == steps.position).any()) and bool((following != steps.position).any())


def test_how_likely_proposals_were():
    module, batch = learner(), padded(random_batch(discrete=False, batch=8))
    with torch.no_grad():
        module.actor.mlp.head.weight.mul_(0.1)
    steps, actions, proposals = drawn(module, batch, count=5, std=0.01)
    counts = steps.legal_actions[0].sum(dim=-1).double()
    torch.testing.assert_close(proposals.log_density[:5], (-math.log(2) * counts).expand(5, len(steps.obs), N_AGENTS))
    here = proposals.actions[5]
    centre = actions.detach().flatten(0, 1)[steps.position]
    logs = Normal(centre, torch.tensor(0.01)).log_prob(here).masked_fill(~steps.legal_actions, 0.0).sum(dim=-1)
    unclipped = (here.abs() < 1).all(dim=-1)
    torch.testing.assert_close(proposals.log_density[5][unclipped], logs[unclipped])
    assert float(unclipped.double().mean()) > 0.5


def test_values_of_any_joint_action_at_some_steps():
    module, batch = learner(), random_batch(discrete=False)
    steps = joint_steps(batch, 7, generator())
    values = module.values_at(batch, steps, normal(4, 7, N_AGENTS, ACTION_DIM))
    assert values.shape == (2, 4, 7)
    recorded = module.values_at(batch, steps, steps.actions)
    rows, width = steps.position // 3, steps.position % 3
    torch.testing.assert_close(recorded, module.recorded_values(batch)[:, rows, width])


def test_diagnostics_are_means():
    module, batch = learner(), random_batch(discrete=False)
    answers = module.diagnostics(batch, generator())
    usable = batch.valid[:, :-1] & (batch.terminals[:, :-1] | batch.valid[:, 1:])
    torch.testing.assert_close(answers["q_recorded"], module.recorded_values(batch)[0][usable].mean())
    torch.testing.assert_close(answers["q_target"], module.targets(batch, generator())[usable].mean())
    proposed = module.actor(batch.obs[:, :-1])
    values = module.members[0](batch.obs[:, :-1], batch.state[:, :-1], proposed)
    torch.testing.assert_close(answers["q_policy"], values[usable].mean())
