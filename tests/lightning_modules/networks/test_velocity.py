import pytest
import torch

from lightning_modules.networks.velocity import FlowContext, VelocityNetwork
from tests.lightning_modules.batches import normal, random_legal_actions, randomise, team_shape

ROWS, OBS_DIM, ACTION_DIM = 40, 6, 5
KINDS = [(output, discrete) for output in ("endpoint", "velocity") for discrete in (True, False)]


def make_network(output="endpoint", discrete=True):
    shape = team_shape(discrete, n_agents=0, obs_dim=OBS_DIM, action_dim=ACTION_DIM)
    return randomise(VelocityNetwork(shape, (12, 9), output).double())


def make_context(discrete=True, seed=3):
    return FlowContext(
        obs=normal(ROWS, OBS_DIM, seed=seed),
        condition=torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, 0.0], [0.5, 1.0]], dtype=torch.float64).repeat(10, 1),
        scale=torch.linspace(1.0, 8.0, ROWS, dtype=torch.float64).unsqueeze(-1),
        legal_actions=random_legal_actions(ROWS, ACTION_DIM)
        if discrete
        else torch.ones(ROWS, ACTION_DIM, dtype=torch.bool),
    )


def make_point(seed=0):
    """z, r < t and a tangent."""
    r, t = (0.1 + 0.85 * torch.rand(2, ROWS, 1, generator=torch.Generator().manual_seed(seed))).double().sort(0).values
    return normal(ROWS, ACTION_DIM, seed=1), r, t, normal(ROWS, ACTION_DIM, seed=2)


def differentiate(network, context, point):
    """Velocity and derivative at a point."""
    z, r, t, tangent = point
    velocity, trace = network.forward_with_trace(z, r, t, context)
    return velocity, network.derivative(trace, tangent)


