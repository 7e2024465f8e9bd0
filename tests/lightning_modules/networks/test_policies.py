import math
from dataclasses import replace

import pytest
import torch

from lightning_modules.networks import encoders
from lightning_modules.networks.actions import append_agent_id
from lightning_modules.networks.critics import LocalActionValue
from lightning_modules.networks.flow_policies import FlowPolicy
from lightning_modules.networks.policies import ActionHead, GreedyPolicy, HeadPolicy
from tests.lightning_modules.batches import generator, normal, random_legal_actions, randomise, team_shape
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
    flow_policy,
    observations,
)

SHUFFLED = [2, 0, 1]


def head_policy(discrete=True, sample=True):
    torch.manual_seed(0)
    return HeadPolicy(decided(ActionHead(acting_shape(discrete), (16,))), sample)


def greedy_policy(encoder="mlp"):
    torch.manual_seed(0)
    network = LocalActionValue(acting_shape(encoder=encoder, memory_dim=6), (16,)).double()
    with torch.no_grad():
        network.mlp.head.weight.normal_()
    return GreedyPolicy(network)


def without_chance(policy, **noise):
    """The policy such that all agents are treated alike."""
    options = {HeadPolicy: {"sample": False}, FlowPolicy: noise, GreedyPolicy: {}}[type(policy)]
    return replace(policy, **options)


ALL = [lambda: head_policy(True), lambda: head_policy(False), lambda: flow_policy(True), lambda: flow_policy(False)]
NAMES = ["head, discrete", "head, continuous", "flow, discrete", "flow, continuous"]


@pytest.mark.parametrize("make", ALL, ids=NAMES)
def test_equal_generators_give_equal_actions_and_others_do_not(make):
    policy = make()
    assert torch.equal(act(policy, seed=1), act(policy, seed=1))
    assert not torch.equal(act(policy, seed=1), act(policy, seed=2))


@pytest.mark.parametrize("make", ALL, ids=NAMES)
def test_the_global_generator_is_neither_used_nor_moved(make):
    policy = make()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = act(policy)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(act(policy), first)


@pytest.mark.parametrize("make", [*ALL, greedy_policy], ids=[*NAMES, "greedy"])
def test_an_agent_acts_on_its_own_observation_only(make):
    policy, obs = make(), observations(envs=200)
    before = act(policy, obs)
    changed = obs.clone()
    changed[:, 1] = observations(seed=1, envs=200)[:, 1]
    after = act(policy, changed)
    # One noise vector per agent: nobody else's draw moves either.
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    assert float((after[:, 1] != before[:, 1]).double().mean()) > 0.1


@pytest.mark.parametrize("make", [*ALL, greedy_policy], ids=[*NAMES, "greedy"])
def test_agents_with_equal_observations_differ_by_their_number(make):
    policy = make()
    policy = without_chance(policy, noise="zero")
    obs = observations(envs=200)[:, :1].expand(200, N_AGENTS, OBS_DIM)
    assert float((act(policy, obs)[:, 0] != act(policy, obs)[:, 1]).double().mean()) > 0.05


@pytest.mark.parametrize("make", [*ALL, greedy_policy], ids=[*NAMES, "greedy"])
def test_exchanging_agents_exchanges_actions(make, monkeypatch):
    policy, obs = make(), observations()
    policy = without_chance(policy, shared_noise=True)
    before, legal = act(policy, obs), FREE

    def exchanged(features):
        numbered = append_agent_id(features)
        return torch.cat([features, numbered[..., SHUFFLED, features.shape[-1] :]], dim=-1)

    monkeypatch.setattr(encoders, "append_agent_id", exchanged)
    torch.testing.assert_close(act(policy, obs[:, SHUFFLED], legal), before[:, SHUFFLED], rtol=0, atol=1e-12)


@pytest.mark.parametrize("sample", [True, False])
def test_a_head_never_takes_an_illegal_action(sample):
    legal = random_legal_actions(3000, N_AGENTS, ACTION_DIM)
    actions = act(head_policy(sample=sample), observations(envs=3000), legal)
    assert bool(legal.gather(-1, actions.unsqueeze(-1)).all())


