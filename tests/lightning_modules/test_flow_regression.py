import pytest
import torch

from lightning_modules.flow_regression import MeanFlowRegression, clean_actions, cloning_rows, flow_matching_error
from lightning_modules.flows.path import FlowTimes
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.actions import append_agent_id
from lightning_modules.networks.velocity import VelocityNetwork
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    generator,
    normal,
    random_batch,
    randomise,
    team_shape,
)
from tests.lightning_modules.gaussian_flows import Gaussian

KINDS = [(output, discrete) for output in ("endpoint", "velocity") for discrete in (True, False)]
pytestmark = pytest.mark.usefixtures("float64")


def make_network(output="endpoint", discrete=True):
    return randomise(VelocityNetwork(team_shape(discrete), (8, 8), output))


def some_steps(discrete=True, padded=False):
    batch = random_batch(discrete)
    if padded:
        batch.legal_actions[:, :, 1, 2:] = False
    return joint_steps(batch)


def noise_for(steps, seed=7):
    return normal(*steps.legal_actions.shape, seed=seed)


@pytest.mark.parametrize("discrete", [True, False])
def test_rows_are_recorded_actions_under_the_null_condition(discrete):
    steps, network = some_steps(discrete), make_network(discrete=discrete)
    noise = noise_for(steps)
    rows = cloning_rows(steps, network, noise)
    for step in (0, 5):
        for agent in range(N_AGENTS):
            row = step * N_AGENTS + agent
            action = steps.actions[step, agent]
            vector = torch.full((ACTION_DIM,), -1.0)
            if discrete:
                vector[action] = 1.0
            assert torch.equal(rows.actions[row], vector if discrete else action)
            assert torch.equal(rows.noise[row], noise[step, agent])
            assert torch.equal(rows.context.obs[row], append_agent_id(steps.obs)[step, agent])
            assert torch.equal(rows.context.legal_actions[row], steps.legal_actions[step, agent])
    assert len(rows.actions) == len(steps.obs) * N_AGENTS
    assert bool((rows.context.condition == 0).all()) and bool((rows.context.scale == 1).all())
    assert not rows.guided.any() and not rows.straight.any()


@pytest.mark.parametrize(("output", "discrete"), KINDS)
def test_the_error_of_an_instant_by_hand(output, discrete):
    steps, network = some_steps(discrete), make_network(output, discrete)
    rows = cloning_rows(steps, network, noise_for(steps))
    t = 0.05 + 0.9 * torch.rand(len(rows.actions), 1, generator=generator())
    error = flow_matching_error(network, rows, t)
    z = (1 - t) * rows.actions + t * rows.noise
    velocity = network(z, t, t, rows.context)
    # Where the network predicts the end x̂ = z - t v, its own distance from the action counts
    missed = z - t * velocity - rows.actions if output == "endpoint" else velocity - (rows.noise - rows.actions)
    expected = torch.stack([sum(entry**2 for entry in row) for row in missed])
    torch.testing.assert_close(error, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("output", ["endpoint", "velocity"])
def test_entries_that_only_pad_an_action_have_no_error(output):
    steps, network = some_steps(False, padded=True), make_network(output, False)
    padded = ~steps.legal_actions
    other = steps._replace(actions=steps.actions.masked_fill(padded, 0.7))
    noise, changed = noise_for(steps), noise_for(steps).masked_fill(padded, 3.0)
    t = torch.full((steps.legal_actions[..., 0].numel(), 1), 0.4)
    times = FlowTimes(0.5 * t, t, torch.ones(len(t), dtype=torch.bool))
    first, second = cloning_rows(steps, network, noise), cloning_rows(other, network, changed)
    assert bool((clean_actions(other, network)[padded] == 0).all()) and bool(
        (second.noise[padded.flatten(0, 1)] == 0).all()
    )
    assert torch.equal(flow_matching_error(network, first, t), flow_matching_error(network, second, t))
    regression = MeanFlowRegression()
    assert torch.equal(regression.loss(network, first, times), regression.loss(network, second, times))
    (gradient,) = torch.autograd.grad(regression.loss(network, first, times), network.mlp.head.bias)
    everywhere = cloning_rows(some_steps(False), network, noise)
    (whole,) = torch.autograd.grad(regression.loss(network, everywhere, times), network.mlp.head.bias)
    assert bool((gradient[:2] != 0).all()) and not torch.equal(gradient, whole)


@pytest.mark.parametrize(("output", "discrete"), KINDS)
@pytest.mark.parametrize(("objective", "exponent"), [("improved_meanflow", 0.0), ("meanflow", 0.0), ("meanflow", 0.7)])
def test_the_meanflow_regression_of_plain_rows(output, discrete, objective, exponent):
    """(u - sg[v - (t - r) Du])², with Du by PyTorch's forward mode."""
    steps, network = some_steps(discrete), make_network(output, discrete)
    rows = cloning_rows(steps, network, noise_for(steps))
    r, t = (0.05 + 0.9 * torch.rand(2, len(rows.actions), 1, generator=generator())).sort(dim=0).values
    apart = torch.arange(len(t)) % 3 > 0
    r = torch.where(apart.unsqueeze(-1), r, t)
    loss = MeanFlowRegression(objective, exponent, 0.02).loss(network, rows, FlowTimes(r, t, apart))

    z, velocity = (1 - t) * rows.actions + t * rows.noise, rows.noise - rows.actions
    with torch.no_grad():
        tangent = velocity if objective == "meanflow" else network(z, t, t, rows.context)
        directions = (tangent, torch.zeros_like(r), torch.ones_like(t))
        _, derivative = torch.func.jvp(lambda *point: network(*point, rows.context), (z, r, t), directions)
    error = network(z, r, t, rows.context) - (velocity - (t - r) * derivative)
    squared = ((t * error if output == "endpoint" else error) ** 2).sum(dim=-1)
    expected = (squared / (squared.detach() + 0.02) ** exponent).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    ours, theirs = (torch.autograd.grad(each, list(network.parameters())) for each in (loss, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_the_exact_flow_of_gaussian_data_has_no_error_on_average_but_that_of_the_data():
    """E |v - (noise - x)|² = Var(noise - x | z) = std² / s(t)² is what no network can undercut."""
    data, t = Gaussian(0.0, 0.5), 0.6
    x, noise = 0.5 * normal(200_000, seed=1), normal(200_000, seed=2)
    z = (1 - t) * x + t * noise
    error = (data.velocity(z, torch.tensor(t)) - (noise - x)).square()
    expected = 0.25 / float(data.spread(torch.tensor(t))) ** 2
    assert float(error.mean()) == pytest.approx(expected, rel=0.02)
