import pytest
import torch

from lightning_modules.flows.noise_schedules import noise_schedule
from lightning_modules.networks.denoiser import Denoiser
from tests.lightning_modules.batches import (
    generator,
    normal,
    random_legal_actions,
    randomise,
    team_shape,
)

N_AGENTS, OBS_DIM, ACTION_DIM, LEVELS = 3, 4, 5, 8
BOTH = pytest.mark.parametrize("discrete", [True, False])
pytestmark = pytest.mark.usefixtures("float64")


def denoiser(discrete, output="endpoint", **memory):
    shape = team_shape(discrete, n_agents=N_AGENTS, obs_dim=OBS_DIM, action_dim=ACTION_DIM, **memory)
    return randomise(Denoiser(shape, (16, 16), "cosine", LEVELS, output))


def question(rows=7, levels=None):
    """Noisy actions, their levels, features and legal actions."""
    level = torch.randint(1, LEVELS + 1, (rows, N_AGENTS, 1), generator=generator()) if levels is None else levels
    features, legal = normal(rows, N_AGENTS, OBS_DIM + N_AGENTS, seed=1), random_legal_actions(rows, N_AGENTS, 5)
    return normal(rows, N_AGENTS, ACTION_DIM), level, features, legal


def test_the_endpoint_of_a_choice_is_the_mean_of_the_legal_one_hot_vectors():
    network, (z, level, features, legal) = denoiser(True), question()
    logits = network(z, level, features, legal)
    chances = logits.exp() * legal / (logits.exp() * legal).sum(dim=-1, keepdim=True)
    ones = 2 * torch.eye(ACTION_DIM) - 1
    expected = sum(chances[..., action, None] * ones[action] for action in range(ACTION_DIM))
    torch.testing.assert_close(network.endpoint(z, level, logits, legal), expected, rtol=0, atol=1e-12)


def test_the_endpoint_of_a_continuous_action_is_the_answer_within_the_box():
    network, (z, level, features, legal) = denoiser(False), question()
    answer = network(z, level, features, legal)
    got = network.endpoint(z, level, 3 * answer, legal)
    assert torch.equal(got, (3 * answer).clamp(-1, 1))
    assert bool((got.abs() == 1).any()) and bool((got.abs() < 1).any())


def test_where_noise_is_answered_the_endpoint_takes_it_out_and_stays_in_the_box():
    network, (z, level, features, legal) = denoiser(False, output="noise"), question()
    noise, kept = network(z, level, features, legal), noise_schedule("cosine", LEVELS)[level]
    expected = ((z - (1 - kept).sqrt() * noise) / kept.sqrt()).clamp(-1, 1) * legal
    got = network.endpoint(z, level, noise, legal)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    assert bool((got.abs() == 1).any()) and bool((got.abs() < 1).any())


def test_entries_that_only_pad_an_action_are_neither_seen_nor_answered():
    network, (z, level, features, legal) = denoiser(False), question()
    answer = network(z, level, features, legal)
    assert bool((answer[~legal] == 0).all()) and bool((answer[legal] != 0).all())
    assert torch.equal(network(z.masked_fill(~legal, 9.0), level, features, legal), answer)


@BOTH
def test_the_answer_depends_on_action_level_observation_and_agent(discrete):
    network, (z, level, features, _) = denoiser(discrete), question()
    legal = torch.ones(7, N_AGENTS, ACTION_DIM, dtype=torch.bool)
    answer = network(z, level, features, legal)
    other = level % LEVELS + 1
    for changed in ((z + 1, level, features), (z, other, features), (z, level, features.roll(1, dims=-1))):
        assert bool((network(*changed, legal) != answer).any(dim=-1).all())


@BOTH
def test_features_and_legal_actions_may_lack_leading_axes(discrete):
    network, (z, level, features, legal) = denoiser(discrete), question()
    several, levels = torch.stack([z, z + 1]), torch.stack([level, level])
    answers = network(several, levels, features, legal)
    for answer, one in zip(answers, several, strict=True):
        torch.testing.assert_close(answer, network(one, level, features, legal))


@BOTH
def test_what_is_predicted_at_one_level(discrete):
    network, (z, level, features, legal) = denoiser(discrete), question(levels=torch.full((7, N_AGENTS, 1), 3))
    expected = network.endpoint(z, level, network(z, level, features, legal), legal)
    assert torch.equal(network.predicted(z, 3, features, legal), expected)


def test_the_schedule_is_no_weight():
    assert not [key for key in denoiser(True).state_dict() if "mlp" not in key]


def test_memory_is_part_of_the_features():
    network = denoiser(True, encoder="gru", memory_dim=6)
    features, memory = network.encoder.step(normal(7, N_AGENTS, OBS_DIM), network.encoder.initial_memory(7))
    assert features.shape == (7, N_AGENTS, OBS_DIM + N_AGENTS + 6) and memory.shape == (7, N_AGENTS, 6)
    z, level, _, legal = question()
    assert network(z, level, features, legal).shape == (7, N_AGENTS, ACTION_DIM)
