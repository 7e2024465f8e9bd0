import math

import pytest
import torch

from lightning_modules.networks.policies import HeadPolicy
from tests.lightning_modules.batches import (
    ACTION_DIM,
    DIMS,
    N_AGENTS,
    generator,
    make_icq,
    one_step_games,
    random_batch,
    randomise_parts,
    train,
)

BETA, ALPHA, DISCOUNT, DECAY = 0.7, 2.0, 0.9, 0.6
pytestmark = pytest.mark.usefixtures("float64")


def icq(discrete=True, **options):
    module = make_icq(discrete, temperature=BETA, target_temperature=ALPHA, trace_decay=DECAY, **options)
    randomise_parts(module, "q", "mixer", "target_q", "target_mixer")
    with torch.no_grad():  # values of ordinary size: several steps share the weight
        for network in (module.q, module.target_q):
            network.mlp.head.weight.mul_(0.3)
    return module


def local_values(network, batch, b, t, actions=None):
    """Q_i of one step, (N,), from the state and each agent's own observation."""
    seen = torch.cat([batch.state[b, t].expand(N_AGENTS, -1), batch.obs[b, t]], dim=-1)
    return network(seen, batch.actions[b, t] if actions is None else actions).detach()


def steps_of(batch, mask):
    return [tuple(step) for step in mask.nonzero().tolist()]


def in_batch(scores, temperature):
    """Softmax weights of mean 1, by hand."""
    powers = {step: math.exp(score / temperature) for step, score in scores.items()}
    mean = sum(powers.values()) / len(powers)
    return {step: power / mean for step, power in powers.items()}


@pytest.mark.parametrize("discrete", [True, False])
def test_the_critics_loss_by_hand(discrete):
    module, batch = icq(discrete), random_batch(discrete, window=4)
    window = batch.valid.shape[1]
    values = {}
    for b, t in steps_of(batch, batch.valid):
        shares = module.target_mixer.weights(batch.state[b, t]).detach()
        values[b, t] = float((shares * local_values(module.target_q, batch, b, t)).sum())
    weights = in_batch(values, ALPHA)
    assert sum(weights.values()) == pytest.approx(len(values))
    assert max(weights.values()) > 1.1

    def target(b, t):
        """G of a step, or None without one."""
        if batch.terminals[b, t]:
            return float(batch.rewards[b, t])
        if t + 1 == window or not batch.valid[b, t + 1]:
            return None
        value, following = weights[b, t + 1] * values[b, t + 1], target(b, t + 1) if t + 2 < window else None
        following = value if following is None else following
        return float(batch.rewards[b, t]) + DISCOUNT * ((1 - DECAY) * value + DECAY * following)

    total, count = 0.0, 0
    for b, t in steps_of(batch, batch.valid[:, :-1]):
        goal = target(b, t)
        if goal is not None:
            shares = module.mixer.weights(batch.state[b, t]).detach()
            total, count = total + (float((shares * local_values(module.q, batch, b, t)).sum()) - goal) ** 2, count + 1
    assert float(module.losses(batch, generator())["q"].detach()) == pytest.approx(total / count, rel=1e-10)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("discrete", [True, False])
def test_the_policys_loss_by_hand(discrete, scaled):
    module, batch = icq(discrete, policy_samples=3, scale_advantages=scaled), random_batch(discrete)
    legal = batch.legal_actions[:, :-1]
    draws, features = generator(4), module.head.encoder(batch.obs[:, :-1])
    with torch.no_grad():
        proposed = [] if discrete else [module.policy.choose(features, legal, draws) for _ in range(3)]
    advantages, logs, shares = {}, {}, {}
    for b, t in steps_of(batch, batch.valid[:, :-1]):
        output = module.head(batch.obs[b, t]).detach()
        if discrete:
            baseline = torch.zeros(N_AGENTS)
            for i in range(N_AGENTS):
                options = [a for a in range(ACTION_DIM) if legal[b, t, i, a]]
                powers = [math.exp(float(output[i, a])) for a in options]
                for action, power in zip(options, powers, strict=True):
                    worth = local_values(module.q, batch, b, t, torch.full((N_AGENTS,), action))
                    baseline[i] += power / sum(powers) * worth[i]
        else:
            worths = [local_values(module.q, batch, b, t, actions[b, t]) for actions in proposed]
            baseline = sum(worths) / 3
        advantages[b, t] = local_values(module.q, batch, b, t) - baseline
        known = module.head.encoder(batch.obs[b, t])
        logs[b, t] = module.head.log_prob(known, batch.actions[b, t], batch.legal_actions[b, t]).detach()
        shares[b, t] = module.mixer.weights(batch.state[b, t]).detach()
    unit = float(torch.stack(list(advantages.values())).square().mean().sqrt()) if scaled else 1.0
    total = 0.0
    for i in range(N_AGENTS):  # each agent's steps compete among themselves
        weights = in_batch({step: float(values[i]) / unit for step, values in advantages.items()}, BETA)
        assert max(weights.values()) > 1.5
        total += sum(float(shares[s][i]) * weights[s] * float(logs[s][i]) for s in logs)
    assert float(module.losses(batch, generator(4))["policy"].detach()) == pytest.approx(-total / len(logs), rel=1e-10)


