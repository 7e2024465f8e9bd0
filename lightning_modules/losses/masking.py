"""Means over the entries that count."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the entries under the mask.

    <x>_m = Σ m x / max(Σ m, 1)

    Args:
        values: Entries, any shape. Entries outside the mask may be anything, NaN included.
        mask: Bool, broadcastable to the shape of ``values``; True where an entry counts.

    Returns:
        Scalar; 0 with zero gradient if no entry counts.

    Raises:
        ValueError: If the mask does not broadcast to the shape of ``values``.
    """
    try:
        mask = mask.expand_as(values)
    except RuntimeError as error:
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} does not broadcast to values of shape {tuple(values.shape)}; "
            "give per-agent values a mask with an axis for agents"
        ) from error
    total = torch.where(mask, values, torch.zeros_like(values)).sum()
    return total / mask.sum().clamp(min=1)
