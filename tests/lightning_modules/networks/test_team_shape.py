from dataclasses import FrozenInstanceError, replace

import pytest

from tests.lightning_modules.batches import N_AGENTS, OBS_DIM, STATE_DIM, normal, team_shape


@pytest.mark.parametrize(("encoder", "memory"), [("mlp", 0), ("gru", 6)])
def test_agents_have_a_number_and_a_memory_and_the_state_has_no_number(encoder, memory):
    shape = team_shape(encoder=encoder, memory_dim=6)
    agents, state = shape.agent_encoder(), shape.state_encoder()
    assert agents(normal(2, 4, N_AGENTS, OBS_DIM).float()).shape == (2, 4, N_AGENTS, OBS_DIM + N_AGENTS + memory)
    assert state(normal(2, 4, STATE_DIM).float()).shape == (2, 4, STATE_DIM + memory)
    assert (agents.features_dim, state.features_dim) == (OBS_DIM + N_AGENTS + memory, STATE_DIM + memory)


def test_who_sees_the_whole_team_at_once_has_no_number():
    shape = replace(team_shape(), n_agents=0, obs_dim=N_AGENTS * OBS_DIM)
    assert shape.agent_encoder().features_dim == N_AGENTS * OBS_DIM


def test_every_network_has_an_encoder_of_its_own():
    shape = team_shape(encoder="gru")
    assert not set(shape.agent_encoder().parameters()) & set(shape.agent_encoder().parameters())


def test_a_shape_stays_as_it_is():
    with pytest.raises(FrozenInstanceError):
        team_shape().n_agents = 5
