from dataclasses import replace

import pytest
import torch

from lightning_modules.flows.diffusion import ddpm_step
from lightning_modules.networks import diffusion_policies
from lightning_modules.networks.denoiser import Denoiser
from lightning_modules.networks.diffusion_policies import DiffusionPolicy
from lightning_modules.networks.local_critics import LocalCritics
from tests.lightning_modules.batches import generator, random_legal_actions
from tests.lightning_modules.networks.acting import (
    ACTION_DIM,
    ENVS,
    FREE,
    N_AGENTS,
    OBS_DIM,
    act,
    acting_shape,
    calls_of,
    decided,
    observations,
)

LEVELS = 4
BOTH = pytest.mark.parametrize("discrete", [True, False])
SAMPLERS = [{"sampler": "ddpm"}, {"sampler": "ddim", "eta": 0.5}, {"sampler": "ddim"}, {"sampler": "dpm_solver"}]
pytestmark = pytest.mark.usefixtures("float64")


def policy_of(discrete=True, steps=LEVELS, candidates=1, **options):
    torch.manual_seed(0)
    network = decided(Denoiser(acting_shape(discrete), (16, 16), "cosine", LEVELS))
    critics = LocalCritics(acting_shape(discrete), (16,)) if candidates > 1 else None
    return DiffusionPolicy(network, steps, critics=critics, candidates=candidates, **options)


def without_numbers(policy):
    """The same without anything that tells agents apart."""
    with torch.no_grad():
        behind = policy.network.mlp.linears[0].weight
        behind[:, -N_AGENTS:] = 0
        for critic in policy.critics.members if policy.critics else ():
            critic.mlp.linears[0].weight[:, OBS_DIM : OBS_DIM + N_AGENTS] = 0
    return policy


@pytest.mark.parametrize("options", [*SAMPLERS, {"noise": "zero"}, {"steps": 2}, {"candidates": 3}])
def test_a_diffusion_never_takes_an_illegal_action(options):
    legal = random_legal_actions(1000, N_AGENTS, ACTION_DIM)
    actions = act(policy_of(**options), observations(envs=1000), legal)
    assert bool(legal.gather(-1, actions.unsqueeze(-1)).all())


@BOTH
@pytest.mark.parametrize(
    ("options", "of_network", "of_critics"),
    [({}, 4, 0), ({"steps": 2}, 2, 0), ({"candidates": 3}, 4, 2), ({"steps": 1, "sampler": "dpm_solver"}, 1, 0)],
)
def test_calls_of_a_decision(discrete, options, of_network, of_critics):
    """Candidates are rows of the same call."""
    policy = policy_of(discrete, **options)
    seen = calls_of(policy.network)
    judged = [calls_of(critic.mlp) for critic in policy.critics.members] if policy.critics else []
    act(policy)
    assert len(seen) == of_network and sum(len(calls) for calls in judged) == of_critics
    assert policy.network_calls == of_network + of_critics
    assert all(inputs[0].shape == (policy.candidates, ENVS, N_AGENTS, ACTION_DIM) for inputs in seen)
    assert [int(inputs[1].unique()) for inputs in seen] == sorted({int(i[1].max()) for i in seen}, reverse=True)


@BOTH
def test_a_decision_by_hand(discrete):
    """Ancestral sampling, one draw of noise after the other."""
    policy, obs, source = policy_of(discrete), observations(), generator()
    features, _ = policy.network.encoder.step(obs, None)
    kept, z = policy.network.kept, torch.randn(1, ENVS, N_AGENTS, ACTION_DIM, generator=source)
    for level in range(LEVELS, 0, -1):
        endpoint = policy.network.predicted(z, level, features, FREE)
        noise = torch.randn(z.shape, generator=source) if level > 1 else None
        z = ddpm_step(z, endpoint, kept[level], kept[level - 1], noise)
    expected = z[0].argmax(dim=-1) if discrete else z[0].clamp(-1, 1)
    torch.testing.assert_close(act(policy, obs), expected)


@BOTH
@pytest.mark.parametrize("options", SAMPLERS)
def test_zero_noise_acts_without_chance(discrete, options):
    policy = policy_of(discrete, noise="zero", **options)
    assert torch.equal(act(policy, seed=1), act(policy, seed=2))
    drawing = replace(policy, noise="normal")
    assert not torch.equal(act(drawing, seed=1), act(drawing, seed=2))


@BOTH
@pytest.mark.parametrize("options", [*SAMPLERS, {"candidates": 3}])
def test_agents_that_share_noise_and_see_the_same_do_the_same(discrete, options):
    """Which needs every draw to be shared; agents with noise of their own differ."""
    policy = without_numbers(policy_of(discrete, shared_noise=True, **options))
    obs = observations(envs=200)[:, :1].expand(200, N_AGENTS, OBS_DIM)
    together = act(policy, obs)
    # Not equal to the last digit: on some processors, rounding depends on a row's place in a matrix
    torch.testing.assert_close(together, together[:, :1].expand_as(together))
    apart = act(replace(policy, shared_noise=False), obs)
    assert not torch.equal(apart, apart[:, :1].expand_as(apart))
    assert not torch.equal(together[:1].expand_as(together), together)  # teams do not share


