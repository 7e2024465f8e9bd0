"""Classifier-free guidance, and how to build it into what a flow is trained on.

One meaning of the scale everywhere: unconditional + w (conditional - unconditional). w = 0 is the unconditional model,
w = 1 the conditional one, w > 1 goes beyond it. Applied to log-probabilities this is log p(a) p(good | a)^w up to a
constant, a policy that improves on the data's as w grows (Frans et al., CFGRL, arXiv:2505.23458); applied to velocities
it approximates that policy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def guide(unconditional: Tensor, conditional: Tensor, scale: Tensor | float) -> Tensor:
    """Guided velocity.

    v_w = v_∅ + w (v_c - v_∅)        (Ho & Salimans, arXiv:2207.12598, whose scale is w - 1)

    Args:
        unconditional: v_∅ of the model under the null condition, shape (…, D).
        conditional: v_c of the model under the condition, shape (…, D).
        scale: w, a number or shape (…, 1).

    Returns:
        Guided velocities, shape (…, D); linear in w.
    """
    return unconditional + scale * (conditional - unconditional)


def drop_condition(
    shape: Sequence[int], rate: float, generator: torch.Generator | None, device: torch.device | str = "cpu"
) -> Tensor:
    """Chooses rows that are trained under the null condition.

    Drawn independently of the flow times, so that the null condition is also learned where r < t.

    Args:
        shape: Shape (…) of the mask.
        rate: Probability of dropping, in [0, 1]; 0.1 is usual.
        generator: Source of randomness, on ``device``.
        device: Where the mask is made.

    Returns:
        Bool mask (…), True where the condition is dropped.

    Raises:
        ValueError: If ``rate`` is outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate of dropped conditions must be in [0, 1], got {rate}; 0.1 is usual")
    return torch.rand(tuple(shape), generator=generator, device=device) < rate


def sample_scale(
    shape: Sequence[int], maximum: float, generator: torch.Generator | None, device: torch.device | str = "cpu"
) -> Tensor:
    """Draws guidance scales for a network that takes the scale as an input.

    w = exp(U ln w_max), U uniform on [0, 1]: log-uniform on [1, w_max]        (iMF, arXiv:2512.02012)

    Args:
        shape: Shape of the result, usually (…, 1).
        maximum: w_max >= 1; 1 trains without guidance, large values slow the learning of small ones.
        generator: Source of randomness, on ``device``.
        device: Where the scales are made.

    Returns:
        Scales in [1, w_max], of the given shape.

    Raises:
        ValueError: If ``maximum`` is less than 1.
    """
    if maximum < 1:
        raise ValueError(f"maximum of the guidance scale must be at least 1, got {maximum}; 1 is no guidance")
    return torch.exp(torch.rand(tuple(shape), generator=generator, device=device) * math.log(maximum))


def input_guided_velocity(
    velocity: Tensor, conditional: Tensor, unconditional: Tensor, scale: Tensor | float
) -> Tensor:
    """Target velocity for a network that takes the guidance scale as an input.

    v_g = sg[ v + (1 - 1/w) (v_c(w) - v_∅) ]        (iMF, arXiv:2512.02012)

    v_c(w) is the network's own guided answer. At the fixed point v_c(w) = E[v_g] it is w v_c* + (1 - w) v_∅*, the
    guided velocity at scale w of the unguided v_c* = E[v | c].

    Args:
        velocity: v = noise - x, shape (…, D).
        conditional: v_c(w), the network's answer under the condition *at scale w*, shape (…, D).
        unconditional: v_∅, under the null condition at scale 1, shape (…, D).
        scale: w >= 1, a number or shape (…, 1); 1 leaves v as it is.

    Returns:
        Targets, shape (…, D), detached.
    """
    return (velocity + (1 - 1 / scale) * (conditional - unconditional)).detach()


def train_guided_velocity(
    velocity: Tensor, conditional: Tensor, unconditional: Tensor, omega: float, kappa: float
) -> Tensor:
    """Target velocity that builds one fixed guidance scale into the network.

    v_g = sg[ ω v + (1 - ω - κ) u_∅ + κ u_c ]        (MeanFlow, arXiv:2505.13447)

    At the fixed point u_c = E[v_g | c] the scale is ω / (1 - κ), see ``effective_scale``. At equal scale, a larger κ
    puts less of the sample's noise into the target.

    Args:
        velocity: v = noise - x, shape (…, D).
        conditional: u_c(z, t, t), the network's answer under the condition, shape (…, D).
        unconditional: u_∅(z, t, t), under the null condition, shape (…, D).
        omega: ω >= 0.
        kappa: κ in [0, 1); with ω + κ = 1 the unconditional term vanishes and the scale is 1.

    Returns:
        Targets, shape (…, D), detached.
    """
    return (omega * velocity + (1 - omega - kappa) * unconditional + kappa * conditional).detach()


def effective_scale(omega: float, kappa: float) -> float:
    """Guidance scale w = ω / (1 - κ) that ``train_guided_velocity`` leads to (MeanFlow).

    Args:
        omega: ω >= 0.
        kappa: κ in [0, 1).

    Returns:
        w in the sense of ``guide``.

    Raises:
        ValueError: If ``kappa`` is outside [0, 1): the iteration would not converge.
    """
    if not 0 <= kappa < 1:
        raise ValueError(f"kappa must be in [0, 1), got {kappa}; the scale omega / (1 - kappa) diverges at 1")
    return omega / (1 - kappa)
