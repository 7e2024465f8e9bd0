"""Generalised advantage estimation over episodes that end, are cut off, or go on."""

import torch
from torch import Tensor


def generalised_advantages(
    rewards: Tensor, values: Tensor, terminals: Tensor, ends: Tensor, discount: float, trace: float
) -> Tensor:
    """Generalised advantages of the team's actions.

    A_t = delta_t + discount * trace * A_{t+1},   delta_t = r_t + discount * V(s_{t+1}) - V(s_t)

    with V(s_{t+1}) = 0 after a terminal step, and A_{t+1} = 0 after the last step of an episode, whether it is terminal
    or was cut off (Schulman et al., 2016, arXiv:1506.02438, equation 16).

    Args:
        rewards: (T, E).
        values: Of the states before each step and after the last one, (T + 1, E).
        terminals: The step ended the task, (T, E) bool.
        ends: The step was the episode's last, (T, E) bool; True wherever ``terminals`` is.
        discount: In [0, 1].
        trace: In [0, 1]; 0 trusts the values, 1 the rewards.

    Returns:
        (T, E).
    """
    deltas = rewards + discount * values[1:] * ~terminals - values[:-1]
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        following = deltas[t] + discount * trace * following * ~ends[t]
        advantages[t] = following
    return advantages
