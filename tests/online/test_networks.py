import numpy as np
import pytest
import torch

from environments.registry import make_vector_env
from environments.vector import blank_step
from online.networks import Actor, Critic, Moments


def test_moments_are_those_of_everything_seen():
    values = torch.randn(1000, 3) * torch.tensor([1.0, 5.0, 0.0]) + torch.tensor([0.0, 100.0, 7.0])
    moments = Moments(3)
    for part in values.split([1, 10, 489, 500]):
        moments.see(part)
    np.testing.assert_allclose(moments.mean, values.mean(dim=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moments.scale, [*values[:, :2].std(dim=0, correction=0), 1.0], rtol=1e-3)
    assert moments.standardised(torch.tensor([[0.0, 1e9, 7.0]]))[0, 1] == 10.0  # cut off


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("scenario", ["matrix/bridge", "matrix/landmarks"])
def test_the_copy_in_numpy_says_the_same(scenario, standardise, activation):
    torch.manual_seed(0)
    env = make_vector_env(scenario, 5)
    actor = Actor(env, (16, 8), activation, standardise)
    actor.moments.see(torch.randn(100, env.obs_dim) * 3 + 1)
    for parameter in actor.parameters():
        torch.nn.init.normal_(parameter)
    obs = 5 * torch.randn(5, env.n_agents, env.obs_dim)
    copy = actor.in_numpy()
    copy.check("here")
    assert copy.discrete == (scenario == "matrix/bridge")
    np.testing.assert_allclose(copy(obs.numpy()), actor(obs).detach(), rtol=1e-5, atol=1e-5)
    before = copy(obs.numpy())
    torch.nn.init.zeros_(actor.net[-1].weight)
    assert np.array_equal(copy(obs.numpy()), before), "the copy shares no memory"


def test_agents_differ_by_their_number_only():
    torch.manual_seed(0)
    env = make_vector_env("matrix/bridge", 1)
    actor = Actor(env, (16,), "tanh", standardise=False)
    torch.nn.init.normal_(actor.net[-1].weight)
    same = torch.ones(1, env.n_agents, env.obs_dim)
    said = actor(same)[0]
    assert not torch.allclose(said[0], said[1])
    with torch.no_grad():
        actor.net[0].weight[:, env.obs_dim :] = 0.0  # what is connected to the number
    assert torch.allclose(*actor(same)[0])


def test_illegal_actions_have_probability_zero():
    env = make_vector_env("matrix/bridge", 2)
    actor = Actor(env, (8,), "tanh", standardise=False)
    legal = torch.from_numpy(blank_step(env).legal_actions)
    legal[..., 1] = False
    probabilities = actor.distribution(torch.zeros(2, env.n_agents, env.obs_dim), legal).probs
    assert (probabilities[..., 1] == 0.0).all()
    torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(2, env.n_agents))


def test_a_gaussians_density_by_hand():
    env = make_vector_env("matrix/landmarks", 1)
    actor = Actor(env, (8,), "tanh", standardise=False)
    torch.nn.init.zeros_(actor.net[-1].weight)  # mean 0
    legal = torch.ones(1, env.n_agents, env.action_dim, dtype=torch.bool)
    distribution = actor.distribution(torch.zeros(1, env.n_agents, env.obs_dim), legal)
    action = torch.full((1, env.n_agents, env.action_dim), 0.3)
    std = np.exp(-0.5)
    by_hand = env.action_dim * (-0.5 * (0.3 / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi))
    np.testing.assert_allclose(distribution.log_prob(action).detach(), np.full((1, env.n_agents), by_hand), rtol=1e-5)


def test_values_are_in_units_of_the_reward():
    env = make_vector_env("matrix/bridge", 1)
    critic = Critic(env, (8,), "relu", standardise=True)
    torch.nn.init.zeros_(critic.net[-1].weight)
    state = torch.zeros(3, 4, env.state_dim)
    assert critic.values(state).shape == (3, 4)
    critic.returns.see(torch.tensor([[90.0], [110.0]]))  # mean 100, standard deviation 10
    torch.nn.init.constant_(critic.net[-1].bias, 2.0)
    torch.testing.assert_close(critic.values(state), torch.full((3, 4), 120.0))
