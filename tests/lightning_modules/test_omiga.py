import pytest
import torch

from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.policies import HeadPolicy
from tests.lightning_modules.batches import (
    ACTION_DIM,
    generator,
    make_bc,
    make_omiga,
    one_step_games,
    random_batch,
    randomise,
    train,
)

ALPHA = 2.0
pytestmark = pytest.mark.usefixtures("float64")


def omiga(discrete=True, **options):
    module = make_omiga(discrete, temperature=ALPHA, **options)
    randomise(module.critic)
    with torch.no_grad():  # of ordinary size: not all weights are cut
        for parameter in module.critic.parameters():
            parameter.mul_(0.4)
    return module


@pytest.mark.parametrize("discrete", [True, False])
def test_the_policy_clones_each_agents_action_by_its_own_advantage(discrete):
    module, batch = omiga(discrete, maximum_weight=1.3), random_batch(discrete)
    critic, total, count, cut = module.critic, 0.0, 0, 0
    vectors = encode_actions(batch.actions, ACTION_DIM, discrete).to(torch.float64)
    for b, t in batch.valid[:, :-1].nonzero().tolist():
        shares, _ = critic.target_mixer.weights(batch.state[b, t])
        z = shares * (critic.target_q(batch.obs[b, t], vectors[b, t]) - critic.value(batch.obs[b, t])) / ALPHA
        weights = z.detach().exp().clamp(max=1.3)
        features = module.head.encoder(batch.obs[b, t])
        logs = module.head.log_prob(features, batch.actions[b, t], batch.legal_actions[b, t])
        total, count, cut = total - (weights * logs).sum(), count + len(logs), cut + int((weights == 1.3).sum())
    assert 0 < cut < count
    torch.testing.assert_close(module.losses(batch, generator())["policy"], total / count, rtol=1e-12, atol=1e-12)


def test_its_critic_is_omigas_trained_beside_the_policy():
    module, batch = omiga(), random_batch()
    losses, alone = module.losses(batch, generator()), module.critic.losses(batch)
    assert list(losses) == ["q", "value", "policy"]
    assert all(torch.equal(losses[key], alone[key]) for key in alone)
    assert module.target_pairs() == module.critic.target_pairs()


def test_local_advantages_sum_to_the_global_one():
    module, batch = omiga(), random_batch()
    module.critic.target_value.load_state_dict(module.critic.value.state_dict())
    total = module.local_advantages(batch).sum(dim=-1)
    torch.testing.assert_close(total, module.critic.advantages(batch, "q"), rtol=0, atol=1e-10)


def test_with_a_large_temperature_it_is_cloning():
    module, bc = make_omiga(temperature=1e9), make_bc(steps_per_update=None)
    bc.head.load_state_dict(module.head.state_dict())
    batch = random_batch()
    expected = bc.losses(batch, generator())["policy"]
    torch.testing.assert_close(module.losses(batch, generator())["policy"], expected, rtol=0, atol=1e-6)


def test_on_a_bandit_values_and_policy_are_those_of_the_regularised_optimum():
    """Additive rewards 2 a_1 + a_2 of uniform behaviour; w, Q and b are learned, with Q_tot = the reward.

    V_i = (α / w_i) log E exp(w_i Q_i / α), and π_i(a) = β_i(a) exp(w_i (Q_i(a) - V_i) / α): log-odds of agent 1 are
    w_1 (Q_1(1) - Q_1(0)) / α = 2 / α, of agent 2 they are 1 / α.
    """
    sizes = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2, "critic_hidden_dims": ()}
    module = make_omiga(**sizes, hidden_dims=(), temperature=ALPHA, trace_decay=0.0, critic_target_rate=0.3)
    joint = [[0, 0], [0, 1], [1, 0], [1, 1]]
    batch = one_step_games(joint, [1] * 4, [0.0, 1.0, 2.0, 3.0])
    train(module, batch, updates=300, learning_rate=0.06)
    critic, obs = module.critic, batch.obs[:, 0]
    shares, _ = critic.target_mixer.weights(batch.state[0, 0])
    local = critic.target_q(obs, encode_actions(batch.actions[:, 0], 2, True)).detach()  # (4, N), uniform behaviour
    exact = ALPHA / shares * (shares * local / ALPHA).exp().mean(dim=0).log()
    torch.testing.assert_close(critic.value(obs)[0].detach(), exact.detach(), rtol=0, atol=2e-2)
    logits = module.head(torch.zeros(1, 2, 1)).detach()[0]
    odds = logits[:, 1] - logits[:, 0]
    torch.testing.assert_close(odds, torch.tensor([2 / ALPHA, 1 / ALPHA]), rtol=0, atol=3e-2)
    weights = (module.local_advantages(batch) / ALPHA).exp()
    torch.testing.assert_close(weights.mean(dim=(0, 1)), torch.ones(2), rtol=0, atol=2e-2)


def test_it_acts_as_a_clone_and_says_what_its_critic_thinks():
    module, batch = omiga(), random_batch()
    assert module.policy == HeadPolicy(module.head)
    assert module.evaluation_policies()["policy, mode"] == HeadPolicy(module.head, sample=False)
    answers = module.diagnostics(batch)
    usable = batch.valid[:, :-1] & (batch.terminals[:, :-1] | batch.valid[:, 1:])
    torch.testing.assert_close(answers["q_mean"], module.critic.action_values(batch)[usable].mean())
    torch.testing.assert_close(answers["v_mean"], module.critic.state_values(batch)[:, :-1][usable].mean())
    weights = (module.local_advantages(batch) / ALPHA).exp().clamp(max=100.0)
    torch.testing.assert_close(answers["weight_mean"], weights[usable].mean())


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
        ({"maximum_weight": 0.0}, r"maximum_weight must be above 0, got 0\.0"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\], got 1\.1"),
        ({"trace_decay": -0.1}, r"trace_decay must be in \[0, 1\], got -0\.1"),
        ({"critic_target_rate": 0.0}, r"critic_target_rate must be in \(0, 1\], got 0\.0"),
    ],
)
def test_impossible_options_are_refused(option, match):
    with pytest.raises(ValueError, match=f"{match}.*model.init_args"):
        make_omiga(**option)
