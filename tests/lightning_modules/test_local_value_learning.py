import pytest
import torch

from lightning_modules.joint_steps import joint_steps
from lightning_modules.local_value_learning import LocalValueLearning
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.one_step import OneStepActor
from lightning_modules.networks.one_step_policies import OneStepPolicy
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    generator,
    moved_by,
    normal,
    random_batch,
    randomise,
    team_shape,
)

BOTH = pytest.mark.parametrize("discrete", [True, False])
pytestmark = pytest.mark.usefixtures("float64")


def learner(discrete, team="alone", aggregate="mean", discount=0.9, trace_decay=0.0, target_rate=0.1):
    """With critics that all differ, targets included."""
    values = LocalValueLearning(team_shape(discrete), (8,), team, aggregate, discount, trace_decay, target_rate)
    randomise(values.critic, 1)
    randomise(values.target_critic, 2)
    return values, randomise(OneStepActor(team_shape(discrete), (8,)), 3)


def padded(batch, filling=0.0):
    """The last entry of agent 0's continuous actions only pads them."""
    legal, actions = batch.legal_actions.clone(), batch.actions.clone()
    legal[..., 0, -1], actions[..., 0, -1] = False, filling
    return batch._replace(legal_actions=legal, actions=actions)


def drawn(actor, batch, discrete):
    """The actor's encoded actions at all positions."""
    policy = OneStepPolicy(actor)
    actions = policy.choose(actor.encoder(batch.obs), batch.legal_actions, generator())
    return encode_actions(actions, ACTION_DIM, discrete)


@pytest.mark.parametrize("aggregate", ["mean", "min"])
@pytest.mark.parametrize("team", ["alone", "additive"])
@BOTH
def test_critics_learn_what_the_actor_is_worth_one_step_later(discrete, team, aggregate):
    """Step by step: rewards alone at terminals, no target at a truncated last step."""
    batch = random_batch(discrete)
    batch = batch if discrete else padded(batch)
    values, actor = learner(discrete, team, aggregate)
    chosen, recorded = drawn(actor, batch, discrete), encode_actions(batch.actions, ACTION_DIM, discrete)
    errors = []
    for row, step in batch.valid[:, :-1].nonzero().tolist():
        after = torch.zeros(N_AGENTS)
        if not batch.terminals[row, step]:
            if not batch.valid[row, step + 1]:
                continue
            both = values.target_critic(batch.obs[row, step + 1], chosen[row, step + 1])  # (2, N)
            after = both.mean(dim=0) if aggregate == "mean" else both.amin(dim=0)
        now = values.critic(batch.obs[row, step], recorded[row, step])
        if team == "additive":
            target = batch.rewards[row, step] + 0.9 * after.mean()
            errors.append((now.mean(dim=-1) - target).square().sum() / 2)
        else:
            target = batch.rewards[row, step] + 0.9 * after
            errors.append((now - target).square().sum(dim=0).mean() / 2)
    loss = values.td_loss(batch, actor, generator())
    torch.testing.assert_close(loss, torch.stack(errors).mean(), rtol=1e-10, atol=1e-10)
    assert {name.split(".")[0] for name in moved_by(loss, values)} == {"critic"}
    assert not moved_by(loss + sum(p.sum() * 0 for p in actor.parameters()), actor)


def test_an_additive_target_by_hand():
    """Values 1, 2 and 6 of three agents one step later are 3 of the team; γ = 1/2, reward 10."""
    values, actor = learner(False, "additive", discount=0.5)
    batch = random_batch(False)
    batch = batch._replace(rewards=torch.full_like(batch.rewards, 10.0), terminals=torch.zeros_like(batch.terminals))
    values.target_critic.forward = lambda obs, actions: torch.tensor([1.0, 2.0, 6.0]).expand(2, *obs.shape[:3])
    assert torch.equal(values.targets(batch, actor, generator()), torch.full(batch.rewards[:, :-1].shape, 11.5))
    ending = batch._replace(terminals=torch.ones_like(batch.terminals))
    assert torch.equal(values.targets(ending, actor, generator()), torch.full(batch.rewards[:, :-1].shape, 10.0))


def test_entries_that_only_pad_an_action_change_no_value():
    values, actor = learner(False)
    loss = [values.td_loss(padded(random_batch(False), filling), actor, generator()) for filling in (0.0, 7.0)]
    assert torch.equal(*loss)


def choices(discrete=True):
    values, _ = learner(discrete)
    steps = joint_steps(random_batch(discrete))
    return values, steps, values.features(steps)


