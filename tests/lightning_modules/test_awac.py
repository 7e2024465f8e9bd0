import math

import pytest
import torch

from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.policies import HeadPolicy
from tests.lightning_modules.batches import (
    ACTION_DIM,
    generator,
    make_awac,
    make_bc,
    one_step_games,
    random_batch,
    randomise,
    train,
)

pytestmark = pytest.mark.usefixtures("float64")


def awac(discrete=True, **options):
    module = make_awac(discrete, **options)
    randomise(module.q)
    randomise(module.target_q, seed=1)
    return module


def proposed_by(module, batch, draws):
    """What the policy would do at every position, as vectors, with the same draws as the module's."""
    with torch.no_grad():
        actions = module.policy.choose(module.head.encoder(batch.obs), batch.legal_actions, draws)
    return encode_actions(actions, ACTION_DIM, module.discrete).to(torch.float64)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("mixer", ["centralised", "vdn", "qmix"])
@pytest.mark.parametrize("discrete", [True, False])
def test_the_losses_by_hand(discrete, mixer, scaled):
    options = {"mixer": mixer, "temperature": 0.8, "maximum_weight": 2.5, "scale_advantages": scaled}
    module, batch = awac(discrete, **options), random_batch(discrete)
    vectors = encode_actions(batch.actions, ACTION_DIM, discrete).to(torch.float64)
    proposed = proposed_by(module, batch, generator(4))

    def smallest(ensemble, b, t, actions):
        return min(q(batch.obs[b, t], batch.state[b, t], actions[b, t]).item() for q in ensemble.members)

    q_loss, n_targets, advantages, logs = 0.0, 0, [], []
    for b, t in batch.valid[:, :-1].nonzero().tolist():
        advantages.append(smallest(module.q, b, t, vectors) - smallest(module.q, b, t, proposed))
        features = module.head.encoder(batch.obs[b, t])
        logs.append(module.head.log_prob(features, batch.actions[b, t], batch.legal_actions[b, t]).mean().item())
        terminal = bool(batch.terminals[b, t])
        if not terminal and not batch.valid[b, t + 1]:
            continue  # truncated: no target
        target = float(batch.rewards[b, t])
        if not terminal:
            target += 0.9 * smallest(module.target_q, b, t + 1, proposed)
        inputs = (batch.obs[b, t], batch.state[b, t], vectors[b, t])
        q_loss += sum((q(*inputs).item() - target) ** 2 for q in module.q.members)
        n_targets += 1
    unit = math.sqrt(sum(a * a for a in advantages) / len(advantages)) if scaled else 1.0
    weights = [math.exp(min(a / unit / 0.8, math.log(2.5))) for a in advantages]
    assert len(set(weights)) > 5  # neither all equal nor all cut
    losses = module.losses(batch, generator(4))
    assert float(losses["q"].detach()) == pytest.approx(q_loss / n_targets, rel=1e-12)
    expected = -sum(w * log for w, log in zip(weights, logs, strict=True)) / len(logs)
    assert float(losses["policy"].detach()) == pytest.approx(expected, rel=1e-12)


def test_targets_ask_about_legal_actions_of_the_next_step_only():
    """Illegal actions may have any value; the proposals at t + 1 obey the mask at t + 1."""
    module, batch = awac(), random_batch()
    proposed = proposed_by(module, batch, generator())
    chosen = proposed.argmax(dim=-1, keepdim=True)
    assert bool(batch.legal_actions.gather(-1, chosen).all())
    only = torch.zeros_like(batch.legal_actions)
    only[..., 2] = True
    batch = batch._replace(legal_actions=only, actions=torch.full_like(batch.actions, 2))
    draws = [module.losses(batch, generator(seed))["q"] for seed in range(3)]
    assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], draws[2])  # nothing is left to chance


def test_a_row_without_any_legal_action_is_harmless_on_padding():
    module, batch = awac(), random_batch()
    legal = batch.legal_actions & batch.valid[..., None, None]
    losses = module.losses(batch._replace(legal_actions=legal), generator())
    assert all(bool(loss.isfinite()) for loss in losses.values())
    sum(losses.values()).backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


def test_with_a_large_temperature_it_is_cloning():
    module, bc = awac(temperature=1e9), make_bc(steps_per_update=None)
    bc.head.load_state_dict(module.head.state_dict())
    batch = random_batch()
    expected = bc.losses(batch, generator())["policy"]
    torch.testing.assert_close(module.losses(batch, generator())["policy"], expected, rtol=0, atol=1e-7)


def test_training_reaches_the_values_of_joint_actions_and_prefers_the_better():
    """Both agents must do the same: rewards 2 and 1, else 0; the behaviour is uniform."""
    sizes = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2, "critic_hidden_dims": (16,)}
    module = make_awac(**sizes, hidden_dims=(), critic_target_rate=0.3, temperature=0.3)
    batch = one_step_games([[0, 0], [0, 1], [1, 0], [1, 1]], [2, 2, 2, 2], [2.0, 0.0, 0.0, 1.0])
    train(module, batch, updates=200, learning_rate=0.05)
    vectors = encode_actions(batch.actions[:, 0], 2, discrete=True)
    values = module.q(batch.obs[:, 0], batch.state[:, 0], vectors).amin(dim=0).detach()
    torch.testing.assert_close(values, batch.rewards[:, 0], rtol=0, atol=2e-2)
    chances = module.head(torch.zeros(1, 2, 1)).softmax(dim=-1).detach()
    assert bool((chances[..., 0] > 0.7).all())


def test_it_acts_as_a_clone_and_says_what_its_critic_thinks():
    module, batch = awac(), random_batch()
    assert module.policy == HeadPolicy(module.head)
    assert module.evaluation_policies()["policy, mode"] == HeadPolicy(module.head, sample=False)
    answers = module.diagnostics(batch)
    assert set(answers) == {"q_mean", "q_policy_mean", "target_mean", "weight_mean"}
    usable = batch.valid[:, :-1] & (batch.terminals[:, :-1] | batch.valid[:, 1:])
    vectors = encode_actions(batch.actions, ACTION_DIM, discrete=True).to(torch.float64)
    for key, actions in (("q_mean", vectors), ("q_policy_mean", proposed_by(module, batch, generator()))):
        smallest = module.q(batch.obs, batch.state, actions).amin(dim=0)[:, :-1].detach()
        torch.testing.assert_close(answers[key], smallest[usable].mean())


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"n_critics": 0}, "n_critics must be at least 1, got 0"),
        ({"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
        ({"maximum_weight": 0.0}, r"maximum_weight must be above 0, got 0\.0"),
        ({"discount": -0.1}, r"discount must be in \[0, 1\], got -0\.1"),
        ({"critic_target_rate": 1.1}, r"critic_target_rate must be in \(0, 1\], got 1\.1"),
    ],
)
def test_impossible_options_are_refused(option, match):
    with pytest.raises(ValueError, match=f"{match}.*model.init_args"):
        make_awac(**option)
