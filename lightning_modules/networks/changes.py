"""Trajectories of observations as the present one and the changes to and from it."""

from __future__ import annotations

import torch
from torch import Tensor


def as_changes(obs: Tensor, present: int, scale: Tensor) -> Tensor:
    """What was seen at present, and by how much it had changed and would change from step to step.

        time     0           1           2       3           4             present = 2
        obs      o_0         o_1         o_2     o_3         o_4
        result   (o_0-o_1)/s (o_1-o_2)/s o_2     (o_3-o_2)/s (o_4-o_3)/s

    One step changes little of an observation; in units s of its usual size, what it changes is as large as the rest.

    Args:
        obs: (B, T, N, O).
        present: Which time is the present.
        scale: s, (O,), above 0.

    Returns:
        (B, T, N, O).
    """
    before = (obs[:, :present] - obs[:, 1 : present + 1]) / scale
    after = (obs[:, present + 1 :] - obs[:, present:-1]) / scale
    return torch.cat([before, obs[:, present : present + 1], after], dim=1)
