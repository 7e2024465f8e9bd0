import math

import pytest
import torch

from lightning_modules.networks.batch_constrained import (
    BestCandidatePolicy,
    LikelyGreedyPolicy,
    Perturbation,
    likely_actions,
)
from lightning_modules.networks.critics import LocalActionValue, LocalValue
from lightning_modules.networks.policies import ActionHead, GreedyPolicy, HeadPolicy
from lightning_modules.networks.vae import ActionVAE
from tests.lightning_modules.batches import generator, normal, random_legal_actions, randomise, team_shape

ENVS, N_AGENTS, OBS_DIM, ACTION_DIM = 40, 3, 4, 5


def shape(discrete, encoder="mlp"):
    sizes = {"n_agents": N_AGENTS, "obs_dim": OBS_DIM, "action_dim": ACTION_DIM}
    return team_shape(discrete, **sizes, encoder=encoder, memory_dim=6)


def act(policy, obs, legal, seed=0):
    with torch.no_grad():
        return policy.act(obs, legal, policy.initial_state(len(obs)), generator(seed))[0]


def test_a_choice_is_likely_next_to_the_most_likely_legal_one():
    logits = torch.tensor([0.0, math.log(0.5), math.log(0.39), math.log(9.0)])
    legal = torch.tensor([True, True, True, False])
    assert likely_actions(logits, legal, 0.4).tolist() == [True, True, False, False]
    assert likely_actions(logits, ~legal, 0.4).tolist() == [False, False, False, True]
    assert likely_actions(logits, torch.zeros(4, dtype=torch.bool), 0.4).tolist() == [False] * 4


def test_the_ends_of_the_threshold():
    logits, legal = normal(ENVS, ACTION_DIM), random_legal_actions(ENVS, ACTION_DIM)
    assert torch.equal(likely_actions(logits, legal, 0.0), legal)
    only = likely_actions(logits, legal, 1.0)
    assert bool((only.sum(dim=-1) == 1).all())
    assert torch.equal(only.int().argmax(dim=-1), logits.masked_fill(~legal, -torch.inf).argmax(dim=-1))


@pytest.mark.parametrize("encoder", ["mlp", "gru"])
def test_likely_choices_are_compared_by_value(encoder):
    value = randomise(LocalActionValue(shape(True, encoder), (8,)).double(), 1)
    head = randomise(ActionHead(shape(True, encoder), (8,)).double(), 2)
    obs, legal = normal(ENVS, N_AGENTS, OBS_DIM), random_legal_actions(ENVS, N_AGENTS, ACTION_DIM)
    policy = LikelyGreedyPolicy(value, head, 0.3)
    window = obs.unsqueeze(1)  # one step of every episode
    chances = head(window)[:, 0].masked_fill(~legal, -torch.inf).softmax(dim=-1)
    unlikely = chances < 0.3 * chances.amax(dim=-1, keepdim=True)
    expected = value.all_values(window)[:, 0].masked_fill(unlikely | ~legal, -torch.inf).argmax(dim=-1)
    assert torch.equal(act(policy, obs, legal), expected)
    assert policy.network_calls == 2
    assert torch.equal(act(LikelyGreedyPolicy(value, head, 0.0), obs, legal), act(GreedyPolicy(value), obs, legal))
    cloned = act(HeadPolicy(head, sample=False), obs, legal)
    assert torch.equal(act(LikelyGreedyPolicy(value, head, 1.0), obs, legal), cloned)
    assert not torch.equal(expected, cloned)


def test_a_perturbation_is_small_and_stays_in_the_box():
    perturbation = randomise(Perturbation(shape(False), (8,), 0.1).double())
    actions = normal(6, ENVS, N_AGENTS, ACTION_DIM, seed=1).clamp(-1, 1)
    features = perturbation.encoder(normal(ENVS, N_AGENTS, OBS_DIM))
    changed = perturbation.of_features(features, actions)
    assert bool((changed.abs() <= 1).all()) and float((changed - actions).abs().max()) <= 0.1 + 1e-12
    torch.testing.assert_close(changed[2], perturbation.of_features(features, actions[2]))
    unbounded = Perturbation(shape(False), (8,), 0.0).double()
    assert torch.equal(unbounded.of_features(features, actions), actions)


@pytest.mark.parametrize("encoder", ["mlp", "gru"])
def test_the_best_candidate_acts(encoder):
    vae = randomise(ActionVAE(shape(False, encoder), (8,)).double(), 1)
    perturbation = randomise(Perturbation(shape(False, encoder), (8,), 0.1).double(), 2)
    value = randomise(LocalValue(shape(False, encoder), (8,)).double(), 3)
    obs, legal = normal(ENVS, N_AGENTS, OBS_DIM), random_legal_actions(ENVS, N_AGENTS, ACTION_DIM)
    policy = BestCandidatePolicy(vae, perturbation, value, candidates=4)
    chosen = act(policy, obs, legal)
    window = obs.unsqueeze(1)
    drawn = vae.generate(vae.encoder(window)[:, 0], 4, generator())
    features = perturbation.encoder(window)[:, 0]
    actions = perturbation.of_features(features, drawn).masked_fill(~legal, 0.0)
    values = torch.stack([value(window, candidate.unsqueeze(1))[:, 0] for candidate in actions])
    for env in range(ENVS):
        for agent in range(N_AGENTS):
            expected = actions[int(values[:, env, agent].argmax()), env, agent]
            torch.testing.assert_close(chosen[env, agent], expected)
    assert policy.network_calls == 12  # four candidates through three networks