def every_value(values, steps):
    """Mean of both critics for every choice, (M, N, A), asked one by one."""
    columns = []
    for choice in range(ACTION_DIM):
        vectors = encode_actions(torch.full(steps.actions.shape, choice), ACTION_DIM, True)
        columns.append(values.critic(steps.obs, vectors).mean(dim=0))
    return torch.stack(columns, dim=-1)


def test_the_expected_value_of_a_choice_and_its_gradient():
    values, steps, known = choices()
    chances = normal(len(steps.obs), N_AGENTS, ACTION_DIM).softmax(dim=-1).requires_grad_()
    every = every_value(values, steps)
    expected = values.of_choices(known, chances, "expected")
    torch.testing.assert_close(expected, (chances * every).sum(dim=-1))
    (slope,) = torch.autograd.grad(expected.sum(), chances)
    torch.testing.assert_close(slope, every.detach())  # d/dp_a Σ p Q = Q_a


def test_straight_through_is_the_value_of_the_choice_with_the_slope_of_the_critic():
    values, steps, known = choices()
    chances = normal(len(steps.obs), N_AGENTS, ACTION_DIM).softmax(dim=-1).requires_grad_()
    value = values.of_choices(known, chances, "straight_through")
    chosen = chances.argmax(dim=-1)
    picked = every_value(values, steps).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(value, picked)
    vectors = encode_actions(chosen, ACTION_DIM, True).requires_grad_()
    (critic,) = torch.autograd.grad(values.critic(steps.obs, vectors).mean(dim=0).sum(), vectors)
    (slope,) = torch.autograd.grad(value.sum(), chances)
    torch.testing.assert_close(slope, 2 * critic)  # the vector is 2 y - 1


def test_the_original_value_of_a_choice_has_no_gradient_at_all():
    values, steps, known = choices()
    chances = normal(len(steps.obs), N_AGENTS, ACTION_DIM).softmax(dim=-1).requires_grad_()
    value = values.of_choices(known, chances, "original")
    assert not value.requires_grad
    torch.testing.assert_close(value, values.of_choices(known, chances, "straight_through").detach())


@BOTH
def test_climbing_moves_the_action_and_no_critic(discrete):
    values, steps, _ = choices(discrete)
    own = normal(len(steps.obs), N_AGENTS, ACTION_DIM)
    own = (own.softmax(dim=-1) if discrete else own).requires_grad_()
    loss = values.climbing_loss(steps, own, "expected", False)
    assert not moved_by(loss, values)
    if not discrete:  # outside [-1, 1] an action is as good as at the edge
        torch.testing.assert_close(loss, -values.critic(steps.obs, own.clamp(-1, 1)).mean())
        (slope,) = torch.autograd.grad(loss, own, retain_graph=True)
        assert bool((slope[own.abs() > 1] == 0).all()) and bool((slope[own.abs() < 1] != 0).all())
    else:
        torch.testing.assert_close(loss, -(own * every_value(values, steps)).sum(dim=-1).mean())
    size = every_value(values, steps) if discrete else values.critic(steps.obs, own.clamp(-1, 1)).mean(dim=0)
    size = ((own * size).sum(dim=-1) if discrete else size).abs().mean()
    torch.testing.assert_close(values.climbing_loss(steps, own, "expected", True), loss / size)


def test_diagnostics_are_means_of_what_was_done_and_would_be_done():
    batch = random_batch(True)
    values, actor = learner(True)
    seen = values.diagnostics(batch, actor)
    usable = batch.valid[:, :-1] & (batch.terminals[:, :-1] | batch.valid[:, 1:])
    recorded = values.critic(batch.obs[:, :-1], encode_actions(batch.actions[:, :-1], ACTION_DIM, True))
    torch.testing.assert_close(seen["q_mean"], recorded.mean(dim=(0, -1))[usable].mean())
    chosen = drawn(actor, batch._replace(obs=batch.obs[:, :-1], legal_actions=batch.legal_actions[:, :-1]), True)
    own = values.critic(batch.obs[:, :-1], chosen)
    torch.testing.assert_close(seen["q_policy_mean"], own.mean(dim=(0, -1))[usable].mean())
    targets = values.targets(batch, actor, generator()).mean(dim=0)
    assert abs(float(seen["target_mean"] - targets[usable].mean())) < 3  # another draw of the actor


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"discount": 1.1}, r"discount must be in \[0, 1\], got 1.1"),
        ({"trace_decay": -0.1}, r"trace_decay must be in \[0, 1\]"),
        ({"target_rate": 0.0}, r"target_rate must be in \(0, 1\]"),
    ],
)
def test_impossible_numbers_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        learner(True, **option)
