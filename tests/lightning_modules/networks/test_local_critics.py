import pytest
import torch

from lightning_modules.networks.local_critics import LocalCritics
from tests.lightning_modules.batches import normal, team_shape

BATCH, WINDOW, N_AGENTS, OBS_DIM, ACTION_DIM = 4, 3, 2, 5, 3


@pytest.fixture(params=["mlp", "gru"])
def critics(request):
    torch.manual_seed(0)
    sizes = {"n_agents": N_AGENTS, "obs_dim": OBS_DIM, "action_dim": ACTION_DIM}
    return LocalCritics(team_shape(**sizes, encoder=request.param, memory_dim=6), (8,)).double()


def test_members_answer_for_themselves(critics):
    obs, actions = normal(BATCH, WINDOW, N_AGENTS, OBS_DIM), normal(BATCH, WINDOW, N_AGENTS, ACTION_DIM, seed=1)
    values = critics(obs, actions)
    assert values.shape == (2, BATCH, WINDOW, N_AGENTS)
    assert torch.equal(values, torch.stack([member(obs, actions) for member in critics.members]))
    assert torch.equal(critics.first(obs, actions), values[0]) and not torch.equal(values[0], values[1])


def test_proposals_are_valued_one_by_one(critics):
    obs, proposed = normal(BATCH, WINDOW, N_AGENTS, OBS_DIM), normal(7, BATCH, WINDOW, N_AGENTS, ACTION_DIM, seed=1)
    values = critics.of_features(critics.features(obs), proposed)
    torch.testing.assert_close(values, torch.stack([critics(obs, actions) for actions in proposed], dim=1))
