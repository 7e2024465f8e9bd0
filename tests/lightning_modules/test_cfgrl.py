from dataclasses import replace

import pytest
import torch

from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.actions import append_agent_id, encode_actions
from lightning_modules.networks.velocity import FlowContext
from tests.lightning_modules.batches import (
    default_dtype,
    generator,
    make_cfgrl,
    one_step_games,
    random_batch,
    randomise,
    start_policy,
    train,
)
from tests.lightning_modules.gaussian_flows import Gaussian, played

GOOD, BAD, WIDTH = 0.4, -0.4, 0.2


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def actions_of(policy, discrete, seed=3):
    batch = random_batch(discrete)
    with torch.no_grad():
        return policy.act(batch.obs[:, 0], batch.legal_actions[:, 0], None, generator(seed))[0]


@pytest.mark.parametrize("output", ["endpoint", "velocity"])
@pytest.mark.parametrize("discrete", [True, False])
def test_the_loss_is_flow_matching_under_labels_some_of_which_are_dropped(discrete, output):
    with default_dtype(torch.float64):
        batch = random_batch(discrete)
        module = start_policy(randomise(make_cfgrl(discrete, output=output, condition_dropout=0.4)), batch)
        steps, source = joint_steps(batch), generator(3)
        shape = steps.legal_actions.shape
        kept = torch.rand(shape[:-1], generator=source) >= 0.4
        noise = torch.randn(shape, generator=source).flatten(0, 1)
        t = 0.05 + 0.95 * torch.rand(len(noise), 1, generator=source)
        label = torch.where(steps.advantages > 0, 1.0, -1.0).unsqueeze(-1).expand(shape[:-1])
        condition = torch.stack([torch.where(kept, label, 0.0), kept.double()], dim=-1).flatten(0, 1)
        actions = encode_actions(steps.actions, module.action_dim, discrete).flatten(0, 1)
        obs, legal = append_agent_id(steps.obs).flatten(0, 1), steps.legal_actions.flatten(0, 1)
        context = FlowContext(obs, condition, torch.ones_like(t), legal)
        velocity = module.velocity((1 - t) * actions + t * noise, t, t, context)
        error = (t if output == "endpoint" else 1.0) * (velocity - (noise - actions))
        expected = error.square().sum(dim=-1).mean()
        torch.testing.assert_close(module.losses(batch, generator(3))["policy"], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("discrete", [True, False])
def test_scale_one_is_conditional_and_scale_zero_unconditional(discrete):
    module = start_policy(randomise(make_cfgrl(discrete, sampling_steps=4)))
    module.acting_velocity.load_state_dict(module.velocity.state_dict())
    policy = module.policy
    conditional, unconditional = (replace(policy, guidance_scale=w) for w in (1.0, 0.0))
    assert (conditional.network_calls, unconditional.network_calls, policy.network_calls) == (4, 4, 8)
    assert torch.equal(
        actions_of(conditional, discrete), actions_of(replace(conditional, placement="train"), discrete)
    )  # the network is asked for good actions and nothing else
    assert torch.equal(actions_of(unconditional, discrete), actions_of(policy.unconditional(), discrete))
    assert not torch.equal(actions_of(unconditional, discrete), actions_of(conditional, discrete))
    # The formula itself, next to both ends
    for scale, end in ((1.0 + 1e-6, conditional), (1e-6, unconditional)):
        guided = replace(policy, guidance_scale=scale)
        assert guided.network_calls == 8
        torch.testing.assert_close(
            actions_of(guided, discrete).float(), actions_of(end, discrete).float(), rtol=1e-3, atol=1e-3
        )


def mixture_velocity(z, t, labels):
    """E[noise - x | z_t = z] of equal parts of N(GOOD, WIDTH²) and N(BAD, WIDTH²), or of the labelled part alone."""
    parts = [Gaussian(mean, WIDTH) for mean in labels]
    logs = torch.stack([-(((z - (1 - t) * part.mean) / part.spread(t)) ** 2) / 2 for part in parts])
    weights = logs.softmax(dim=0)
    return (weights * torch.stack([part.velocity(z, t) for part in parts])).sum(dim=0)


def two_labels(n=128):
    """Single actions around .4, whose advantage is 1, and as many around -.4, whose advantage is -1."""
    batch = one_step_games([[0], [1]], [n, n], [1.0, -1.0])
    means = torch.tensor([GOOD, BAD]).repeat_interleave(n)
    actions = means + WIDTH * torch.randn(2 * n, generator=generator())
    return batch._replace(
        actions=actions.view(-1, 1, 1, 1).repeat(1, 2, 1, 1), legal_actions=batch.legal_actions[..., :1]
    )


@pytest.mark.slow
def test_the_guided_field_of_two_gaussian_labels_is_the_closed_form():
    batch = two_labels()
    options = {"n_agents": 1, "obs_dim": 1, "state_dim": 1, "action_dim": 1, "hidden_dims": (64, 64)}
    module = make_cfgrl(False, **options, condition_dropout=0.3, ema_rate=0.02, sampling_steps=10)
    train(start_policy(module, batch), batch, updates=500, learning_rate=1e-2)

    z, scale = torch.linspace(-0.6, 0.6, 13).unsqueeze(-1), 2.0
    for time in (0.3, 0.6, 0.9):
        t = torch.full_like(z, time)
        obs = append_agent_id(torch.zeros(len(z), 1, 1)).flatten(0, 1)
        asked = FlowContext(obs, torch.ones(len(z), 2), torch.ones_like(t), torch.ones(len(z), 1, dtype=torch.bool))
        with torch.no_grad():
            plain = module.acting_velocity(z, t, t, asked.unconditional())
            guided = plain + scale * (module.acting_velocity(z, t, t, asked) - plain)
        every, good = (mixture_velocity(z, t, labels) for labels in ((GOOD, BAD), (GOOD,)))
        # In action space, where the network's error is measured; the two fields differ by up to .6 there
        torch.testing.assert_close(t * plain, t * every, rtol=0, atol=0.08)
        torch.testing.assert_close(t * guided, t * (every + scale * (good - every)), rtol=0, atol=0.16)

    cloned = played(module.policy.unconditional(), 4000, n_agents=1)
    assert float((cloned > 0).float().mean()) == pytest.approx(0.5, abs=0.06)
    asked_for = played(replace(module.policy, guidance_scale=1.0), 4000, n_agents=1)
    assert float(asked_for.mean()) == pytest.approx(GOOD, abs=0.04)
    assert float(asked_for.std()) == pytest.approx(Gaussian(GOOD, WIDTH).spread_by_euler(10), rel=0.25)


def test_it_is_compared_with_cloning_other_scales_noise_and_one_step():
    policies = make_cfgrl(sampling_steps=16).evaluation_policies()
    calls = {name: policy.network_calls for name, policy in policies.items()}
    assert calls == {
        "cloning (null condition)": 16,
        "policy, w = 1": 16,
        "policy, w = 2": 32,
        "policy, w = 4": 32,
        "policy, w = 8": 32,
        "policy, zero noise": 32,
        "policy, shared noise": 32,
        "policy, 1 step": 2,
    }


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="sampling_steps must be at least 1, got 0"):
        make_cfgrl(sampling_steps=0)
