import pytest
import torch

from lightning_modules.losses.cloning import squared_cloning_error, standard_normal_divergence
from lightning_modules.networks.vae import LATENT_BOUND, ActionVAE
from tests.lightning_modules.batches import default_dtype, generator, normal, randomise, team_shape

BATCH, N_AGENTS, OBS_DIM, ACTION_DIM = 5, 3, 4, 2


@pytest.fixture
def vae():
    shape = team_shape(False, n_agents=N_AGENTS, obs_dim=OBS_DIM, action_dim=ACTION_DIM)
    return randomise(ActionVAE(shape, (16,)).double())


@pytest.fixture
def features(vae):
    return vae.encoder(normal(BATCH, N_AGENTS, OBS_DIM))


def test_an_action_has_twice_as_many_latent_variables(vae, features):
    mean, log_std = vae.recognise(features, normal(BATCH, N_AGENTS, ACTION_DIM))
    assert mean.shape == log_std.shape == (BATCH, N_AGENTS, 2 * ACTION_DIM)
    _, extreme = vae.recognise(1e3 * features, 1e3 * normal(BATCH, N_AGENTS, ACTION_DIM))
    assert bool((extreme >= -4).all()) and bool((extreme <= 15).all())


def test_actions_are_generated_from_clipped_noise(vae, features):
    drawn = vae.generate(features, 7, generator(3))
    noise = torch.randn(7, BATCH, N_AGENTS, 2 * ACTION_DIM, generator=generator(3), dtype=torch.float64)
    expected = torch.stack([vae.decode(features, z) for z in noise.clamp(-LATENT_BOUND, LATENT_BOUND)])
    torch.testing.assert_close(drawn, expected)
    assert drawn.shape == (7, BATCH, N_AGENTS, ACTION_DIM) and bool((drawn.abs() <= 1).all())


def test_agents_can_share_their_noise(vae, features):
    same = features[:, :1].expand_as(features)
    own, shared = vae.generate(same, 4, generator()), vae.generate(same, 4, generator(), shared_noise=True)
    torch.testing.assert_close(shared, shared[:, :, :1].expand_as(shared))
    assert not torch.allclose(own, own[:, :, :1].expand_as(own))


def test_it_learns_what_was_done():
    """One agent that acts at -.5 or .5 depending on what it sees, with little noise around it."""
    torch.manual_seed(0)
    with default_dtype(torch.float32):
        vae = ActionVAE(team_shape(False, n_agents=1, obs_dim=1, action_dim=1), (32,))
        optimizer, draws = torch.optim.Adam(vae.parameters(), 1e-2), generator()
        counts = torch.ones(256, 1, 1, dtype=torch.bool)
        for _ in range(300):
            seen = torch.randint(2, (256, 1, 1), generator=draws).float()
            actions = seen - 0.5 + 0.05 * torch.randn(256, 1, 1, generator=draws)
            features = vae.encoder(seen)
            mean, log_std = vae.recognise(features, actions)
            noise = torch.randn(mean.shape, generator=draws)
            error = squared_cloning_error(vae.decode(features, mean + log_std.exp() * noise), actions, counts)
            loss = error.mean() + standard_normal_divergence(mean, log_std).mean() / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        generated = vae.generate(vae.encoder(torch.tensor([0.0, 1.0]).view(2, 1, 1)), 200, generator(1)).detach()
    assert float((generated[:, 0] + 0.5).abs().max()) < 0.1 and float((generated[:, 1] - 0.5).abs().max()) < 0.1
