"""Where generative policies start from: noise of every agent, or one noise of the team."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Noise = Literal["normal", "zero"]


def standard_normal(shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws from N(0, 1), of the given shape, with the type and on the device of ``like``."""
    return torch.randn(tuple(shape), generator=generator, device=like.device, dtype=like.dtype)


def team_noise(
    shape: Sequence[int], like: Tensor, shared: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Noise of teams, independent between teams.

    Args:
        shape: (…, N, A).
        like: Decides type and device.
        shared: Whether all agents of a team get the same block, as they would from a common seed: nothing is
            exchanged when acting. Otherwise each has its own.
        generator: Source of the draws, on the device of ``like``; torch's global one if None.

    Returns:
        Draws from N(0, 1), (…, N, A); with ``shared`` equal along the axis of agents (one memory, expanded).
    """
    if not shared:
        return standard_normal(shape, like, generator)
    *teams, _, size = shape
    return standard_normal((*teams, 1, size), like, generator).expand(tuple(shape))
