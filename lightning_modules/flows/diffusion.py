"""Diffusion: adding noise to data, and the steps and samplers that take it away again.

Levels and ᾱ are those of ``flows.noise_schedules``: k = 0 is data, k = K noise. Everywhere

    z = √ᾱ x + √(1 - ᾱ) ε,      x the data, ε noise from N(0, I);

``kept`` is ᾱ at the level where z is, ``next_kept`` ᾱ at a level nearer to the data, to which a step goes; both
broadcast over z. What a network predicts, of ε or x, is turned into an *endpoint* x̂ first; clip it there if data is
bounded. All steps then have the form z' = a x̂ + b z + c · noise and can be differentiated through.

Why not the schedulers of a library: the agents of a team must be able to share every block of noise, the first and
those in between, so that noise has to be an argument (``diffusers``' DDPMScheduler draws whole blocks itself); and the
chain is differentiated and run under Lightning, without state. The tests compare with ``diffusers`` step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

DiffusionSampler = Literal["ddpm", "ddim", "dpm_solver"]

Endpoint = Callable[[Tensor, int], Tensor]
"""x̂(z, k): noisy points (…, D) and their level to predicted data (…, D)."""

Draw = Callable[[], Tensor]
"""A new block of noise, (…, D), at every call; agents of a team may share it."""


class Visited(NamedTuple):
    """A point of the past that a multistep method remembers.

    Attributes:
        endpoint: x̂ there, (…, D).
        kept: ᾱ there.
    """

    endpoint: Tensor
    kept: Tensor


def add_noise(x: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """A draw from q(z | x): data with as much noise as its level has.

    z = √ᾱ x + √(1 - ᾱ) ε        (DDPM, Ho et al., arXiv:2006.11239, Eq. 4)

    Args:
        x: Data, shape (…, D).
        noise: ε, shape (…, D).
        kept: ᾱ in [0, 1], scalar or (…, 1); 1 gives the data, 0 the noise.

    Returns:
        Points, shape (…, D).
    """
    return kept.sqrt() * x + (1 - kept).sqrt() * noise


def endpoint_from_noise(z: Tensor, noise: Tensor, kept: Tensor, bound: float | None = None) -> Tensor:
    """The data x̂ = (z - √(1 - ᾱ) ε) / √ᾱ that a predicted noise implies.

    Args:
        z: Points, shape (…, D).
        noise: Predicted ε, shape (…, D).
        kept: ᾱ in (0, 1], scalar or (…, 1).
        bound: Clip x̂ to [-bound, bound], where data is known to be; None does not.

    Returns:
        Endpoints, shape (…, D).
    """
    endpoint = (z - (1 - kept).sqrt() * noise) / kept.sqrt()
    return endpoint if bound is None else endpoint.clamp(-bound, bound)


def noise_from_endpoint(z: Tensor, endpoint: Tensor, kept: Tensor) -> Tensor:
    """The noise ε = (z - √ᾱ x̂) / √(1 - ᾱ) that a predicted endpoint implies; inverse of ``endpoint_from_noise``.

    Args:
        z: Points, shape (…, D).
        endpoint: x̂, shape (…, D).
        kept: ᾱ in [0, 1), scalar or (…, 1).

    Returns:
        Noise, shape (…, D).
    """
    return (z - kept.sqrt() * endpoint) / (1 - kept).sqrt()


def posterior(z: Tensor, endpoint: Tensor, kept: Tensor, next_kept: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of q(z' | z, x): where a point came from, if the data is known.

    mean = (√ᾱ' β x̂ + √(1 - β) (1 - ᾱ') z) / (1 - ᾱ),   variance = β (1 - ᾱ') / (1 - ᾱ),   β = 1 - ᾱ/ᾱ'
    (DDPM, arXiv:2006.11239, Eq. 7; for any two levels, not only neighbours)

    Args:
        z: Points, shape (…, D).
        endpoint: x̂, shape (…, D).
        kept: ᾱ at z, in (0, 1).
        next_kept: ᾱ' in [ᾱ, 1]; at 1, the data, the mean is x̂ and the deviation 0.

    Returns:
        Mean (…, D), and the deviation in the shape of ``kept``.
    """
    added = 1 - kept / next_kept
    mean = (next_kept.sqrt() * added * endpoint + (1 - added).sqrt() * (1 - next_kept) * z) / (1 - kept)
    return mean, (added * (1 - next_kept) / (1 - kept)).sqrt()


def ddpm_step(z: Tensor, endpoint: Tensor, kept: Tensor, next_kept: Tensor, noise: Tensor | None) -> Tensor:
    """A draw from the posterior with x̂ in place of the data.

    z' = mean + deviation · noise        (DDPM, arXiv:2006.11239, Algorithm 2, with the smaller variance)

    Args:
        z: Points, shape (…, D).
        endpoint: x̂, shape (…, D).
        kept: ᾱ at z, in (0, 1).
        next_kept: ᾱ' in [ᾱ, 1].
        noise: A block from N(0, I), (…, D); None takes the mean, which is exact at ᾱ' = 1.

    Returns:
        Points, shape (…, D).
    """
    mean, deviation = posterior(z, endpoint, kept, next_kept)
    return mean if noise is None else mean + deviation * noise


