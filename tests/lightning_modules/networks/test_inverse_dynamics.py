import torch

from lightning_modules.networks.actions import decode_actions
from lightning_modules.networks.inverse_dynamics import InverseDynamics
from tests.lightning_modules.batches import normal, random_legal_actions, randomise, team_shape

ROWS, AGENTS, OBS, ACTIONS = 50, 3, 5, 4


def inverse(discrete):
    shape = team_shape(discrete, n_agents=AGENTS, obs_dim=OBS, action_dim=ACTIONS)
    return randomise(InverseDynamics(shape, (8,)))


def test_both_observations_and_the_agent_decide():
    network, obs, following = (
        inverse(True),
        normal(ROWS, AGENTS, OBS).float(),
        normal(ROWS, AGENTS, OBS, seed=1).float(),
    )
    output = network(obs, following)
    assert output.shape == (ROWS, AGENTS, ACTIONS)
    for other in (
        network(following, obs),
        network(obs, obs),
        network(obs[:, [1, 0, 2]], following[:, [1, 0, 2]])[:, [1, 0, 2]],
    ):
        assert float((other - output).abs().amax(dim=(0, 2))[0]) > 1e-2
    changed = following.clone()
    changed[:, 1] += 1.0
    same = (network(obs, changed) == output).flatten(2).all(dim=2).all(dim=0)
    assert same.tolist() == [True, False, True]  # nothing of the other agents


def test_illegal_choices_are_never_what_was_done():
    obs, following = normal(ROWS, AGENTS, OBS).float(), normal(ROWS, AGENTS, OBS, seed=1).float()
    legal = random_legal_actions(ROWS, AGENTS, ACTIONS)
    output = inverse(True)(obs, following)
    assert not bool(legal.gather(-1, output.argmax(dim=-1, keepdim=True)).all())
    choices = decode_actions(output, legal, discrete=True)
    assert bool(legal.gather(-1, choices.unsqueeze(-1)).all())


def test_continuous_actions_lie_in_their_box():
    obs = 100 * normal(ROWS, AGENTS, OBS).float()
    output = inverse(False)(obs, -obs)
    assert float(output.abs().max()) <= 1.0
    assert torch.unique(output.sign()).tolist() == [-1.0, 1.0]
