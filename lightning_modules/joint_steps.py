"""What of a batch an update learns from: recorded joint steps, without their order, or some of the windows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.networks.encoders import Encoder


class JointSteps(NamedTuple):
    """M recorded joint steps; field meanings as in ``TeamBatch``.

    Attributes:
        obs: (M, N, O).
        state: (M, S).
        actions: (M, N) int64 or (M, N, A).
        legal_actions: (M, N, A) bool.
        advantages: (M,).
        credits: (M, N).
        windows: Observations of the windows that the steps are from, (B, T, N, O): what was seen before them.
        position: Where in the windows each step is, (M,) int64, numbering all B * T positions.
    """

    obs: Tensor
    state: Tensor
    actions: Tensor
    legal_actions: Tensor
    advantages: Tensor
    credits: Tensor
    windows: Tensor
    position: Tensor

    def features(self, encoder: Encoder) -> Tensor:
        """What a network knows at each step, (M, N, F); with a memory, from the window's first step on."""
        if not encoder.recurrent:
            features: Tensor = encoder(self.obs)
            return features
        return _pick(encoder(self.windows), self.position)


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

    fields = {name: _pick(getattr(batch, name), position) for name in JointSteps._fields[:-2]}
    return JointSteps(**fields, windows=batch.obs, position=position)


def some_windows(batch: TeamBatch, most: int | None, generator: torch.Generator) -> TeamBatch:
    """A batch, or a random part of its windows.

    Args:
        batch: B windows.
        most: Keep at most this many, drawn uniformly without replacement; None keeps all, in order.
        generator: Randomness of the draw.

    Returns:
        At most B windows.
    """
    if most is None or most >= len(batch.obs):
        return batch
    order = torch.randperm(len(batch.obs), generator=generator, device=batch.obs.device)
    return TeamBatch._make(field[order[:most]] for field in batch)


def _pick(field: Tensor, position: Tensor) -> Tensor:
    return field.flatten(0, 1).index_select(0, position)
