import torch

from lightning_modules.networks.denoiser import Denoiser
from lightning_modules.networks.noise_factors import AgentWeights, WeightedDenoiser
from tests.lightning_modules.batches import ACTION_DIM, N_AGENTS, OBS_DIM, default_dtype, normal, randomise, team_shape

WEIGHTS, FACTORS = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64) / 3


def test_weights_by_hand():
    """w_i / mean_j w_j; released code divides by the sum, which is N times as much for the network to answer."""
    weights = AgentWeights(3)
    noise = normal(4, 3, 2).float()
    assert torch.equal(weights(noise), noise)
    with torch.no_grad():
        weights.weights.copy_(WEIGHTS)
    torch.testing.assert_close(weights(noise), noise * WEIGHTS.unsqueeze(-1) / 3)
    published = noise * 3 * WEIGHTS.unsqueeze(-1) / WEIGHTS.sum()
    torch.testing.assert_close(weights(noise), published)


def test_weights_learn_from_every_agent():
    weights = AgentWeights(3)
    weights(normal(4, 3, 2).float()).square().sum().backward()
    assert bool((weights.weights.grad != 0).all())


def test_answers_of_a_weighted_denoiser_are_those_of_a_plain_one_times_the_weights():
    for discrete in (True, False):
        arguments = (team_shape(discrete), (8,), "vp", 4)
        with default_dtype(torch.float64):
            plain = randomise(Denoiser(*arguments))
            weighted = WeightedDenoiser(*arguments)
        weighted.load_state_dict(plain.state_dict(), strict=False)
        with torch.no_grad():
            weighted.factors.weights.copy_(WEIGHTS)
        z, level = normal(6, N_AGENTS, ACTION_DIM), torch.full((6, N_AGENTS, 1), 2)
        features = plain.encoder(normal(6, N_AGENTS, OBS_DIM, seed=1))
        legal = torch.ones(6, N_AGENTS, ACTION_DIM, dtype=torch.bool)
        expected = plain(z, level, features, legal) * FACTORS.unsqueeze(-1)
        torch.testing.assert_close(weighted(z, level, features, legal), expected, rtol=1e-12, atol=1e-12)
        endpoint = plain.endpoint(z, level, expected, legal)
        torch.testing.assert_close(weighted.predicted(z, 2, features, legal), endpoint, rtol=1e-12, atol=1e-12)
    assert N_AGENTS == 3
