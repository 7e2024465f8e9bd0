from dataclasses import replace

import pytest
import torch

from lightning_modules.networks.actions import append_agent_id
from lightning_modules.networks.flow_policies import FlowPolicy
from lightning_modules.networks.velocity import FlowContext
from tests.lightning_modules.batches import generator, random_legal_actions
from tests.lightning_modules.gaussian_flows import MEAN, STD, ExactNetwork, Gaussian, played
from tests.lightning_modules.networks.acting import (
    ACTION_DIM,
    ENVS,
    FREE,
    N_AGENTS,
    act,
    calls_of,
    flow_policy,
    observations,
)


@pytest.mark.parametrize(
    "options", [{}, {"output": "velocity"}, {"steps": 3}, {"placement": "test"}, {"noise": "zero"}]
)
def test_a_flow_never_takes_an_illegal_action(options):
    legal = random_legal_actions(3000, N_AGENTS, ACTION_DIM)
    policy = flow_policy(guidance_scale=3.0, **options)
    actions = act(policy, observations(envs=3000), legal)
    assert bool(legal.gather(-1, actions.unsqueeze(-1)).all())


@pytest.mark.parametrize(
    ("options", "per_decision"),
    [
        ({}, 1),
        ({"placement": "train", "guidance_scale": 4.0}, 1),
        ({"placement": "input", "guidance_scale": 4.0}, 1),
        ({"placement": "test", "guidance_scale": 4.0}, 2),
        ({"placement": "test", "guidance_scale": 1.0}, 1),
        ({"placement": "test", "guidance_scale": 4.0, "steps": 3}, 6),
        ({"steps": 5}, 5),
        ({"noise": "zero", "shared_noise": True}, 1),
    ],
)
def test_calls_of_a_decision(options, per_decision):
    policy = flow_policy(**options)
    seen = calls_of(policy.network)
    act(policy)
    assert len(seen) == policy.network_calls == per_decision
    assert all(len(inputs[0]) == ENVS * N_AGENTS for inputs in seen)  # everybody in every call


def test_cloning_is_never_guided():
    policy = flow_policy(placement="test", guidance_scale=4.0).unconditional()
    seen = calls_of(policy.network)
    act(policy)
    assert len(seen) == policy.network_calls == 1
    assert bool((seen[0][3].condition == 0).all()) and bool((seen[0][3].scale == 1).all())
    act(replace(flow_policy(guidance_scale=4.0), network=policy.network).unconditional())
    assert bool((seen[1][3].condition == 0).all()) and bool((seen[1][3].scale == 1).all())


@pytest.mark.parametrize(("placement", "scale"), [("input", 4.0), ("train", 1.0)])
def test_what_the_network_is_asked_for(placement, scale):
    policy, obs = flow_policy(placement=placement, guidance_scale=4.0, condition=(0.5, 1.0)), observations()
    legal = random_legal_actions(ENVS, N_AGENTS, ACTION_DIM)
    seen = calls_of(policy.network)
    act(policy, obs, legal)
    _, r, t, context = seen[0]
    assert bool((r == 0).all()) and bool((t == 1).all())
    assert torch.equal(context.condition, torch.tensor([[0.5, 1.0]]).double().expand(ENVS * N_AGENTS, 2))
    assert bool((context.scale == scale).all())
    assert torch.equal(context.obs, append_agent_id(obs).flatten(0, 1))
    assert torch.equal(context.legal_actions, legal.flatten(0, 1))


def by_hand(policy, obs, legal, condition, scale):
    """Z - u(z, 0, 1) of every row, for the noise of ``generator(0)``."""
    rows = ENVS * N_AGENTS
    z = torch.randn(ENVS, N_AGENTS, ACTION_DIM, generator=generator(), dtype=torch.float64).flatten(0, 1)
    context = FlowContext(
        append_agent_id(obs).flatten(0, 1),
        torch.tensor([condition]).double().expand(rows, 2),
        torch.full((rows, 1), scale, dtype=torch.float64),
        legal.flatten(0, 1),
    )
    ones = torch.ones(rows, 1, dtype=torch.float64)
    return (z - policy.network(z, 0 * ones, ones, context)).detach()


