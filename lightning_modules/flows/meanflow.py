"""MeanFlow: learning the average velocity of a flow, so that one step of it is exact.

u(z_t, r, t) = 1/(t - r) ∫_r^t v(z_τ, τ) dτ obeys u = v - (t - r) Du, with the total derivative along the flow
Du = (v · ∇_z) u + ∂u/∂t at fixed r (Geng et al., *Mean Flows for One-step Generative Modeling*, arXiv:2505.13447).
Original code: https://github.com/Gsunshine/meanflow; improved MeanFlow (iMF, arXiv:2512.02012):
https://github.com/Lyy-iiis/imeanflow.

Differences from the originals:
- t - r is not clipped to [0, 1]; ``flows.path`` cannot draw anything else.
- The adaptive weight is off by default in our algorithms (exponent 0): with few action dimensions it re-weights rows by
  their noise.
- The endpoint parametrisation u = (z - x̂)/t is ours.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

AverageVelocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""u(z, r, t): points (…, D) and times (…, 1), (…, 1) to average velocities (…, D)."""


def velocity_from_endpoint(z: Tensor, endpoint: Tensor, t: Tensor) -> Tensor:
    """Average velocity u = (z - x̂)/t of a flow that is predicted to end in x̂.

    At t = 1 one step to r = 0 lands on z - u = x̂ itself.

    Args:
        z: Points, shape (…, D).
        endpoint: Predicted clean points x̂, shape (…, D).
        t: Flow times above 0, shape (…, 1).

    Returns:
        Velocities, shape (…, D).
    """
    return (z - endpoint) / t


def endpoint_from_velocity(z: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """Endpoint x̂ = z - t u; the inverse of ``velocity_from_endpoint``.

    Args:
        z: Points, shape (…, D).
        velocity: Average velocities u, shape (…, D).
        t: Flow times, shape (…, 1).

    Returns:
        Predicted clean points, shape (…, D).
    """
    return z - t * velocity


def time_derivative(
    function: AverageVelocity, z: Tensor, r: Tensor, t: Tensor, tangent: Tensor
) -> tuple[Tensor, Tensor]:
    """The average velocity and its total derivative along a flow, in one forward-mode sweep.

    Du = (v · ∇_z) u + ∂u/∂t: the Jacobian of (z, r, t) -> u times (v, 0, 1)        (MeanFlow identity)

    Args:
        function: u(z, r, t).
        z: Points, shape (…, D).
        r: End times, shape (…, 1).
        t: Start times, shape (…, 1).
        tangent: Velocity v of the flow at (z, t), shape (…, D): noise - x, or the network's own velocity in iMF.

    Returns:
        u and Du, both (…, D); both carry gradients, the targets below detach Du.
    """
    primals, tangents = (z, r, t), (tangent, torch.zeros_like(r), torch.ones_like(t))
    result: tuple[Tensor, Tensor] = torch.func.jvp(function, primals, tangents)  # type: ignore[assignment]
    return result


def meanflow_target(velocity: Tensor, derivative: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """Regression target of the average velocity: the MeanFlow identity, without gradient.

    u_target = sg[ v - (t - r) Du ]        (MeanFlow)

    Args:
        velocity: v = noise - x, or its guided version, shape (…, D).
        derivative: Du, shape (…, D).
        r: End times, shape (…, 1).
        t: Start times, shape (…, 1); where r = t the target is v, plain flow matching.

    Returns:
        Targets, shape (…, D), detached.
    """
    return (velocity - (t - r) * derivative).detach()


def compound_velocity(average_velocity: Tensor, derivative: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """Instantaneous velocity that an average velocity implies; iMF regresses it to v itself.

    V = u + (t - r) sg[Du]        (iMF, arXiv:2512.02012)

    V - v equals MeanFlow's u - u_target, with the same gradient.

    Args:
        average_velocity: u, shape (…, D); gradients flow through it.
        derivative: Du, shape (…, D); detached here.
        r: End times, shape (…, 1).
        t: Start times, shape (…, 1).

    Returns:
        V, shape (…, D).
    """
    return average_velocity + (t - r) * derivative.detach()


def adaptive_weight(error_sum: Tensor, exponent: float, epsilon: float = 1e-2) -> Tensor:
    """Weight of a row's squared error, so that rows with large errors count less.

    weight = sg[ 1 / (error + ε)^p ]        (MeanFlow)

    Args:
        error_sum: Squared error *summed* over dimensions, at least 0, shape (…).
        exponent: p >= 0. 0 is exactly 1, the plain squared error; 0.5 is like the Pseudo-Huber loss; 1 is the image
            default, which makes the regression mode-seeking when rows are noisy.
        epsilon: ε > 0, on the scale of the summed error.

    Returns:
        Weights, shape (…), detached.

    Raises:
        ValueError: If ``exponent`` is negative or ``epsilon`` is not positive.
    """
    if exponent < 0:
        raise ValueError(f"exponent of the adaptive weight must be at least 0, got {exponent}; 0 switches it off")
    if epsilon <= 0:
        raise ValueError(f"epsilon of the adaptive weight must be above 0, got {epsilon}; a usual value is 0.01")
    return (error_sum.detach() + epsilon).pow(-exponent)


def sample(function: AverageVelocity, noise: Tensor, steps: int = 1) -> Tensor:
    """Follows the average velocity from noise to data in K steps of equal length.

    z_r = z_t - (t - r) u(z_t, r, t),  t = 1, 1 - 1/K, …, 1/K        (MeanFlow)

    Args:
        function: u(z, r, t).
        noise: Starting points at t = 1, shape (…, D).
        steps: K >= 1; every step costs one call. 1 is exact for the exact u.

    Returns:
        Samples at t = 0, shape (…, D).

    Raises:
        ValueError: If ``steps`` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"steps of the MeanFlow sampler must be at least 1, got {steps}")
    z, ones = noise, torch.ones_like(noise[..., :1])
    for k in range(steps, 0, -1):
        t, r = k / steps, (k - 1) / steps
        z = z - (t - r) * function(z, r * ones, t * ones)
    return z
