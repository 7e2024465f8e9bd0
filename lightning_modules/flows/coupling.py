"""Pairing of noise with data, so that noise which all agents share can choose a joint action.

Agents that act independently cannot represent "you left, I right, or the other way round": each samples a mode of its
own. If all agents start from the *same* noise (a common seed, nothing is exchanged while acting), the noise can carry
the choice, but only if training ties it to the joint action: with noise drawn independently of the data, the noise
tells an agent nothing about the others. Inside a group of rows with the same state and label, optimal transport ties
them: every region of the noise space gets one joint action, and a MeanFlow with few steps learns that map.
The idea of pairing noise with joint actions by optimal transport, here in its discrete minibatch form, is also used
for flow matching in general by Tong et al., arXiv:2302.00482 (minibatch optimal transport).
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def pair_shared_noise(noise: Tensor, joint_action: Tensor, groups: Tensor, projection: Tensor) -> Tensor:
    """Reassigns noise rows to joint actions inside each group, at least total squared distance.

    min_σ Σ_b || noise[σ(b)] - joint_action[b] · projection ||²,  σ a permutation inside every group

    The set of noise rows does not change, so their distribution stays what it was; what changes is which joint action
    a row goes with. Only inner products matter to the optimum: the scale of the projection does not.

        group      0    0    1    0    2          rows 0, 1 and 3 share state and label: their noise is exchanged;
        σ          3    0    2    1    4          rows 2 and 4 are alone and keep theirs

    Args:
        noise: Noise shared by the agents of a row, shape (B, D).
        joint_action: Encoded actions of all agents, one after the other, shape (B, M).
        groups: Group numbers, shape (B,) int64; rows are exchanged within a group only. Cost: cubic in the group size.
        projection: Fixed matrix from joint actions to the noise space, shape (M, D), e.g. of independent normals; two
            joint actions that it maps to the same point would not be told apart.

    Returns:
        σ, shape (B,) int64, on the device of ``noise``: use ``noise[σ]`` with the rows of ``joint_action``.
    """
    # The assignment runs on the CPU: scipy's solver is exact, and one transfer per batch is cheap next to it.
    points = (joint_action.detach() @ projection).cpu().double()
    sources = noise.detach().cpu().double()
    permutation = torch.arange(len(noise))
    for rows in _shared_rows(groups.cpu()):
        # Squared distance without the terms that no permutation changes. The solver adds one row at a time: with noise,
        # which never repeats, as rows it is up to 15 times faster than with joint actions, which do.
        cost = -(sources[rows] @ points[rows].T)
        _, actions = linear_sum_assignment(cost.numpy())
        permutation[rows[torch.from_numpy(actions)]] = rows
    return permutation.to(noise.device)


def _shared_rows(groups: Tensor) -> tuple[Tensor, ...]:
    """Row numbers of every group with more than one member."""
    _, number, size = torch.unique(groups, return_inverse=True, return_counts=True)
    order = number.argsort(stable=True)
    together = order[size[number[order]] > 1]
    return torch.split(together, size[size > 1].tolist())
