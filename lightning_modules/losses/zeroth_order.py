"""Search for actions of large value without derivatives, where those of a learned value lead to poor local maxima."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]


@torch.no_grad()
def searched_actions(
    score: Score,
    like: Tensor,
    iterations: int,
    samples: int,
    std: float,
    elites: int | None,
    generator: torch.Generator,
) -> Tensor:
    """The best action that a cross-entropy search comes across.

    a_p ~ clip(N(μ, σ²), -1, 1) with μ = 0 in the first iteration, and after each
      without elites   μ = Σ_p softmax_p(Q) a_p,  σ² = mean_p (a_p - μ)²
      with elites      μ, σ: mean and deviation of the best samples, this iteration's and those kept from the last
    (OMAR, Pan et al., arXiv:2111.11188: without elites for MPE, with elites for MuJoCo.)

    Args:
        score: Values (P, …) of actions (P, …, A).
        like: Any tensor with the shape (…, A), device and type of the answer.
        iterations: At least 1.
        samples: P, at least 1.
        std: σ of the first iteration, above 0.
        elites: How many are kept, 2 to ``samples``; None weighs all of them.
        generator: Source of the samples.

    Returns:
        The best action of the last iteration and its elites, (…, A), detached.
    """
    mean, deviation = torch.zeros_like(like), torch.full_like(like, std)
    kept: Tensor | None = None
    for _ in range(iterations):
        noise = torch.randn(samples, *like.shape, generator=generator, device=like.device, dtype=like.dtype)
        actions = (mean + deviation * noise).clamp(-1.0, 1.0)
        if kept is not None:
            actions = torch.cat([actions, kept])
        values = score(actions)
        if elites is None:
            mean = (values.softmax(dim=0).unsqueeze(-1) * actions).sum(dim=0)
            deviation = (actions - mean).square().mean(dim=0).sqrt()
        else:
            best = values.topk(elites, dim=0).indices.unsqueeze(-1)
            kept = actions.gather(0, best.expand(-1, *like.shape))
            mean, deviation = kept.mean(dim=0), kept.std(dim=0)
    return _best(actions, values)


@torch.no_grad()
def best_action(score: Score, candidates: Tensor) -> Tensor:
    """The candidate of the largest value, the first of equals.

    Args:
        score: Values (P, …) of actions (P, …, A).
        candidates: (P, …, A).

    Returns:
        (…, A), detached.
    """
    return _best(candidates, score(candidates))


def _best(actions: Tensor, values: Tensor) -> Tensor:
    best = values.argmax(dim=0)[None, ..., None].expand(1, *actions.shape[1:])
    return actions.gather(0, best).squeeze(0)
