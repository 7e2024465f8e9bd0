import pytest
import torch

from lightning_modules.networks.trajectory_denoiser import (
    ABSENT,
    IMAGINED,
    SHOWN,
    TrajectoryDenoiser,
    execution_roles,
)
from tests.lightning_modules.batches import default_dtype, generator, normal, randomise, team_shape

ROWS, STEPS, AGENTS, OBS = 6, 4, 3, 5
SHUFFLED = [2, 0, 1]
SHAPE = team_shape(n_agents=AGENTS, obs_dim=OBS)


def network(**options):
    with default_dtype(torch.float64):
        made = TrajectoryDenoiser(SHAPE, length=5, width=16, heads=2, **options)
    return randomise(made)


def inputs(roles=IMAGINED):
    roles = torch.full((ROWS, STEPS, AGENTS), roles, dtype=torch.float64)
    time = torch.rand(ROWS, 1, generator=generator(1), dtype=torch.float64)
    goal = torch.tensor([0.3, 1.0], dtype=torch.float64).expand(ROWS, 2)
    return normal(ROWS, STEPS, AGENTS, OBS), roles, time, (1 - time.square()).sqrt(), goal


def without_numbers(made):
    """No column of the first layer for agents' numbers, so that agents are alike."""
    with torch.no_grad():
        made.inputs.weight[:, -AGENTS:] = 0
    return made


def test_permuting_agents_permutes_the_answer():
    made, (z, *others) = without_numbers(network()), inputs()
    expected = made(z, *others)[:, :, SHUFFLED]
    torch.testing.assert_close(made(z[:, :, SHUFFLED], *others), expected, rtol=1e-10, atol=1e-10)


def test_agents_see_each_other_through_attention_alone():
    z, *others = inputs()
    changed = z.clone()
    changed[:, 2, 1] += 1.0
    for attention in (True, False):
        made = network(attention=attention)
        same = (made(changed, *others) == made(z, *others)).flatten(3).all(dim=3)  # (R, T, N)
        assert not same[:, :, 1].any()  # all times of the agent itself
        assert bool(same[:, :, [0, 2]].all()) is not attention


def test_the_noise_passes_by_the_layers():
    """Layers that answer 0 leave √ᾱ z: all that is known of unit-variance data in unit-variance noise."""
    made, (z, roles, time, signal, goal) = network(), inputs()
    with torch.no_grad():
        made.outputs.weight.zero_()
        made.outputs.bias.fill_(0.5)
    expected = signal[..., None, None] * z - 0.5 * (1 - signal**2).sqrt()[..., None, None]
    torch.testing.assert_close(made(z, roles, time, signal, goal), expected, rtol=1e-12, atol=1e-12)


def test_weights_of_agents_by_hand():
    plain, weighted = network(), network(weighted=True)
    with torch.no_grad():
        weighted.load_state_dict(plain.state_dict(), strict=False)
        weighted.factors.weights.copy_(torch.tensor([1.0, 2.0, 6.0]))  # mean 3
    z, _, _, signal, _ = inputs()
    passed = signal[..., None, None] * z
    answers = (plain(*inputs()) - passed) * torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64).unsqueeze(-1) / 3
    torch.testing.assert_close(weighted(*inputs()), passed + answers, rtol=1e-12, atol=1e-12)
    fresh = TrajectoryDenoiser(SHAPE, length=5, width=16, weighted=True)
    assert fresh.factors.weights.tolist() == [1.0] * AGENTS


def test_what_is_absent_is_not_read_and_shorter_trajectories_end_in_it():
    made, (z, roles, *others) = network(), inputs()
    roles[:, 2:] = ABSENT
    garbage = z.clone()
    garbage[:, 2:] = torch.nan
    expected = made(z, roles, *others)
    assert torch.equal(made(garbage, roles, *others), expected)
    torch.testing.assert_close(made(z[:, :2], roles[:, :2], *others), expected[:, :2], rtol=1e-12, atol=1e-12)
    assert not torch.equal(made(z, torch.full_like(roles, IMAGINED), *others)[:, :2], expected[:, :2])


def test_the_answer_depends_on_time_goal_and_roles():
    made, (z, roles, time, signal, goal) = network(), inputs()
    expected = made(z, roles, time, signal, goal)
    for other in (
        made(z, roles, time / 2, signal, goal),
        made(z, roles, time, signal, torch.zeros_like(goal)),
        made(z, torch.full_like(roles, SHOWN), time, signal, goal),
    ):
        assert not torch.equal(other, expected)


def test_unusable_sizes_are_refused():
    with pytest.raises(ValueError, match="width must be a multiple of 8, two for each of 4 heads, got 12"):
        TrajectoryDenoiser(SHAPE, length=3, width=12)
    z, *others = inputs()
    with pytest.raises(ValueError, match="trajectories of at most 5 steps, got 8; raise the horizon"):
        network()(torch.cat([z, z], dim=1), *others)


def test_roles_by_hand():
    """History 1: o_0 is the past, o_1 the present, o_2 the future; agent 2 of 3 is the one that knows."""
    alone = execution_roles(3, 1, 3, knower=torch.tensor([2]))
    assert alone.tolist() == [[[ABSENT, ABSENT, SHOWN], [IMAGINED, IMAGINED, SHOWN], [IMAGINED] * 3]]
    assert execution_roles(3, 1, 3).tolist() == [[[SHOWN] * 3, [SHOWN] * 3, [IMAGINED] * 3]]
    assert execution_roles(2, 0, 2, knower=torch.tensor([1, 0])).tolist() == [
        [[IMAGINED, SHOWN], [IMAGINED] * 2],
        [[SHOWN, IMAGINED], [IMAGINED] * 2],
    ]
