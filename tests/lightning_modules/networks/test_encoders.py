"""Encoders: memory runs along time, for each agent alone, and begins empty."""

import pytest
import torch

from lightning_modules.networks.encoders import Encoder

ENVS, STEPS, AGENTS, OBS = 3, 6, 2, 4


@pytest.fixture
def obs():
    return torch.randn(ENVS, STEPS, AGENTS, OBS, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def encoder():
    torch.manual_seed(1)
    return Encoder(OBS, AGENTS, "gru", memory_dim=5)


def test_without_memory_features_are_observation_and_number(obs):
    encoder = Encoder(OBS, AGENTS)
    expected = torch.cat([obs, torch.eye(AGENTS).expand(ENVS, STEPS, AGENTS, AGENTS)], dim=-1)
    assert torch.equal(encoder(obs), expected) and encoder.features_dim == OBS + AGENTS
    assert encoder.initial_memory(3) is None and list(encoder.parameters()) == []
    features, memory = encoder.step(obs[:, 0], None)
    assert torch.equal(features, expected[:, 0]) and memory is None


def test_steps_give_what_the_whole_sequence_gives(encoder, obs):
    memory, features = encoder.initial_memory(ENVS), []
    for step in range(STEPS):
        now, memory = encoder.step(obs[:, step], memory)
        features.append(now)
    assert memory.shape == (ENVS, AGENTS, 5)
    torch.testing.assert_close(torch.stack(features, dim=1), encoder(obs), rtol=0, atol=1e-6)
    assert encoder(obs).shape[-1] == encoder.features_dim == OBS + AGENTS + 5


def test_memory_sees_the_past_of_its_own_agent_and_episode_only(encoder, obs):
    before = encoder(obs)
    changed = obs.clone()
    changed[1, 2, 0] += 1.0  # copy 1, step 2, agent 0
    moved = (encoder(changed) - before).abs().amax(dim=-1) > 1e-6  # (E, T, N)
    expected = torch.zeros(ENVS, STEPS, AGENTS, dtype=torch.bool)
    expected[1, 2:, 0] = True
    assert torch.equal(moved, expected)


def test_a_state_has_no_agents(obs):
    torch.manual_seed(0)
    encoder = Encoder(OBS, 0, "gru", memory_dim=3)
    features = encoder(obs[:, :, 0])
    assert features.shape == (ENVS, STEPS, OBS + 3) and torch.equal(features[..., :OBS], obs[:, :, 0])


def test_memory_ends_with_the_step_that_is_asked_for(encoder, obs):
    torch.testing.assert_close(encoder(obs[:, :3]), encoder(obs)[:, :3], rtol=0, atol=1e-6)