@pytest.mark.parametrize(("options", "blocks"), [({}, 4), ({"steps": 2}, 2), ({"sampler": "ddim"}, 1)])
def test_every_block_of_noise_is_the_teams(options, blocks, monkeypatch):
    drawn = []

    def team_noise(*arguments):
        drawn.append(diffusion_policies_noise(*arguments))
        return drawn[-1]

    diffusion_policies_noise = diffusion_policies.team_noise
    monkeypatch.setattr(diffusion_policies, "team_noise", team_noise)
    act(policy_of(shared_noise=True, **options))
    assert len(drawn) == blocks
    assert all(torch.equal(block, block[..., :1, :].expand_as(block)) for block in drawn)
    assert len({float(block[0, 0, 0, 0]) for block in drawn}) == blocks


@BOTH
def test_an_agent_uses_its_own_observation_only(discrete):
    policy, obs = policy_of(discrete, candidates=3), observations()
    other = obs.clone()
    other[:, 1] += 2.0
    before, after = act(policy, obs), act(policy, other)
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    assert not torch.equal(after[:, 1], before[:, 1])


@BOTH
def test_the_smaller_value_decides_among_candidates(discrete):
    """Q_1 = ±1000 a_0, Q_2 beyond it: the candidate of the largest, or smallest, first entry."""
    policy, obs = policy_of(discrete, candidates=6), observations()
    for sign in (1.0, -1.0):
        critics = LocalCritics(acting_shape(discrete), ())
        with torch.no_grad():
            for shift, critic in zip((5.0, 2000.0), critics.members, strict=True):
                critic.mlp.head.weight.zero_()
                critic.mlp.head.weight[0, -ACTION_DIM] = sign * 1000
                critic.mlp.head.bias.fill_(shift)
        features, _ = policy.network.encoder.step(obs, None)
        drawn = policy.generate(features, FREE, 6, generator())
        first = (drawn.argmax(dim=-1) == 0).double() if discrete else drawn.clamp(-1, 1)[..., 0]
        expected = (sign * first).amax(dim=0) * sign
        chosen = act(replace(policy, critics=critics), obs)
        got = (chosen == 0).double() if discrete else chosen[..., 0]
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("shared", [True, False])
def test_candidates_are_drawn_in_proportion_to_the_exponential_of_their_values(shared):
    """40,000 draws; .01 is 4 standard errors."""
    values = torch.tensor([1.0, -0.5, 0.3]).view(3, 1, 1).expand(3, 20_000, 2)
    policy = replace(policy_of(), shared_noise=shared)
    chosen = policy._drawn_candidate(values, generator()).squeeze(0)
    shares = torch.stack([torch.bincount(agent, minlength=3) for agent in chosen.T]).double() / 20_000
    torch.testing.assert_close(shares, values[:, 0, 0].softmax(dim=0).expand(2, 3), rtol=0, atol=0.015)
    assert torch.equal(chosen[:, 0], chosen[:, 1]) == shared


class KnownChances(Denoiser):
    """Knows the distribution of the choices, so that its endpoint is the exact mean given z."""

    chances = torch.tensor([0.5, 0.3, 0.15, 0.04, 0.01], dtype=torch.float64)

    def predicted(self, z, level, features, legal_actions):
        kept, ones = self.kept[level], 2 * torch.eye(ACTION_DIM) - 1
        distance = (z.unsqueeze(-2) - kept.sqrt() * ones).square().sum(dim=-1)
        return (self.chances.log() - distance / (2 * (1 - kept))).softmax(dim=-1) @ ones


@pytest.mark.parametrize(
    ("sampler", "steps", "tolerance"), [("ddpm", 100, 0.02), ("dpm_solver", 10, 0.015), ("ddim", 10, 0.02)]
)
def test_choices_of_known_chances_are_made_as_often(sampler, steps, tolerance):
    """20,000 choices of one agent; .015 is 4 standard errors."""
    network = KnownChances(acting_shape(n_agents=1), (4,), "cosine", 100)
    policy, obs = DiffusionPolicy(network, steps, sampler), torch.zeros(20_000, 1, OBS_DIM)
    shares = torch.bincount(act(policy, obs).flatten(), minlength=ACTION_DIM) / 20_000
    torch.testing.assert_close(shares, KnownChances.chances, rtol=0, atol=tolerance)


@BOTH
@pytest.mark.parametrize("options", SAMPLERS)
def test_gradients_pass_through_every_step(discrete, options):
    """More steps, another gradient: what the first call answers still counts."""
    gradients = []
    for detached in (False, True):
        policy = policy_of(discrete, **options)
        features = policy.network.encoder(observations())
        if detached:  # only the last call learns
            whole = policy.network.predicted
            policy.network.predicted = lambda z, k, *rest, whole=whole: whole(z if k > 1 else z.detach(), k, *rest)
        vectors = policy.generate(features, FREE, 1, generator())
        gradients.append(
            torch.autograd.grad(
                vectors.sum(dim=-1).sin().sum() + vectors[..., 0].sum(), policy.network.mlp.head.weight
            )[0]
        )
    assert bool((gradients[0] != 0).any()) and not torch.allclose(*gradients, rtol=1e-6, atol=1e-9)


def test_other_noise_for_the_final_table():
    rows = policy_of(candidates=3).with_other_noise()
    assert set(rows) == {"policy, zero noise", "policy, shared noise"}
    assert rows["policy, zero noise"].candidates == 1 and rows["policy, shared noise"].shared_noise
    assert set(policy_of(shared_noise=True).with_other_noise()) == {"policy, zero noise", "policy, own noise"}
