"""Recorded actions as vectors in [-1, 1], and back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ILLEGAL_LOGIT = -1e9
"""Finite, so that a row without any legal action (padding) gives a uniform softmax and not NaN."""


def encode_actions(actions: Tensor, action_dim: int, discrete: bool) -> Tensor:
    """Actions as the vectors that flows and critics see.

    Args:
        actions: (…) int64 when discrete, else (…, A) float in [-1, 1].
        action_dim: Number of actions or size of the action vector A.
        discrete: Whether actions are numbers of a choice.

    Returns:
        (…, A) in the default float type; a discrete action is one-hot with -1 for "no" and +1 for "yes".
    """
    if not discrete:
        return actions
    return functional.one_hot(actions, action_dim).to(torch.get_default_dtype()) * 2 - 1


def decode_actions(vectors: Tensor, legal_actions: Tensor, discrete: bool) -> Tensor:
    """The executable action of each vector; illegal discrete actions are never chosen.

    Args:
        vectors: (…, A).
        legal_actions: (…, A) bool; when continuous False where an entry only pads the action, which becomes 0.
        discrete: Whether to choose a number (argmax over legal entries) or to clip to [-1, 1].

    Returns:
        (…) int64 when discrete, else (…, A).
    """
    if not discrete:
        return vectors.clamp(-1.0, 1.0).masked_fill(~legal_actions, 0.0)
    return mask_illegal(vectors, legal_actions).argmax(dim=-1)


def mask_illegal(scores: Tensor, legal_actions: Tensor) -> Tensor:
    """Scores (…, A) with illegal entries at ``ILLEGAL_LOGIT``."""
    return scores.masked_fill(~legal_actions, ILLEGAL_LOGIT)


def draw_legal_actions(legal_actions: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Choices drawn evenly from the legal ones.

    Args:
        legal_actions: (…, A) bool; where nothing is legal, which only padding is, the draw means nothing.
        count: How many for each.
        generator: Source of the draws.

    Returns:
        (count, …) int64.
    """
    scores = torch.rand(count, *legal_actions.shape, generator=generator, device=legal_actions.device)
    return scores.masked_fill(~legal_actions, -1.0).argmax(dim=-1)


def with_one_replaced(own: Tensor, others: Tensor) -> Tensor:
    """Joint actions in which one agent does something else and the others do what they did.

    Args:
        own: What agents would do, (…, N, D).
        others: What they did, (…, N, D), broadcastable to ``own``.

    Returns:
        (N, …, N, D): number i along the first axis has agent i's row of ``own`` and all other rows of ``others``.
    """
    n_agents = own.shape[-2]
    itself = torch.eye(n_agents, dtype=torch.bool, device=own.device)
    itself = itself.view(n_agents, *[1] * (own.dim() - 2), n_agents, 1)
    return torch.where(itself, own, others)


def append_agent_id(features: Tensor) -> Tensor:
    """Appends a one-hot agent number to features (…, N, D), giving (…, N, D + N).

    Networks are shared by all agents; the number lets them differ.
    """
    n_agents = features.shape[-2]
    identity = torch.eye(n_agents, dtype=features.dtype, device=features.device)
    return torch.cat([features, identity.expand(*features.shape[:-1], n_agents)], dim=-1)
