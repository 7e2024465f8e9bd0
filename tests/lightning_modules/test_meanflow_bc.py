import pytest
import torch

from lightning_modules.flow_regression import cloning_rows
from lightning_modules.flows.path import sample_times
from lightning_modules.joint_steps import joint_steps
from tests.lightning_modules.batches import (
    default_dtype,
    generator,
    make_meanflow_bc,
    make_vgm2p,
    one_step_games,
    random_batch,
    randomise,
    start_policy,
    train,
)
from tests.lightning_modules.gaussian_flows import played


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("discrete", [True, False])
def test_the_loss_is_the_meanflow_identity(discrete):
    """|u - sg[v - (t - r) Du]|² in action space, on the same draws, with Du by PyTorch's forward mode."""
    with default_dtype(torch.float64):
        module, batch = randomise(make_meanflow_bc(discrete, flow_ratio=0.5)), random_batch(discrete)
        steps, source = joint_steps(batch), generator(3)
        noise = torch.randn(steps.legal_actions.shape, generator=source)
        rows = cloning_rows(steps, module.velocity, noise)
        r, t, apart = sample_times((len(rows.actions),), 0.5, 0.05, "uniform", source)
        z, velocity = (1 - t) * rows.actions + t * rows.noise, rows.noise - rows.actions
        with torch.no_grad():
            directions = (module.velocity(z, t, t, rows.context), torch.zeros_like(r), torch.ones_like(t))
            _, derivative = torch.func.jvp(lambda *p: module.velocity(*p, rows.context), (z, r, t), directions)
        error = t * (module.velocity(z, r, t, rows.context) - velocity + (t - r) * derivative)
        expected = error.square().sum(dim=-1).mean()
        assert bool(apart.any()) and not bool(apart.all())
        torch.testing.assert_close(module.losses(batch, generator(3))["policy"], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("discrete", [True, False])
def test_it_is_vgm2p_without_conditions_and_guidance(discrete):
    """On the same rows and times VGM2P's regression has the same loss where all conditions are dropped."""
    with default_dtype(torch.float64):
        alone, guided = make_meanflow_bc(discrete), start_policy(make_vgm2p(discrete))
        guided.velocity.load_state_dict(alone.velocity.state_dict())
        steps = joint_steps(random_batch(discrete))
        rows = cloning_rows(steps, alone.velocity, torch.randn(steps.legal_actions.shape, generator=generator()))
        times = sample_times((len(rows.actions),), 0.5, 0.05, "uniform", generator(1))
        expected = guided.regression.loss(guided.velocity, rows, times)
        assert torch.equal(alone.regression.loss(alone.velocity, rows, times), expected)


@pytest.mark.slow
def test_one_step_draws_both_modes_of_the_actions():
    """Plain regression would end in the mean, -.3, where nothing was recorded."""
    actions = torch.tensor([-0.6] * 96 + [0.6] * 32).view(-1, 1, 1, 1).repeat(1, 2, 1, 1)
    batch = one_step_games([[0]], [128], [0.0])
    batch = batch._replace(actions=actions, legal_actions=batch.legal_actions[..., :1])
    options = {"n_agents": 1, "obs_dim": 1, "state_dim": 1, "action_dim": 1, "hidden_dims": (64, 64)}
    module = make_meanflow_bc(False, **options, ema_rate=0.02, flow_ratio=0.25)
    train(module, batch, updates=1000, learning_rate=3e-3)
    drawn = played(module.policy, 4000, n_agents=1)
    assert module.policy.network_calls == 1
    assert float(((drawn.abs() - 0.6).abs() < 0.15).float().mean()) > 0.65
    assert float((drawn > 0).float().mean()) == pytest.approx(0.25, abs=0.08)
    assert float(drawn.mean()) == pytest.approx(-0.3, abs=0.12)


def test_it_is_compared_with_other_noise_and_more_steps():
    module = make_meanflow_bc()
    policies = module.evaluation_policies()
    assert policies["policy"] == module.policy
    calls = {name: policy.network_calls for name, policy in policies.items()}
    assert calls == {"policy": 1, "policy, zero noise": 1, "policy, shared noise": 1, "policy, 4 steps": 4}
    assert all(policy.solver == "meanflow" and policy.network is module.acting_velocity for policy in policies.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flow_ratio": 1.1}, r"flow_ratio must be in \[0, 1\], got 1.1"),
        ({"sampling_steps": 0}, "sampling_steps must be at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_meanflow_bc(**options)
