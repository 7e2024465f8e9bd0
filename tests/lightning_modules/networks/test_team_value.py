import pytest
import torch

from lightning_modules.networks.team_value import TeamActionValue
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    OBS_DIM,
    STATE_DIM,
    normal,
    random_batch,
    random_legal_actions,
    randomise,
    team_shape,
)

ROWS, WINDOW = 5, 4


def team(mixer, encoder="mlp"):
    torch.manual_seed(0)
    network = TeamActionValue(team_shape(encoder=encoder, memory_dim=6), (8,), mixer)
    return randomise(network.double()).requires_grad_(False)


def windows():
    return (
        normal(ROWS, WINDOW, N_AGENTS, OBS_DIM),
        normal(ROWS, WINDOW, STATE_DIM, seed=1),
        random_legal_actions(ROWS, WINDOW, N_AGENTS, ACTION_DIM),
    )


def choices(*leading, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randint(ACTION_DIM, (*leading, ROWS, WINDOW, N_AGENTS), generator=source)


@pytest.mark.parametrize("encoder", ["mlp", "gru"])
@pytest.mark.parametrize("mixer", ["vdn", "qmix"])
def test_the_teams_value_is_mixed_from_the_chosen_values(mixer, encoder):
    network, actions = team(mixer, encoder), choices()
    obs, state, legal = windows()
    local = network.local(obs, actions)
    utilities = network.utilities(obs, state, legal)
    torch.testing.assert_close(utilities.of(actions), local)
    expected = local.sum(dim=-1) if mixer == "vdn" else network.mixer(local, state)
    torch.testing.assert_close(network.joint(utilities, actions), expected)
    torch.testing.assert_close(network.mixed(local, state), expected)


def test_alone_every_agent_has_its_own_value():
    network, actions = team("none"), choices()
    obs, state, legal = windows()
    values = network.joint(network.utilities(obs, state, legal), actions)
    assert values.shape == (N_AGENTS, ROWS, WINDOW)
    torch.testing.assert_close(values[1], network.local(obs, actions)[..., 1])


@pytest.mark.parametrize("mixer", ["vdn", "qmix", "qtran"])
def test_many_joint_actions_at_once(mixer):
    network, actions = team(mixer), choices(3)
    utilities = network.utilities(*windows())
    values = network.joint(utilities, actions)
    assert values.shape == (3, ROWS, WINDOW)
    torch.testing.assert_close(values[2], network.joint(utilities, actions[2]))


def test_qtran_has_a_value_of_its_own():
    network, (obs, state, legal) = team("qtran"), windows()
    utilities = network.utilities(obs, state, legal)
    before = network.joint(utilities, choices())
    other = utilities._replace(values=utilities.values + 3)
    assert torch.equal(network.joint(other, choices()), before)
    assert float((network.joint(utilities, choices(seed=1)) - before).abs().max()) > 1e-6


def test_the_greedy_choice_is_legal_and_best():
    utilities = team("vdn").utilities(*windows())
    greedy, legal = utilities.greedy(), utilities.legal_actions
    assert bool(legal.gather(-1, greedy.unsqueeze(-1)).all())
    best = utilities.values.masked_fill(~legal, -torch.inf).amax(dim=-1)
    torch.testing.assert_close(utilities.of(greedy), best)


def test_learning_steps_leave_out_the_last_position():
    utilities = team("vdn").utilities(*windows())
    for before, after in zip(utilities, utilities.learning_steps(), strict=True):
        assert torch.equal(after, before[:, :-1])


def test_padding_without_legal_actions_gives_numbers():
    batch = random_batch(dtype=torch.float64)
    network = team("qmix")
    nothing = torch.zeros_like(batch.legal_actions)
    utilities = network.utilities(batch.obs, batch.state, nothing)
    assert bool(network.joint(utilities, utilities.greedy()).isfinite().all())