def ddim_step(
    z: Tensor, endpoint: Tensor, kept: Tensor, next_kept: Tensor, eta: float = 0.0, noise: Tensor | None = None
) -> Tensor:
    """A step with as much chance as wanted; each of them keeps the distribution of every level.

    z' = √ᾱ' x̂ + √(1 - ᾱ' - σ²) ε̂ + σ · noise,   σ² = η² (1 - ᾱ')/(1 - ᾱ) (1 - ᾱ/ᾱ'),   ε̂ what x̂ implies
    (DDIM, Song et al., arXiv:2010.02502, Eq. 12 and 16)

    Args:
        z: Points, shape (…, D).
        endpoint: x̂, shape (…, D).
        kept: ᾱ at z, in (0, 1).
        next_kept: ᾱ' in [ᾱ, 1].
        eta: η in [0, 1]: 0 is without chance, 1 is ``ddpm_step``.
        noise: A block from N(0, I), (…, D); needed only where σ > 0.

    Returns:
        Points, shape (…, D).

    Raises:
        ValueError: If ``eta`` is outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta of DDIM must be in [0, 1], got {eta}; 0 is without chance, 1 is DDPM")
    variance = eta**2 * (1 - next_kept) / (1 - kept) * (1 - kept / next_kept)
    direction = (1 - next_kept - variance).clamp(min=0).sqrt() * noise_from_endpoint(z, endpoint, kept)
    mean = next_kept.sqrt() * endpoint + direction
    return mean if noise is None else mean + variance.sqrt() * noise


def dpm_solver_step(
    z: Tensor, endpoint: Tensor, kept: Tensor, next_kept: Tensor, before: Visited | None = None
) -> Tensor:
    """A step of DPM-Solver++ (2M): a multistep method of second order for the flow without chance.

    z' = σ'/σ z + (α' - α σ'/σ) D,   D = x̂ + h/(2 h_0) (x̂ - x̂_0),   h = λ' - λ,   h_0 = λ - λ_0
    with α = √ᾱ, σ = √(1 - ᾱ), λ = log(α/σ), and x̂_0, λ_0 of the point visited before
    (Lu et al., arXiv:2211.01095, Algorithm 2)

    Args:
        z: Points, shape (…, D).
        endpoint: x̂, shape (…, D).
        kept: ᾱ at z, in (0, 1).
        next_kept: ᾱ' in [ᾱ, 1].
        before: The point before z. Without it D = x̂, which is ``ddim_step`` of η = 0, of first order.

    Returns:
        Points, shape (…, D).
    """
    ratio = ((1 - next_kept) / (1 - kept)).sqrt()
    if before is not None:
        wider = (_half_log_ratio(next_kept) - _half_log_ratio(kept)) / (
            _half_log_ratio(kept) - _half_log_ratio(before.kept)
        )
        endpoint = endpoint + wider / 2 * (endpoint - before.endpoint)
    return ratio * z + (next_kept.sqrt() - kept.sqrt() * ratio) * endpoint


def sample(
    endpoint: Endpoint,
    noise: Tensor,
    kept: Tensor,
    levels: Sequence[int],
    sampler: DiffusionSampler = "ddpm",
    draw: Draw | None = None,
    eta: float = 0.0,
) -> Tensor:
    """Takes noise to data over the given levels; one call of ``endpoint`` for each but the last.

    Nothing is drawn for a step to level 0, nor by samplers without chance. With ``dpm_solver`` the first step and one
    to level 0 are of first order: there is nothing before the first, and λ is infinite at the data.

    Args:
        endpoint: x̂(z, k).
        noise: Starting points at the first of the levels, shape (…, D).
        kept: ᾱ_0..ᾱ_K of the schedule, shape (K+1,), on the device of ``noise``.
        levels: Falling level numbers, e.g. from ``visited_levels``; the last one is where samples are.
        sampler: ``ddpm`` draws in every step; ``ddim`` as much as ``eta`` says; ``dpm_solver`` never, and is more exact
            with few steps.
        draw: Blocks of noise for ``ddpm``, and for ``ddim`` with ``eta`` above 0.
        eta: η in [0, 1] of ``ddim``.

    Returns:
        Samples, shape (…, D).

    Raises:
        ValueError: If levels do not fall, the sampler is unknown, or it needs noise and there is no ``draw``.
    """
    if any(here <= following for here, following in pairwise(levels)):
        raise ValueError(f"levels of a diffusion sampler must fall, from noise K to data 0, got {list(levels)}")
    if sampler not in ("ddpm", "ddim", "dpm_solver"):
        raise ValueError(f"unknown diffusion sampler {sampler!r}; choose 'ddpm', 'ddim' or 'dpm_solver'")
    by_chance = sampler == "ddpm" or (sampler == "ddim" and eta > 0)
    if by_chance and draw is None:
        raise ValueError(f"sampler {sampler!r} with eta {eta} draws noise in between: pass draw, a function of blocks")
    z, before = noise, None
    for here, following in pairwise(levels):
        predicted, place = endpoint(z, here), (kept[here], kept[following])
        block = draw() if by_chance and draw is not None and following > 0 else None
        if sampler == "ddpm":
            z = ddpm_step(z, predicted, *place, block)
        elif sampler == "ddim":
            z = ddim_step(z, predicted, *place, eta, block)
        else:
            z = dpm_solver_step(z, predicted, *place, before if following > 0 else None)
            before = Visited(predicted, kept[here])
    return z


def _half_log_ratio(kept: Tensor) -> Tensor:
    """λ = log(√ᾱ / √(1 - ᾱ))."""
    return (kept.log() - torch.log1p(-kept)) / 2
