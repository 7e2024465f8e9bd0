"""Flow matching: regression to the instantaneous velocity of the path, and Euler's method to follow it.

Time runs as declared in ``flows.path``: noise at t = 1, data at t = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.flows.path import path_velocity

Velocity = Callable[[Tensor, Tensor], Tensor]
"""v(z, t): points (…, D) and times (…, 1) to velocities (…, D)."""


def flow_matching_loss(prediction: Tensor, x: Tensor, noise: Tensor) -> Tensor:
    """Squared error of a predicted velocity.

    L = (v_θ(z_t, t) - (noise - x))²        (Lipman et al., arXiv:2210.02747, with our direction of time)

    The minimiser is v(z, t) = E[noise - x | z_t = z].

    Args:
        prediction: v_θ at z_t, shape (…, D).
        x: Data, shape (…, D).
        noise: Noise, shape (…, D).

    Returns:
        Elementwise loss, shape (…, D); not reduced.
    """
    return (prediction - path_velocity(x, noise)).square()


def euler(function: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Integrates dz/dt = v(z, t) backwards, from noise at t = 1 to data at t = 0, with Euler's method.

    z <- z - v(z, t)/K,  t = 1, 1 - 1/K, …, 1/K

    Args:
        function: v(z, t).
        noise: Starting points at t = 1, shape (…, D).
        steps: K >= 1; the error falls like 1/K, and is zero at K = 1 where paths are straight.

    Returns:
        Samples at t = 0, shape (…, D).

    Raises:
        ValueError: If ``steps`` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"steps of Euler's method must be at least 1, got {steps}; 10 is usual for flow matching")
    z, ones = noise, torch.ones_like(noise[..., :1])
    for k in range(steps, 0, -1):
        z = z - function(z, k / steps * ones) / steps
    return z