@pytest.mark.parametrize("output", ["endpoint", "velocity"])
@pytest.mark.parametrize("placement", ["input", "test"])
def test_continuous_actions_stay_in_their_box(output, placement):
    actions = act(flow_policy(False, output, placement=placement, guidance_scale=8.0), observations(envs=500))
    assert float(actions.abs().max()) <= 1
    assert float(act(head_policy(False), observations(envs=500)).abs().max()) <= 1


@pytest.mark.parametrize("make", [lambda: head_policy(), lambda: flow_policy()], ids=["head", "flow"])
def test_padding_without_legal_actions_gives_a_number(make):
    actions = act(make(), legal=torch.zeros_like(FREE))
    assert bool(((actions >= 0) & (actions < ACTION_DIM)).all())


def test_the_head_is_called_once():
    policy = head_policy()
    seen = calls_of(policy.network.mlp)
    act(policy)
    assert len(seen) == policy.network_calls == 1


LOGITS = torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0], dtype=torch.float64)
DRAWS = 20_000


def constant_head(discrete):
    """A head that answers LOGITS, or tanh(LOGITS) with deviation e^-3, to anything."""
    head = ActionHead(acting_shape(discrete, n_agents=1, obs_dim=1), ()).double()
    with torch.no_grad():
        head.mlp.head.weight.zero_()
        head.mlp.head.bias.copy_(LOGITS if discrete else LOGITS / 2)
        head.log_std.fill_(-3.0)
    return head


def draw(policy, legal):
    shape = (DRAWS, 1, ACTION_DIM)
    obs = torch.zeros(DRAWS, 1, 1, dtype=torch.float64)
    return policy.act(obs, legal.expand(shape), None, generator(1))[0][:, 0]


@pytest.mark.parametrize("legal", [[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 1, 0, 0]])
def test_a_head_samples_with_the_right_frequencies(legal):
    legal = torch.tensor(legal, dtype=torch.bool)
    chances = (LOGITS.exp() * legal) / (LOGITS.exp() * legal).sum()
    counts = torch.bincount(draw(HeadPolicy(constant_head(True)), legal), minlength=ACTION_DIM)
    error = (counts / DRAWS - chances).abs()
    assert bool((error <= 4 * (chances * (1 - chances) / DRAWS).sqrt()).all())


@pytest.mark.parametrize(("legal", "mode"), [([1, 1, 1, 1, 1], 4), ([1, 0, 1, 1, 0], 3), ([0, 0, 1, 0, 0], 2)])
def test_the_mode_is_the_most_likely_legal_choice(legal, mode):
    actions = draw(HeadPolicy(constant_head(True), sample=False), torch.tensor(legal, dtype=torch.bool))
    assert bool((actions == mode).all())


def test_a_continuous_head_samples_its_normal_distribution():
    legal, mean, std = torch.ones(ACTION_DIM, dtype=torch.bool), (LOGITS / 2).tanh(), math.exp(-3)
    actions = draw(HeadPolicy(constant_head(False)), legal)
    assert bool(((actions.mean(dim=0) - mean).abs() < 4 * std / DRAWS**0.5).all())
    assert bool(((actions.std(dim=0) / std - 1).abs() < 4 / (2 * DRAWS) ** 0.5).all())
    torch.testing.assert_close(
        draw(HeadPolicy(constant_head(False), sample=False), legal), mean.detach().expand(DRAWS, ACTION_DIM)
    )


def test_the_likelihood_of_choices_is_categorical_over_legal_ones():
    head, obs = randomise(ActionHead(acting_shape(), (16,)).double()), observations()
    legal = random_legal_actions(ENVS, N_AGENTS, ACTION_DIM)
    logits = head(obs).masked_fill(~legal, -torch.inf)
    expected = torch.distributions.Categorical(logits=logits)
    actions = expected.sample()
    torch.testing.assert_close(
        head.log_prob(head.encoder(obs), actions, legal), expected.log_prob(actions), rtol=0, atol=1e-12
    )


