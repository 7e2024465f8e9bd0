"""How far a policy is from what was done."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_LOWEST = -1e9  # finite: a row without any legal action, which only padding is, must not give NaN


def squared_cloning_error(actions: Tensor, recorded: Tensor, counts: Tensor) -> Tensor:
    """Mean squared difference of continuous actions over their entries that count.

    Args:
        actions: Of the policy, (…, A).
        recorded: (…, A).
        counts: (…, A) bool; False where an entry only pads the action.

    Returns:
        Shape (…); 0 where no entry counts.
    """
    squares = torch.where(counts, (actions - recorded).square(), torch.zeros_like(actions))
    return squares.sum(dim=-1) / counts.sum(dim=-1).clamp(min=1)


def choice_cloning_error(logits: Tensor, recorded: Tensor, legal_actions: Tensor) -> Tensor:
    """Cross entropy of recorded choices, -log π(a | o), with π zero where a choice is illegal.

    Args:
        logits: (…, A).
        recorded: (…) int64.
        legal_actions: (…, A) bool.

    Returns:
        Shape (…); large, and meaningless, where the recorded choice is illegal, which only padding is.
    """
    masked = logits.masked_fill(~legal_actions, _LOWEST).flatten(0, -2)
    losses: Tensor = functional.cross_entropy(masked, recorded.flatten(), reduction="none")
    return losses.view(recorded.shape)


def standard_normal_divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """How far a latent variable is from the distribution that it is generated from.

    KL(N(m, s²) | N(0, 1)) = (m² + s² - 1) / 2 - log s

    Args:
        mean: m, any shape.
        log_std: log s, the same shape.

    Returns:
        Elementwise, the same shape.
    """
    return (mean.square() + (2 * log_std).exp() - 1) / 2 - log_std
