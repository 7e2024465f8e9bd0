from itertools import permutations

import pytest
import torch

from lightning_modules.flows.coupling import pair_shared_noise

LEFT_RIGHT, RIGHT_LEFT = [1.0, -1.0, -1.0, 1.0], [-1.0, 1.0, 1.0, -1.0]
"""The two good joint actions of the XOR game, one-hot in {-1, 1} per agent."""


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def xor_rows(n_left, n_right, seed=0):
    rows = torch.tensor([LEFT_RIGHT] * n_left + [RIGHT_LEFT] * n_right, dtype=torch.float64)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize(("n_left", "n_right"), [(128, 128), (200, 56)])
def test_the_noise_space_is_cut_into_one_part_per_joint_action(n_left, n_right):
    joint_action, noise, projection = xor_rows(n_left, n_right), normal(256, 2, seed=1), normal(4, 2, seed=2)
    paired = noise[pair_shared_noise(noise, joint_action, torch.zeros(256, dtype=torch.int64), projection)]
    is_left = joint_action[:, 0] > 0
    # A plane orthogonal to the difference of the two projected joint actions separates the parts: with equal shares
    # the halves of the noise distribution, with unequal ones parts of the same mass as the actions.
    side = paired @ ((joint_action[is_left][0] - joint_action[~is_left][0]) @ projection)
    assert float(side[is_left].min()) > float(side[~is_left].max())
    assert int((side > side.sort().values[n_right - 1]).sum()) == n_left


def test_the_noise_distribution_is_unchanged():
    noise, groups = normal(60, 2, seed=1), torch.arange(60) % 4
    permutation = pair_shared_noise(noise, xor_rows(30, 30), groups, normal(4, 2, seed=2))
    assert permutation.dtype == torch.int64
    assert torch.equal(permutation.sort().values, torch.arange(60))
    assert not torch.equal(permutation, torch.arange(60))


def test_rows_never_cross_groups():
    groups = torch.randint(0, 9, (80,), generator=torch.Generator().manual_seed(3)) * 1000 - 4000
    permutation = pair_shared_noise(normal(80, 3, seed=1), xor_rows(40, 40), groups, normal(4, 3, seed=2))
    assert torch.equal(groups[permutation], groups)


def test_rows_that_are_alone_keep_their_noise():
    groups = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    permutation = pair_shared_noise(normal(50, 2), xor_rows(25, 25), groups, normal(4, 2))
    assert torch.equal(permutation, torch.arange(50))


@pytest.mark.parametrize("seed", range(5))
def test_the_total_squared_distance_is_the_least_of_all_permutations(seed):
    noise, joint_action, projection = (
        normal(6, 2, seed=seed),
        normal(6, 4, seed=seed + 10),
        normal(4, 2, seed=seed + 20),
    )

    def cost(order):
        return float((noise[torch.as_tensor(order)] - joint_action @ projection).square().sum())

    permutation = pair_shared_noise(noise, joint_action, torch.zeros(6, dtype=torch.int64), projection)
    assert cost(permutation) == pytest.approx(min(cost(order) for order in permutations(range(6))), abs=1e-9)


def test_every_group_is_paired_as_if_it_were_alone():
    noise, joint_action, projection = normal(20, 2, seed=0), normal(20, 4, seed=1), normal(4, 2, seed=2)
    groups = torch.arange(20) % 3
    together = pair_shared_noise(noise, joint_action, groups, projection)
    for group in range(3):
        rows = (groups == group).nonzero().squeeze(dim=-1)
        alone = pair_shared_noise(noise[rows], joint_action[rows], torch.zeros(len(rows)).long(), projection)
        assert torch.equal(together[rows], rows[alone])


def test_the_scale_of_the_projection_does_not_matter():
    noise, joint_action, projection = normal(30, 2, seed=0), normal(30, 4, seed=1), normal(4, 2, seed=2)
    groups = torch.zeros(30, dtype=torch.int64)
    first = pair_shared_noise(noise, joint_action, groups, projection)
    assert torch.equal(first, pair_shared_noise(noise, joint_action, groups, 100 * projection))


def test_single_precision_and_gradients_are_no_obstacle():
    noise = normal(8, 2).float().requires_grad_()
    permutation = pair_shared_noise(noise, xor_rows(4, 4).float(), torch.zeros(8).long(), normal(4, 2, seed=2).float())
    assert not permutation.requires_grad
