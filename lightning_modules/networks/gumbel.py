"""Choices that a gradient can pass through."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_modules.networks.actions import mask_illegal


def straight_through_choice(
    logits: Tensor, legal_actions: Tensor, temperature: float, generator: torch.Generator
) -> Tensor:
    """A sampled choice whose gradient is that of a soft one.

    y = softmax((l + g) / temperature),  g_a ~ Gumbel(0, 1);   value: one-hot of argmax y, gradient: that of y
    (straight-through Gumbel-softmax, Jang et al., arXiv:1611.01144)

    Args:
        logits: l, (…, A).
        legal_actions: (…, A) bool; illegal choices are never made.
        temperature: Above 0; small makes y hard and its gradient large and noisy.
        generator: Source of g.

    Returns:
        One-hot (…, A), distributed as softmax(l) over the legal choices.
    """
    waits = torch.empty_like(logits).exponential_(generator=generator)
    noise = -waits.clamp(min=torch.finfo(waits.dtype).tiny).log()
    soft = mask_illegal(logits + noise, legal_actions).div(temperature).softmax(dim=-1)
    hard = functional.one_hot(soft.argmax(dim=-1), soft.shape[-1]).to(soft.dtype)
    return hard + (soft - soft.detach())
