"""How much of the data is left at each level of a diffusion, and which levels are visited.

The convention of this project (``flows.path``): **level k = 0 is data, k = K is noise**. A schedule is the vector of
ᾱ_k, k = 0..K, the share of the data's variance that is kept at level k: ᾱ_0 = 1, falling towards 0. A step from level
k-1 to k adds the share β_k of noise, ᾱ_k = Π_{j<=k} (1 - β_j). Sources that number levels from 0 call our level k
their t = k - 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

NoiseSchedule = Literal["vp", "linear", "cosine"]

_MOST_NOISE = 0.999  # largest β: something of the data is kept at every level, so that ᾱ can be divided by


def noise_schedule(kind: NoiseSchedule, levels: int) -> Tensor:
    """ᾱ of one of the schedules below, by its name.

    Args:
        kind: ``vp``, ``linear`` or ``cosine``.
        levels: K >= 1.

    Returns:
        ᾱ_0..ᾱ_K, shape (K+1,), in the default float type.

    Raises:
        ValueError: If ``levels`` is below 1 or the kind unknown.
    """
    if levels < 1:
        raise ValueError(f"levels of a noise schedule must be at least 1, got {levels}; 5 to 1000 are usual")
    if kind == "vp":
        return vp_schedule(levels)
    if kind == "linear":
        return linear_schedule(levels)
    if kind == "cosine":
        return cosine_schedule(levels)
    raise ValueError(f"unknown noise schedule {kind!r}; choose 'vp', 'linear' or 'cosine'")


def vp_schedule(levels: int, least: float = 0.1, most: float = 10.0) -> Tensor:
    """The variance-preserving diffusion in K levels; few are enough.

    β_k = 1 - exp(-b/K - (B - b)(2k - 1)/(2K²)),   so that   ᾱ_k = exp(-b k/K - (B - b)(k/K)²/2)
    (Diffusion-QL, Wang et al., arXiv:2208.06193, with these defaults)

    Args:
        levels: K >= 1.
        least: b, rate of the noise at the data.
        most: B, rate of the noise at the end; with the defaults ᾱ_K = exp(-5.05) = .0064.

    Returns:
        ᾱ_0..ᾱ_K, shape (K+1,).
    """
    t = torch.arange(levels + 1, dtype=torch.float64) / levels
    return (-least * t - (most - least) * t.square() / 2).exp().to(torch.get_default_dtype())


def linear_schedule(levels: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Noise that grows linearly, β_1 = .0001 to β_K = .02 at K = 1000.

    β_k = (first + (last - first)(k - 1)/(K - 1)) · 1000/K, at most .999
    (DDPM, Ho et al., arXiv:2006.11239; scaled to other K so that the end is noise there, too, as EDP does,
    https://github.com/sail-sg/edp)

    Args:
        levels: K >= 1.
        first: β_1 at K = 1000.
        last: β_K at K = 1000.

    Returns:
        ᾱ_0..ᾱ_K, shape (K+1,).
    """
    return _kept(torch.linspace(first, last, levels, dtype=torch.float64) * 1000 / levels)


def cosine_schedule(levels: int, offset: float = 0.008) -> Tensor:
    """Squared cosine: noise grows slowly at both ends.

    ᾱ_k = f(k/K)/f(0),   f(t) = cos²((t + s)/(1 + s) · π/2),   with β_k at most .999
    (Nichol & Dhariwal, arXiv:2102.09672)

    Args:
        levels: K >= 1.
        offset: s; keeps the first β away from 0.

    Returns:
        ᾱ_0..ᾱ_K, shape (K+1,).
    """
    t = torch.arange(levels + 1, dtype=torch.float64) / levels
    kept = ((t + offset) / (1 + offset) * math.pi / 2).cos().square()
    return _kept(1 - kept[1:] / kept[:-1])


def visited_levels(levels: int, steps: int) -> tuple[int, ...]:
    """Which levels a sampler with S steps visits: evenly spaced from K down to 0.

        K = 10, S = 4:    10   8   5   2   0

    Args:
        levels: K >= 1 of the schedule.
        steps: S in 1..K, network calls of a sample.

    Returns:
        S + 1 numbers, falling.

    Raises:
        ValueError: If ``steps`` is not in 1..K.
    """
    if not 1 <= steps <= levels:
        raise ValueError(f"steps of a diffusion sampler must be in 1..{levels}, its levels, got {steps}; lower them")
    return tuple(round(levels * left / steps) for left in range(steps, -1, -1))


def draw_levels(
    shape: Sequence[int], levels: int, generator: torch.Generator | None, device: torch.device | str = "cpu"
) -> Tensor:
    """Levels at which an update learns, uniform on 1..K.

    Args:
        shape: Leading shape (…).
        levels: K >= 1.
        generator: Source of the draws, on ``device``.
        device: Where the levels are made.

    Returns:
        (…, 1) int64.
    """
    return torch.randint(1, levels + 1, (*shape, 1), generator=generator, device=device)


def _kept(added: Tensor) -> Tensor:
    """ᾱ of β_1..β_K, in the default float type."""
    kept = (1 - added.clamp(max=_MOST_NOISE)).cumprod(dim=0)
    return torch.cat([kept.new_ones(1), kept]).to(torch.get_default_dtype())