def test_one_step_by_hand():
    policy, obs = flow_policy(False, guidance_scale=3.0), observations()
    expected = by_hand(policy, obs, FREE, (1.0, 1.0), 3.0).view(ENVS, N_AGENTS, ACTION_DIM).clamp(-1, 1)
    torch.testing.assert_close(act(policy, obs), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("discrete", [True, False])
def test_guidance_when_acting_by_hand(discrete):
    policy, obs = flow_policy(discrete, placement="test", guidance_scale=3.0), observations()
    legal = random_legal_actions(ENVS, N_AGENTS, ACTION_DIM) if discrete else FREE
    plain = by_hand(policy, obs, legal, (0.0, 0.0), 1.0)
    good = by_hand(policy, obs, legal, (1.0, 1.0), 1.0)
    guided = (plain + 3.0 * (good - plain)).view(ENVS, N_AGENTS, ACTION_DIM)
    expected = guided.masked_fill(~legal, -torch.inf).argmax(dim=-1) if discrete else guided.clamp(-1, 1)
    torch.testing.assert_close(act(policy, obs, legal), expected, rtol=0, atol=1e-12)


def test_zero_noise_is_deterministic_and_starts_at_zero():
    policy = flow_policy(False, noise="zero")
    seen = calls_of(policy.network)
    assert torch.equal(act(policy, seed=1), act(policy, seed=2))
    assert bool((seen[0][0] == 0).all())


@pytest.mark.parametrize("shared", [True, False])
def test_who_shares_noise(shared):
    policy = flow_policy(False, shared_noise=shared)
    seen = calls_of(policy.network)
    act(policy)
    noise = seen[0][0].view(ENVS, N_AGENTS, ACTION_DIM)
    assert bool((noise == noise[:, :1]).all()) == shared
    assert len(noise[:, 0, 0].unique()) == ENVS  # copies of the environment do not share
    if not shared:
        assert len(noise.unique()) == noise.numel()


@pytest.mark.parametrize("shared", [True, False])
def test_noise_is_standard_normal(shared):
    policy = flow_policy(False, shared_noise=shared)
    seen = calls_of(policy.network)
    act(policy, observations(envs=4000))
    noise = seen[0][0].view(4000, N_AGENTS, ACTION_DIM)[:, 0]  # 20,000 independent numbers
    assert abs(float(noise.mean())) < 4 / 20_000**0.5
    assert abs(float(noise.var()) - 1) < 4 * (2 / 20_000) ** 0.5


@pytest.mark.parametrize("discrete", [True, False])
def test_no_guidance_at_all_is_the_null_condition(discrete):
    for placement in ("input", "test"):
        policy = flow_policy(discrete, placement=placement, guidance_scale=0.0)
        assert policy.network_calls == 1
        assert torch.equal(act(policy), act(policy.unconditional()))
    built_in = flow_policy(discrete, placement="train", guidance_scale=0.0)
    assert not torch.equal(act(built_in), act(built_in.unconditional()))


def test_euler_asks_for_the_velocity_of_instants():
    policy = flow_policy(False, steps=4, solver="euler")
    seen = calls_of(policy.network)
    act(policy)
    assert len(seen) == policy.network_calls == 4
    for k, (_, r, t, _) in enumerate(seen):
        assert torch.equal(r, t) and bool((t == 1 - k / 4).all())
    guided = replace(policy, placement="test", guidance_scale=3.0)
    act(guided)
    assert len(seen) - 4 == guided.network_calls == 8


def test_euler_by_hand():
    policy, obs = flow_policy(False, steps=2, solver="euler", placement="test", guidance_scale=3.0), observations()
    z = torch.randn(ENVS, N_AGENTS, ACTION_DIM, generator=generator(), dtype=torch.float64).flatten(0, 1)
    rows = len(z)
    good = FlowContext(
        append_agent_id(obs).flatten(0, 1),
        torch.ones(rows, 2, dtype=torch.float64),
        torch.ones(rows, 1, dtype=torch.float64),
        FREE.flatten(0, 1),
    )
    for time in (1.0, 0.5):
        t = torch.full((rows, 1), time, dtype=torch.float64)
        plain = policy.network(z, t, t, good._replace(condition=0 * good.condition))
        z = z - (plain + 3.0 * (policy.network(z, t, t, good) - plain)) / 2
    expected = z.detach().view(ENVS, N_AGENTS, ACTION_DIM).clamp(-1, 1)
    torch.testing.assert_close(act(policy, obs), expected, rtol=0, atol=1e-12)


def test_a_constant_velocity_is_followed_exactly():
    """The network predicts that everything ends where it stands less .3, at any time."""

    class Constant(ExactNetwork):
        def __call__(self, z, r, t, context):
            return torch.full_like(z, 0.3)

    for solver in ("euler", "meanflow"):
        ends = [played(FlowPolicy(Constant(Gaussian()), steps=k, solver=solver), episodes=50) for k in (1, 7)]
        noise = torch.randn(50, 2, 1, generator=generator())
        for end in ends:
            torch.testing.assert_close(end, (noise - 0.3).clamp(-1, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_one_meanflow_step_of_gaussian_actions_has_their_mean_and_spread(steps):
    actions = played(FlowPolicy(ExactNetwork(Gaussian()), steps=steps))
    noise = torch.randn(2000, 2, 1, generator=generator())
    torch.testing.assert_close(actions, (MEAN + STD * noise).clamp(-1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("steps", "spread"), [(1, 0.0), (10, 0.1078), (100, 0.1454), (1000, STD)])
def test_euler_of_gaussian_actions_has_their_mean_and_comes_to_their_spread(steps, spread):
    assert Gaussian().spread_by_euler(steps) == pytest.approx(spread, abs=6e-4)
    actions = played(FlowPolicy(ExactNetwork(Gaussian()), steps=steps, solver="euler"), episodes=200)
    noise = torch.randn(200, 2, 1, generator=generator())
    middle = played(FlowPolicy(ExactNetwork(Gaussian()), steps=steps, solver="euler", noise="zero"), episodes=1)
    assert float(middle[0, 0]) == pytest.approx(MEAN, abs=0.2 / steps)  # noise 0 ends in the mean, at rate 1 / K
    expected = middle[0, 0] + Gaussian().spread_by_euler(steps) * noise
    torch.testing.assert_close(actions, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(("solver", "steps"), [("meanflow", 1), ("euler", 10)])
def test_guidance_between_two_gaussians_of_equal_spread_moves_the_mean(scale, solver, steps):
    """Their velocities differ by what is proportional to the means: v_w is that of N(m + w (m_good - m), std²)."""
    network = ExactNetwork(good=Gaussian(0.2, 0.1), every=Gaussian(-0.1, 0.1))
    policy = FlowPolicy(network, guidance_scale=scale, placement="test", steps=steps, solver=solver)
    guided = FlowPolicy(ExactNetwork(Gaussian(-0.1 + 0.3 * scale, 0.1)), steps=steps, solver=solver)
    torch.testing.assert_close(played(policy), played(guided), rtol=0, atol=1e-5)
    assert policy.network_calls == steps * (2 if scale == 2.5 else 1)


def test_rows_of_a_table_have_the_noise_that_the_policy_has_not():
    policy = flow_policy(steps=3)
    other = policy.with_other_noise()
    assert other == {
        "policy, zero noise": replace(policy, noise="zero"),
        "policy, shared noise": replace(policy, shared_noise=True),
    }
    back = replace(policy, shared_noise=True, noise="zero").with_other_noise()
    assert back["policy, own noise"] == policy


@pytest.mark.parametrize("solver", ["meanflow", "euler"])
@pytest.mark.parametrize("output", ["endpoint", "velocity"])
def test_entries_that_pad_an_action_change_nothing_and_are_zero(output, solver):
    policy = flow_policy(False, output, steps=3, solver=solver, placement="test", guidance_scale=2.0)
    legal = FREE.clone()
    legal[:, 1, 3:] = False
    padded, whole = act(policy, legal=legal), act(policy)
    assert torch.equal(padded[:, [0, 2]], whole[:, [0, 2]])
    assert bool((padded[:, 1, 3:] == 0).all()) and not torch.equal(padded[:, 1, :3], whole[:, 1, :3])