@pytest.mark.parametrize(("output", "discrete"), KINDS)
def test_the_derivative_is_the_jacobian_vector_product_along_the_flow(output, discrete):
    network, context, (z, r, t, tangent) = make_network(output, discrete), make_context(discrete), make_point()
    velocity, slope = differentiate(network, context, (z, r, t, tangent))
    primals, tangents = (z, r, t), (tangent, torch.zeros_like(r), torch.ones_like(t))
    expected = torch.func.jvp(lambda z, r, t: network(z, r, t, context), primals, tangents)
    torch.testing.assert_close(velocity, expected[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(slope, expected[1], rtol=1e-10, atol=1e-10)
    assert float(slope.abs().max()) > 0.1


@pytest.mark.parametrize(("output", "discrete"), KINDS)
def test_the_derivative_is_the_limit_of_finite_differences(output, discrete):
    network, context, (z, r, t, tangent) = make_network(output, discrete), make_context(discrete), make_point()
    _, slope = differentiate(network, context, (z, r, t, tangent))
    step = 1e-5
    after = network(z + step * tangent, r, t + step, context)
    before = network(z - step * tangent, r, t - step, context)
    torch.testing.assert_close(slope, ((after - before) / (2 * step)).detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("output", "discrete"), KINDS)
def test_the_derivative_and_its_trace_leave_no_graph(output, discrete):
    network, context, (z, r, t, tangent) = make_network(output, discrete), make_context(discrete), make_point()
    velocity, trace = network.forward_with_trace(z, r, t, context)
    kept = (
        trace.velocity,
        trace.endpoint,
        *(field for block in trace.blocks for field in (block.value, block.normalised)),
    )
    assert not any(field.requires_grad for field in kept)
    assert not network.derivative(trace, tangent.requires_grad_()).requires_grad
    assert velocity.requires_grad


@pytest.mark.parametrize(("output", "discrete"), KINDS)
def test_keeping_a_trace_changes_neither_velocity_nor_gradient(output, discrete):
    network, context, (z, r, t, _) = make_network(output, discrete), make_context(discrete), make_point()
    gradients = []
    for velocity in (network(z, r, t, context), network.forward_with_trace(z, r, t, context)[0]):
        network.zero_grad()
        velocity.square().sum().backward()
        gradients.append([velocity, *(parameter.grad for parameter in network.parameters())])
    for plain, traced in zip(*gradients, strict=True):
        torch.testing.assert_close(traced, plain, rtol=1e-12, atol=1e-12)


def test_the_derivative_on_some_rows_is_that_of_these_rows():
    network, context, (z, r, t, tangent) = make_network(), make_context(), make_point()
    _, trace = network.forward_with_trace(z, r, t, context)
    index = torch.tensor([5, 0, 31])
    some = network.derivative(trace.rows(index), tangent[index])
    torch.testing.assert_close(some, network.derivative(trace, tangent)[index], rtol=0, atol=1e-12)


def test_one_step_from_pure_noise_lands_among_the_legal_choices():
    network, context, z = make_network(), make_context(), 5 * normal(ROWS, ACTION_DIM)
    ones = torch.ones(ROWS, 1, dtype=torch.float64)
    landed = z - network(z, 0 * ones, ones, context)
    chances = (landed + 1) / 2
    torch.testing.assert_close(chances.sum(dim=-1), torch.ones(ROWS, dtype=torch.float64), rtol=0, atol=1e-12)
    assert float(chances.min()) > -1e-12
    torch.testing.assert_close(
        landed[~context.legal_actions], torch.full_like(landed[~context.legal_actions], -1.0), rtol=0, atol=1e-12
    )
    # From z = 0 nothing is rounded: an illegal choice is exactly at -1.
    exactly = -network(0 * z, 0 * ones, ones, context)
    assert bool((exactly[~context.legal_actions] == -1).all()) and bool((exactly[context.legal_actions] > -1).all())


def test_one_step_from_pure_noise_lands_on_a_continuous_action():
    network, context, z = make_network(discrete=False), make_context(False), 5 * normal(ROWS, ACTION_DIM)
    ones = torch.ones(ROWS, 1, dtype=torch.float64)
    landed = z - network(z, 0 * ones, ones, context)
    assert float(landed.abs().max()) <= 1 + 1e-12
    assert float(landed.std()) > 0.1


@pytest.mark.parametrize("discrete", [True, False])
def test_at_any_time_the_endpoint_is_the_point_minus_time_times_velocity(discrete):
    network, context, (z, r, t, _) = make_network(discrete=discrete), make_context(discrete), make_point()
    endpoint = z - t * network(z, r, t, context)
    assert float(endpoint.abs().max()) <= 1 + 1e-12
    # The endpoint does not know r = t apart from r < t by its form, only through the network's input t - r.
    assert float((endpoint - (z - t * network(z, t, t, context))).abs().max()) > 1e-3


@pytest.mark.parametrize("discrete", [True, False])
def test_the_mask_of_a_row_without_legal_actions_gives_numbers(discrete):
    network, (z, r, t, tangent) = make_network(discrete=discrete), make_point()
    context = make_context(discrete)._replace(legal_actions=torch.zeros(ROWS, ACTION_DIM, dtype=torch.bool))
    velocity, slope = differentiate(network, context, (z, r, t, tangent))
    assert bool(velocity.isfinite().all()) and bool(slope.isfinite().all())


@pytest.mark.parametrize("field", ["obs", "condition", "scale", "legal_actions"])
def test_the_velocity_depends_on_all_of_its_context(field):
    network, context, (z, r, t, _) = make_network(), make_context(), make_point()
    value = getattr(context, field)
    changed = context._replace(**{field: ~value if field == "legal_actions" else value + 1})
    difference = (network(z, r, t, changed) - network(z, r, t, context)).abs().amax(dim=-1)
    # Where only one action is legal, nothing else matters.
    choice = context.legal_actions.sum(dim=-1) > 1
    assert bool((difference[choice] > 1e-6).all())


def test_the_scale_is_shown_as_a_number_that_is_zero_without_guidance():
    network, context, (z, r, t, _) = make_network(), make_context(), make_point()
    seen = []
    network.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(z, r, t, context._replace(scale=torch.full((ROWS, 1), 4.0, dtype=torch.float64)))
    network(z, r, t, context._replace(scale=torch.ones(ROWS, 1, dtype=torch.float64)))
    difference = seen[0] - seen[1]
    assert int((difference != 0).any(dim=0).sum()) == 1  # one input carries it
    assert float(difference.amax()) == 0.75  # 1 - 1/4 - 0


def test_rows_of_a_context():
    context, index = make_context(), torch.tensor([3, 0, 3])
    for field, chosen in zip(context, context.rows(index), strict=True):
        assert torch.equal(chosen, field[index])


def test_one_context_after_another():
    context, other = make_context(), make_context(seed=4)
    both = context.followed_by(other)
    for index, part in ((torch.arange(ROWS), context), (torch.arange(ROWS, 2 * ROWS), other)):
        assert all(torch.equal(a, b) for a, b in zip(both.rows(index), part, strict=True))


def test_the_null_condition_says_nothing_about_quality_and_is_not_guided():
    context = make_context()
    plain = context.unconditional()
    assert bool((plain.condition == 0).all()) and bool((plain.scale == 1).all())
    assert torch.equal(plain.obs, context.obs) and torch.equal(plain.legal_actions, context.legal_actions)


@pytest.mark.parametrize("output", ["endpoint", "velocity"])
def test_entries_that_only_pad_an_action_are_not_seen_and_do_not_move(output):
    network, (z, r, t, tangent) = make_network(output, False), make_point()
    context = make_context(False)
    context.legal_actions[::2, 3:] = False
    padded = ~context.legal_actions
    other = (z + 5 * padded, r, t, tangent - 7 * padded)
    for ours, theirs in zip(
        differentiate(network, context, (z, r, t, tangent)), differentiate(network, context, other), strict=True
    ):
        assert torch.equal(ours, theirs)
        assert bool((ours[padded] == 0).all()) and bool((ours[~padded] != 0).all())
    assert torch.equal(network(z, r, t, context), network(other[0], r, t, context))
    torch.testing.assert_close(network(z, r, t, context), network.forward_with_trace(z, r, t, context)[0])
