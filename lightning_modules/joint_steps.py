"""Windows without their order: the recorded joint steps that a memoryless policy learns from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.batch import TeamBatch


class JointSteps(NamedTuple):
    """M recorded joint steps; field meanings as in ``TeamBatch``.

    Attributes:
        obs: (M, N, O).
        state: (M, S).
        actions: (M, N) int64 or (M, N, A).
        legal_actions: (M, N, A) bool.
        advantages: (M,).
        credits: (M, N).
    """

    obs: Tensor
    state: Tensor
    actions: Tensor
    legal_actions: Tensor
    advantages: Tensor
    credits: Tensor


def joint_steps(batch: TeamBatch, most: int | None = None, generator: torch.Generator | None = None) -> JointSteps:
    """The valid learning steps of a batch (positions 0..T-2), or a random part of them.

    Args:
        batch: Windows of length T.
        most: Keep at most this many, drawn uniformly without replacement; None keeps all, in order.
        generator: Randomness of the draw.

    Returns:
        At most B(T-1) steps.
    """
    usable = batch.valid[:, :-1].reshape(-1).nonzero().squeeze(-1)
    if most is not None and most < len(usable):
        order = torch.randperm(len(usable), generator=generator, device=usable.device)
        usable = usable[order[:most]]
    width = batch.obs.shape[1]
    position = usable // (width - 1) * width + usable % (width - 1)  # numbering with T columns instead of T-1

    def pick(field: Tensor) -> Tensor:
        return field.flatten(0, 1).index_select(0, position)

    return JointSteps(*(pick(getattr(batch, name)) for name in JointSteps._fields))
