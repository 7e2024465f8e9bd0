import pytest
import torch

from lightning_modules.denoising import denoised_actions
from lightning_modules.flows.noise_schedules import draw_levels
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.denoiser import Denoiser
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    generator,
    random_batch,
    randomise,
    team_shape,
)

LEVELS = 6
ANSWERS = pytest.mark.parametrize(("discrete", "output"), [(True, "endpoint"), (False, "endpoint"), (False, "noise")])
BOTH = pytest.mark.parametrize("discrete", [True, False])
pytestmark = pytest.mark.usefixtures("float64")


def denoiser(discrete, output="endpoint"):
    return randomise(Denoiser(team_shape(discrete), (8, 8), "cosine", LEVELS, output))


def padded(batch):
    """The last entry of agent 0's continuous actions only pads them, and holds anything."""
    legal, actions = batch.legal_actions.clone(), batch.actions.clone()
    legal[..., 0, -1], actions[..., 0, -1] = False, 7.0
    return batch._replace(legal_actions=legal, actions=actions)


def denoised(network, steps, seed=0):
    return denoised_actions(network, steps, steps.features(network.encoder), generator(seed))


@ANSWERS
def test_the_loss_step_by_step(discrete, output):
    """Squared error of action or noise, or cross entropy of the choice, of each agent at its own level."""
    batch = random_batch(discrete)
    steps, network = joint_steps(batch if discrete else padded(batch)), denoiser(discrete, output)
    got, source, terms = denoised(network, steps), generator(), []
    shape = steps.legal_actions.shape
    levels = draw_levels(shape[:-1], LEVELS, source)
    noise, actions = torch.randn(shape, generator=source), encode_actions(steps.actions, ACTION_DIM, discrete)
    for row in range(len(steps.obs)):
        for agent in range(N_AGENTS):
            level, legal = int(levels[row, agent]), steps.legal_actions[row, agent]
            kept, mine = float(network.kept[level]), (row, slice(agent, agent + 1))
            z = kept**0.5 * actions[mine] + (1 - kept) ** 0.5 * noise[mine]
            features = network.encoder(steps.obs)[mine]
            answer = network(z, torch.tensor([[level]]), features, legal.unsqueeze(0)).squeeze(0)
            if discrete:
                chosen = steps.actions[row, agent]
                terms.append(answer[legal].logsumexp(dim=0) - answer[chosen])
                endpoint = 2 * answer.softmax(dim=0) - 1
            elif output == "endpoint":
                terms.append((answer - actions[row, agent])[legal].square().mean())
                endpoint = answer.clamp(-1, 1) * legal
            else:
                terms.append((answer - noise[row, agent])[legal].square().mean())
                endpoint = ((z - (1 - kept) ** 0.5 * answer) / kept**0.5).squeeze(0).clamp(-1, 1) * legal
            torch.testing.assert_close(got.endpoint[row, agent], endpoint, rtol=0, atol=1e-9)
    torch.testing.assert_close(got.loss, torch.stack(terms).mean(), rtol=1e-10, atol=0)


def test_what_pads_an_action_changes_nothing():
    steps, network = joint_steps(padded(random_batch(False))), denoiser(False)
    other = steps._replace(actions=steps.actions.masked_fill(~steps.legal_actions, -3.0))
    assert torch.equal(denoised(network, other).loss, denoised(network, steps).loss)


def test_levels_of_agents_are_their_own():
    """In the same joint step every pair of levels occurs."""
    steps, network, seen = joint_steps(random_batch(True)), denoiser(True), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    denoised(network, steps)
    assert seen[0].shape == (len(steps.obs), N_AGENTS, 1)
    assert bool((seen[0][:, 0] != seen[0][:, 1]).any()) and set(seen[0].unique().tolist()) == set(range(1, LEVELS + 1))
