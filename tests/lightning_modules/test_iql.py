import math

import pytest
import torch

from datamodules.batch import TeamBatch
from lightning_modules.networks.policies import HeadPolicy
from tests.lightning_modules.batches import (
    ACTION_DIM,
    generator,
    make_bc,
    make_iql,
    one_step_games,
    random_batch,
    randomise,
    train,
)

EXPECTILE = 0.8
pytestmark = pytest.mark.usefixtures("float64")


def iql(discrete=True, **options):
    module = make_iql(discrete, expectile=EXPECTILE, **options)
    randomise(module.critic)
    return module


def recorded_logs(module, batch, b, t):
    features = module.head.encoder(batch.obs[b, t])
    return module.head.log_prob(features, batch.actions[b, t], batch.legal_actions[b, t])


def vectors_of(batch, discrete):
    """Choices as -1 and +1, written out."""
    if not discrete:
        return batch.actions
    return torch.where(batch.actions.unsqueeze(-1) == torch.arange(ACTION_DIM), 1.0, -1.0)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("mixer", ["centralised", "vdn", "qmix"])
@pytest.mark.parametrize("discrete", [True, False])
def test_the_policy_clones_each_joint_action_by_its_advantage(discrete, mixer, scaled):
    module = iql(discrete, mixer=mixer, inverse_temperature=0.7, maximum_weight=1.5, scale_advantages=scaled)
    batch, critic = random_batch(discrete), module.critic
    advantages, logs = [], []
    for b, t in batch.valid[:, :-1].nonzero().tolist():
        inputs = (batch.obs[b, t], batch.state[b, t], vectors_of(batch, discrete)[b, t])
        smallest = min(member(*inputs).item() for member in critic.target_q.members)
        advantages.append(smallest - critic.target_value(batch.state[b, t]).item())
        logs.append(recorded_logs(module, batch, b, t).mean().item())
    unit = math.sqrt(sum(a * a for a in advantages) / len(advantages)) if scaled else 1.0
    weights = [math.exp(min(0.7 * a / unit, math.log(1.5))) for a in advantages]
    assert not scaled or len(set(weights)) > 5  # neither all equal nor all cut
    expected = -sum(w * log for w, log in zip(weights, logs, strict=True)) / len(logs)
    assert float(module.losses(batch, generator())["policy"].detach()) == pytest.approx(expected, abs=1e-12)


def test_its_critic_is_the_expectile_critic_trained_beside_the_policy():
    module, batch = iql(), random_batch()
    losses, alone = module.losses(batch, generator()), module.critic.losses(batch)
    assert list(losses) == ["q", "value", "policy"]
    assert all(torch.equal(losses[key], alone[key]) for key in alone)
    assert module.target_pairs() == module.critic.target_pairs()


@pytest.mark.parametrize("discrete", [True, False])
def test_without_temperature_it_is_cloning_exactly(discrete):
    module, bc = iql(discrete, inverse_temperature=0.0), make_bc(discrete, steps_per_update=None)
    bc.head.load_state_dict(module.head.state_dict())
    batch = random_batch(discrete)
    expected = bc.losses(batch, generator())["policy"]
    torch.testing.assert_close(module.losses(batch, generator())["policy"], expected, rtol=0, atol=1e-7)


def test_the_unit_of_the_rewards_does_not_matter():
    """Q and V three times as large clone alike; without scaling they would not."""
    batch = random_batch()
    for scaled in (True, False):
        module = iql(scale_advantages=scaled, inverse_temperature=0.3)
        before = module.losses(batch, generator())["policy"]
        with torch.no_grad():
            for network in (*module.critic.target_q.members, module.critic.target_value):
                head = network.central.head if hasattr(network, "central") else network.mlp.head
                head.weight.mul_(3.0)
                head.bias.mul_(3.0)
        after = module.losses(batch, generator())["policy"]
        assert (abs(float((after - before).detach())) < 1e-9) == scaled


def two_steps():
    """Four episodes of two steps: action 1 pays 4; it is chosen once in the first, three times in the second."""
    chosen = torch.tensor([[1, 1], [0, 1], [0, 1], [0, 0]])
    batch, window, agents = 4, 3, 1
    actions = torch.cat([chosen, chosen[:, 1:]], dim=1).unsqueeze(-1)
    rewards = 4.0 * actions.squeeze(-1)
    valid = torch.tensor([True, True, False]).expand(batch, window)
    terminals = torch.tensor([False, True, True]).expand(batch, window)
    state = torch.eye(2)[torch.tensor([0, 1, 1])].expand(batch, window, 2)
    return TeamBatch(
        obs=state.unsqueeze(2),
        state=state,
        actions=actions,
        rewards=rewards,
        returns=(rewards * valid).sum(dim=1, keepdim=True).expand(batch, window),
        terminals=terminals,
        truncations=torch.zeros_like(terminals),
        legal_actions=torch.ones(batch, window, agents, 2, dtype=torch.bool),
        advantages=torch.full((batch, window), torch.nan),
        credits=torch.full((batch, window, agents), torch.nan),
        valid=valid,
    )