def test_local_critics_know_the_state_and_agents_their_observation_only():
    module, batch = icq(), random_batch()
    other = batch._replace(state=batch.state + 1)
    with torch.no_grad():
        team = [module.mixer(module.q(seen(b), b.actions), batch.state) for b in (batch, other)]
        logits = [module.head(b.obs) for b in (batch, other)]
    assert bool((team[0] != team[1]).all()) and torch.equal(*logits)


def seen(batch):
    return torch.cat([batch.state.unsqueeze(2).expand(-1, -1, N_AGENTS, -1), batch.obs], dim=-1)


def test_a_row_without_any_legal_action_is_harmless_on_padding():
    module, batch = icq(), random_batch()
    legal = batch.legal_actions & batch.valid[..., None, None]
    losses = module.losses(batch._replace(legal_actions=legal), generator())
    assert all(bool(loss.isfinite()) for loss in losses.values())
    expected = module.losses(batch, generator())
    torch.testing.assert_close(losses["policy"], expected["policy"], rtol=0, atol=1e-12)


def test_with_large_temperatures_its_values_are_those_of_the_behaviour_and_it_clones():
    """A team whose agents' shares explain the reward: Q_tot(a) = reward, π = frequencies of the recording."""
    sizes = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2, "critic_hidden_dims": ()}
    module = make_icq(**sizes, hidden_dims=(), temperature=1e6, target_temperature=1e6, critic_target_rate=0.3)
    batch = one_step_games([[0, 0], [0, 1], [1, 0], [1, 1]], [3, 1, 3, 1], [0.0, 1.0, 2.0, 3.0])
    train(module, batch, updates=200, learning_rate=0.1)
    team = module.mixer(module.q(seen_alone(batch), batch.actions), batch.state)[:, 0]
    torch.testing.assert_close(team.detach(), batch.rewards[:, 0], rtol=0, atol=2e-2)
    chances = module.head(torch.zeros(1, 2, 1)).softmax(dim=-1).detach()[0]
    torch.testing.assert_close(chances, torch.tensor([[0.5, 0.5], [0.75, 0.25]]), rtol=0, atol=2e-2)


def test_good_actions_are_cloned_more():
    sizes = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2, "critic_hidden_dims": ()}
    module = make_icq(**sizes, hidden_dims=(), temperature=0.5, target_temperature=1e6, critic_target_rate=0.3)
    batch = one_step_games([[0, 0], [0, 1], [1, 0], [1, 1]], [1] * 4, [0.0, 1.0, 2.0, 3.0])
    train(module, batch, updates=150, learning_rate=0.1)
    chances = module.head(torch.zeros(1, 2, 1)).softmax(dim=-1).detach()[0]
    assert float(chances[:, 1].min()) > 0.85


def seen_alone(batch):
    return torch.cat([batch.state.unsqueeze(2).expand(-1, -1, 2, -1), batch.obs], dim=-1)


def test_it_acts_as_a_clone_and_says_what_its_critic_thinks():
    module, batch = icq(), random_batch()
    assert module.policy == HeadPolicy(module.head)
    assert module.evaluation_policies()["policy, mode"] == HeadPolicy(module.head, sample=False)
    usable = batch.valid[:, :-1] & (batch.terminals[:, :-1] | batch.valid[:, 1:])
    team = module.mixer(module.q(seen(batch), batch.actions), batch.state)[:, :-1].detach()
    torch.testing.assert_close(module.diagnostics(batch)["q_mean"], team[usable].mean())


def test_copies_of_critic_and_mixer_follow():
    module = make_icq(critic_target_rate=0.25)
    pairs = {(pair.source, pair.target, pair.rate) for pair in module.target_pairs()}
    assert pairs == {(module.q, module.target_q, 0.25), (module.mixer, module.target_mixer, 0.25)}
    assert module.q.encoder.features_dim == DIMS["state_dim"] + DIMS["obs_dim"] + N_AGENTS


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
        ({"target_temperature": -1.0}, r"target_temperature must be above 0, got -1\.0"),
        ({"policy_samples": 0}, "policy_samples must be at least 1, got 0"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\], got 1\.1"),
        ({"trace_decay": 1.1}, r"trace_decay must be in \[0, 1\], got 1\.1"),
        ({"critic_target_rate": 0.0}, r"critic_target_rate must be in \(0, 1\], got 0\.0"),
    ],
)
def test_impossible_options_are_refused(option, match):
    with pytest.raises(ValueError, match=f"{match}.*model.init_args"):
        make_icq(**option)
