"""Targets of value functions from recorded transitions.

What ends an episode matters: after a *terminal* step there is nothing to bootstrap from; after a *truncated* one there
would be, but the data holds no observation of it, so that step is left out.

    position      0        1        2        3
    recorded    step --> step --> last    padding      valid = 1 1 1 0
    terminal      0        0        1                  mask  = 1 1 1      last step: target is its reward
    truncated     0        0        0                  mask  = 1 1 0      last step: no target
"""

from __future__ import annotations

import torch
from torch import Tensor


def td_target(rewards: Tensor, terminals: Tensor, next_values: Tensor, discount: float) -> Tensor:
    """One-step target of a value, without gradient.

    y = r + γ (1 - terminal) V(s')        (Sutton & Barto, 2018)

    Args:
        rewards: r, shape (…).
        terminals: True where the episode ends for good with this step, shape (…) bool.
        next_values: V(s') of the next step, shape (…); ignored, NaN included, after terminals.
        discount: γ in [0, 1].

    Returns:
        Targets, shape (…), detached.
    """
    return (rewards + discount * next_values.masked_fill(terminals, 0.0)).detach()


def td_mask(valid: Tensor, terminals: Tensor) -> Tensor:
    """Steps of a window that have a one-step target.

    mask_t = valid_t and (terminal_t or valid_{t+1})

    Args:
        valid: False on padding, shape (…, T) bool.
        terminals: Shape (…, T) bool.

    Returns:
        Shape (…, T-1) bool; False on padding, and on a last step that was truncated.
    """
    return valid[..., :-1] & (terminals[..., :-1] | valid[..., 1:])


def lambda_returns(
    rewards: Tensor, terminals: Tensor, valid: Tensor, values: Tensor, discount: float, trace_decay: float
) -> Tensor:
    """Targets of all steps of a window that mix n-step returns of every length.

    G_t = r_t + γ (1 - terminal_t) [ (1 - λ) V(s_{t+1}) + λ G_{t+1} ]        (Sutton & Barto, 2018)

    G_{t+1} is V(s_{t+1}) where position t+1 has no target of its own: at the end of the window and at a truncated last
    step.

    Args:
        rewards: Shape (…, T).
        terminals: Shape (…, T) bool.
        valid: False on padding, shape (…, T) bool.
        values: V(s_t) of the target network at all positions, shape (…, T); finite also on padding.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1]; 0 is ``td_target``, 1 the discounted return of the window with its last value.

    Returns:
        Targets, shape (…, T-1), detached; meaningful where ``td_mask`` is True.

    Raises:
        ValueError: If ``trace_decay`` is outside [0, 1].
    """
    if not 0 <= trace_decay <= 1:
        raise ValueError(f"trace_decay must be in [0, 1], got {trace_decay}; 0 is one-step, 1 the whole return")
    if trace_decay == 0:  # all steps at once
        return td_target(rewards[..., :-1], terminals[..., :-1], values[..., 1:], discount)
    usable = td_mask(valid, terminals)
    following = values[..., -1]
    targets: list[Tensor] = []
    for step in range(rewards.shape[-1] - 2, -1, -1):
        mixed = (1 - trace_decay) * values[..., step + 1] + trace_decay * following
        target = td_target(rewards[..., step], terminals[..., step], mixed, discount)
        targets.append(target)
        following = target.where(usable[..., step], values[..., step])
    return torch.stack(targets[::-1], dim=-1)