def tabular(first, second, **options):
    """V(s_1) and V(s_2) as given, Q(s_1, a) = r(a) + γ V(s_2) and Q(s_2, a) = r(a) with r(1) = 4, copies alike."""
    sizes = {"n_agents": 1, "obs_dim": 2, "state_dim": 2, "action_dim": 2, "critic_hidden_dims": ()}
    module = make_iql(**sizes, n_critics=1, trace_decay=0.0, **options)
    critic = module.critic
    with torch.no_grad():
        for value in (critic.value, critic.target_value):
            value.mlp.head.weight.copy_(torch.tensor([[first, second]]))
            value.mlp.head.bias.zero_()
        for q in (critic.q, critic.target_q):
            q.members[0].central.head.weight.copy_(torch.tensor([[0.9 * second, 0.0, 0.0, 2.0]]))
            q.members[0].central.head.bias.fill_(2.0)
    return module


# Expectile v of {0, 4} with p(4): τ p (4 - v) = (1 - τ) (1 - p) v. First step p = 1/4, second 3/4.
@pytest.mark.parametrize(
    ("expectile", "first", "second"), [(0.5, 1 + 0.9 * 3, 3.0), (0.9, 3 + 0.9 * 4 * 27 / 28, 4 * 27 / 28)]
)
def test_its_fixed_point_is_sarsas_with_the_middle_expectile_and_better_with_a_higher_one(expectile, first, second):
    """At .5 V is the value of the behaviour: V(s_2) = 3/4 · 4 and V(s_1) = 1/4 · 4 + γ V(s_2).

    The losses are convex in the tables, so that no other V is left where it is.
    """
    for shift in (0.0, 0.1, -0.1):
        module = tabular(first, second, expectile=expectile)
        with torch.no_grad():
            module.critic.value.mlp.head.weight.add_(shift)
        losses = module.losses(two_steps(), generator())
        assert float(losses["q"].detach()) == pytest.approx(0.0, abs=1e-12)
        (slope,) = torch.autograd.grad(losses["value"], module.critic.value.mlp.head.weight)
        if shift:
            assert bool((slope * shift > 1e-3).all())  # back to where it was
        else:
            torch.testing.assert_close(slope, torch.zeros(1, 2), rtol=0, atol=1e-12)


def test_good_joint_actions_are_cloned_more():
    """Rewards ±1 equally often and V = 0: advantages ±1 in units of their size, odds e^(2β)."""
    sizes = {"n_agents": 1, "obs_dim": 1, "state_dim": 1, "action_dim": 2, "critic_hidden_dims": ()}
    module = make_iql(
        **sizes, expectile=0.5, inverse_temperature=0.5, trace_decay=0.0, critic_target_rate=0.3, hidden_dims=()
    )
    train(module, one_step_games([[0], [1]], [4, 4], [1.0, -1.0]), updates=150, learning_rate=0.1)
    logits = module.head(torch.zeros(1, 1, 1)).detach().flatten()
    assert float(logits[0] - logits[1]) == pytest.approx(2 * 0.5, abs=2e-2)


def test_it_acts_as_a_clone_and_says_what_its_critic_thinks():
    module, batch = iql(), random_batch()
    assert module.policy == HeadPolicy(module.head)
    assert module.evaluation_policies()["policy, mode"] == HeadPolicy(module.head, sample=False)
    answers = module.diagnostics(batch)
    usable = batch.valid[:, :-1] & (batch.terminals[:, :-1] | batch.valid[:, 1:])
    torch.testing.assert_close(answers["q_mean"], module.critic.action_values(batch)[usable].mean())
    torch.testing.assert_close(answers["v_mean"], module.critic.state_values(batch)[:, :-1][usable].mean())
    torch.testing.assert_close(answers["target_mean"], module.critic.targets(batch)[usable].mean())


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"n_critics": 0}, "n_critics must be at least 1, got 0"),
        ({"expectile": 1.0}, r"expectile must be in \(0, 1\), got 1\.0"),
        ({"inverse_temperature": -0.1}, r"inverse_temperature must be at least 0, got -0\.1"),
        ({"maximum_weight": 0.0}, r"maximum_weight must be above 0, got 0\.0"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\], got 1\.1"),
        ({"trace_decay": 1.1}, r"trace_decay must be in \[0, 1\], got 1\.1"),
        ({"critic_target_rate": 0.0}, r"critic_target_rate must be in \(0, 1\], got 0\.0"),
    ],
)
def test_impossible_options_are_refused(option, match):
    with pytest.raises(ValueError, match=f"{match}.*model.init_args"):
        make_iql(**option)