def test_the_likelihood_of_continuous_actions_is_normal_and_summed_over_their_entries():
    head = randomise(ActionHead(acting_shape(discrete=False), (16,)).double())
    obs, actions = observations(), normal(ENVS, N_AGENTS, ACTION_DIM, seed=4).clamp(-1, 1)
    expected = torch.distributions.Normal(head(obs), head.log_std.exp()).log_prob(actions).sum(dim=-1)
    torch.testing.assert_close(head.log_prob(head.encoder(obs), actions, FREE), expected, rtol=0, atol=1e-12)
    assert bool((head(obs).abs() <= 1).all())


def test_only_a_continuous_head_learns_its_deviation():
    assert ActionHead(acting_shape(discrete=False), ()).log_std.requires_grad
    assert not ActionHead(acting_shape(discrete=True), ()).log_std.requires_grad


def test_the_greedy_policy_takes_the_best_legal_choice():
    policy, obs, legal = greedy_policy(), observations(), random_legal_actions(ENVS, N_AGENTS, ACTION_DIM)
    values = policy.network.all_values(obs).masked_fill(~legal, -torch.inf)
    actions = act(policy, obs, legal)
    assert torch.equal(actions, values.argmax(dim=-1))
    assert not torch.equal(actions, act(policy, obs))  # illegal choices would have been better for some
    assert torch.equal(act(policy, obs, legal, seed=1), actions)


def test_the_greedy_policy_remembers_as_its_network_does():
    policy = greedy_policy("gru")
    sequence = 2 * normal(ENVS, 3, N_AGENTS, OBS_DIM)
    expected = policy.network.all_values(sequence).argmax(dim=-1)
    memory = policy.initial_state(ENVS)
    for step in range(3):
        actions, memory = policy.act(sequence[:, step], FREE, memory)
        assert torch.equal(actions, expected[:, step])


def test_the_greedy_policy_is_called_once():
    policy = greedy_policy()
    seen = calls_of(policy.network.mlp)
    act(policy)
    assert len(seen) == policy.network_calls == 1


def test_a_policy_has_no_memory():
    assert head_policy().initial_state(3) is None and flow_policy().initial_state(3) is None


def test_what_only_pads_a_continuous_action_is_neither_learned_nor_executed():
    head = ActionHead(team_shape(False, n_agents=2, obs_dim=3, action_dim=2), (4,)).double()
    obs = torch.randn((5, 2, 3), generator=generator(), dtype=torch.float64)
    whole = torch.ones((5, 2, 2), dtype=torch.bool)
    padded = whole.clone()
    padded[:, 1, 1] = False  # the second agent has one entry only
    actions = torch.full((5, 2, 2), 0.5, dtype=torch.float64)
    other = actions.clone()
    other[:, 1, 1] = -0.9
    assert torch.equal(
        head.log_prob(head.encoder(obs), actions, padded), head.log_prob(head.encoder(obs), other, padded)
    )
    assert not torch.equal(
        head.log_prob(head.encoder(obs), actions, whole), head.log_prob(head.encoder(obs), other, whole)
    )
    assert torch.equal(
        head.log_prob(head.encoder(obs), actions, padded)[:, 0], head.log_prob(head.encoder(obs), actions, whole)[:, 0]
    )
    (gradient,) = torch.autograd.grad(head.log_prob(head.encoder(obs), actions, padded)[:, 1].sum(), head.log_std)
    assert gradient[0] != 0 and gradient[1] == 0
    for policy in (HeadPolicy(head), HeadPolicy(head, sample=False)):
        chosen, _ = policy.act(obs, padded, None, generator())
        everything, _ = policy.act(obs, whole, None, generator())
        assert torch.equal(chosen, everything.masked_fill(~padded, 0.0))
        assert (everything[:, 1, 1] != 0).all()
