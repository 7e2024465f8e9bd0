from dataclasses import replace

import pytest
import torch

from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.actions import append_agent_id, encode_actions
from lightning_modules.networks.velocity import FlowContext
from tests.lightning_modules.batches import (
    default_dtype,
    generator,
    make_flow_bc,
    one_step_games,
    random_batch,
    randomise,
    train,
)
from tests.lightning_modules.gaussian_flows import MEAN, STD, Gaussian, played

ALONE = {"n_agents": 1, "obs_dim": 1, "state_dim": 1}
SMALL = {"hidden_dims": (32, 32), "ema_rate": 0.05}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("output", ["endpoint", "velocity"])
@pytest.mark.parametrize("discrete", [True, False])
def test_the_loss_is_that_of_plain_flow_matching(discrete, output):
    """Row by row, on the same draws: noise of every agent first, then a time of every row."""
    with default_dtype(torch.float64):
        module, batch = randomise(make_flow_bc(discrete, output=output, min_time=0.1)), random_batch(discrete)
        steps, source = joint_steps(batch), generator(3)
        noise = torch.randn(steps.legal_actions.shape, generator=source)
        times = 0.1 + 0.9 * torch.rand(noise[..., 0].numel(), 1, generator=source)
        total, row = torch.zeros(()), 0
        for b in range(len(batch.valid)):
            for step in range(batch.valid.shape[1] - 1):
                for agent in range(module.n_agents if batch.valid[b, step] else 0):
                    action = encode_actions(batch.actions[b, step, agent], module.action_dim, discrete)
                    z0, t = noise.flatten(0, 1)[row : row + 1], times[row : row + 1]
                    context = FlowContext(
                        append_agent_id(batch.obs[b, step])[agent : agent + 1],
                        torch.zeros(1, 2),
                        torch.ones(1, 1),
                        batch.legal_actions[b, step, agent : agent + 1],
                    )
                    velocity = module.velocity((1 - t) * action + t * z0, t, t, context)
                    factor = t if output == "endpoint" else 1.0
                    total, row = total + (factor * (velocity - (z0 - action))).square().sum(), row + 1
        torch.testing.assert_close(module.losses(batch, generator(3))["policy"], total / row, rtol=1e-10, atol=1e-10)


def test_an_update_takes_as_many_steps_as_asked_for():
    few, all_of_them = make_flow_bc(steps_per_update=5), make_flow_bc(steps_per_update=None)
    seen = []
    for module in (few, all_of_them):
        module.velocity.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        module.losses(random_batch(), generator())
    assert seen == [15, 3 * len(joint_steps(random_batch()).obs)]


def continuous_games(actions):
    """One-step episodes of one agent, one recorded action each."""
    batch = one_step_games([[0]], [len(actions)], [0.0])
    return batch._replace(
        actions=actions.view(-1, 1, 1, 1).repeat(1, 2, 1, 1), legal_actions=batch.legal_actions[..., :1]
    )


@pytest.mark.parametrize("output", ["endpoint", "velocity"])
def test_it_reproduces_mean_and_spread_of_gaussian_actions(output):
    batch = continuous_games(MEAN + STD * torch.randn(256, generator=generator()))
    module = make_flow_bc(False, **ALONE, **SMALL, action_dim=1, output=output)
    train(module, batch, updates=300, learning_rate=1e-2)
    mean, std = float(batch.actions[:, 0].mean()), float(batch.actions[:, 0].std())
    for steps in (4, 10):
        actions = played(replace(module.policy, steps=steps), 4000, n_agents=1)
        assert float(actions.mean()) == pytest.approx(mean, abs=0.03)
        # What as many steps draw from the exact flow: the more of them, the less is missing of the spread
        assert float(actions.std()) == pytest.approx(Gaussian(mean, std).spread_by_euler(steps), abs=0.02)


def test_it_reproduces_two_modes_and_their_frequencies():
    batch = continuous_games(torch.tensor([-0.6] * 96 + [0.6] * 32))
    module = make_flow_bc(False, **ALONE, **SMALL, action_dim=1, sampling_steps=20)
    train(module, batch, updates=400, learning_rate=1e-2)
    actions = played(module.policy, 4000, n_agents=1)
    near = (actions.abs() - 0.6).abs() < 0.15
    assert float(near.float().mean()) > 0.9
    assert float((actions > 0).float().mean()) == pytest.approx(0.25, abs=0.05)


def test_it_reproduces_frequencies_of_choices_and_nothing_joint():
    batch = one_step_games([[0, 1], [1, 0]], [96, 32], [0.0, 0.0])
    module = make_flow_bc(**{**ALONE, "n_agents": 2}, **SMALL, action_dim=2, sampling_steps=10)
    train(module, batch, updates=300, learning_rate=1e-2)
    obs, legal = torch.zeros(4000, 2, 1), torch.ones(4000, 2, 2, dtype=torch.bool)
    choices, _ = module.policy.act(obs, legal, None, generator(1))
    first = (choices == 0).float().mean(dim=0)
    torch.testing.assert_close(first, torch.tensor([0.75, 0.25]), rtol=0, atol=0.05)
    alike = float((choices[:, 0] == choices[:, 1]).float().mean())
    assert alike == pytest.approx(2 * 0.75 * 0.25, abs=0.06)  # never recorded, but each draws for itself


def test_it_is_compared_with_other_noise_and_fewer_steps():
    module = make_flow_bc(sampling_steps=10)
    policies = module.evaluation_policies()
    assert policies["policy"] == module.policy
    calls = {name: policy.network_calls for name, policy in policies.items()}
    assert calls == {
        "policy": 10,
        "policy, zero noise": 10,
        "policy, shared noise": 10,
        "policy, 4 steps": 4,
        "policy, 1 step": 1,
    }
    assert all(policy.solver == "euler" and policy.network is module.acting_velocity for policy in policies.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling_steps": 0}, "sampling_steps must be at least 1, got 0"),
        ({"min_time": 0.0}, r"min_time must be in \(0, 1\), got 0.0"),
        ({"ema_rate": 0.0}, r"ema_rate must be in \(0, 1\], got 0.0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_flow_bc(**options)
