"""Conservative values: what a critic is punished for promising about actions that nobody recorded.

    penalty = (soft maximum of Q over proposed actions) - Q(recorded action)    (CQL, Kumar et al., arXiv:2006.04779)

The functions here are its first term in its three forms, and CFCQL's weights of the agents.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_LOWEST = -1e9  # finite: a row without any legal action, which only padding is, must not give NaN
_LEAST_CHANCE = 1e-5  # as in CFCQL's code: bounds how unlikely a cloned behaviour can call an action


def legal_log_sum_exp(values: Tensor, legal_actions: Tensor) -> Tensor:
    """Soft maximum over the choices that are legal.

    log Σ_{a legal} exp Q(a); of a constant Q that is Q + log(number of legal choices).

    Args:
        values: Q of every choice, (…, A).
        legal_actions: (…, A) bool, broadcastable.

    Returns:
        Shape (…); finite, though meaningless, where nothing is legal.
    """
    return values.masked_fill(~legal_actions, _LOWEST).logsumexp(dim=-1)


def proposal_log_sum_exp(values: Tensor, log_density: Tensor, dim: int = 0) -> Tensor:
    """Soft maximum over continuous actions, from samples of which it is known how likely they were drawn.

    log (1/P) Σ_p exp(Q(a_p) - log ρ(a_p)) estimates log ∫ exp Q(a) da (Kumar et al., arXiv:2006.04779, Appendix F).
    The original leaves out 1/P, which shifts the value by a constant and no gradient.

    Args:
        values: Q of P proposals along ``dim``.
        log_density: log ρ of each proposal, broadcastable to ``values``.
        dim: Which axis the proposals are.

    Returns:
        Shape of ``values`` without ``dim``.
    """
    return (values - log_density).logsumexp(dim=dim) - math.log(values.shape[dim])


def normal_log_density(noise: Tensor, std: float, counts: Tensor) -> Tensor:
    """Log-density of the noise that was added to an action, Σ over its entries that count.

    Args:
        noise: Standard normal draws before they were multiplied by ``std``, (…, A).
        std: Above 0.
        counts: (…, A) bool, broadcastable; False where an entry only pads the action.

    Returns:
        Shape (…).
    """
    entries = -noise.square() / 2 - math.log(std * math.sqrt(2 * math.pi))
    return torch.where(counts, entries, torch.zeros_like(entries)).sum(dim=-1)


def uniform_log_density(counts: Tensor) -> Tensor:
    """Log-density of an action drawn evenly from [-1, 1] in each entry, -log 2 for every entry that counts.

    Args:
        counts: (…, A) bool; False where an entry only pads the action.

    Returns:
        Shape (…).
    """
    return -math.log(2.0) * counts.sum(dim=-1)


def categorical_divergence(values: Tensor, log_behaviour: Tensor, legal_actions: Tensor) -> Tensor:
    """How far the soft greedy choice is from what was done.

    KL(μ | β) = Σ_{a legal} (μ + ε)(log(μ + ε) - log(β + ε)),  μ = softmax Q,  ε = 1e-5        (CFCQL's code)

    Args:
        values: Q of every choice, (…, A).
        log_behaviour: log β of every choice, (…, A).
        legal_actions: (…, A) bool, broadcastable.

    Returns:
        Shape (…), detached; 0 where the two agree.
    """
    with torch.no_grad():
        greedy = values.masked_fill(~legal_actions, _LOWEST).softmax(dim=-1) + _LEAST_CHANCE
        terms = greedy * (greedy.log() - (log_behaviour.exp() + _LEAST_CHANCE).log())
        return torch.where(legal_actions, terms, torch.zeros_like(terms)).sum(dim=-1)


def normal_divergence(mean: Tensor, std: Tensor, other_mean: Tensor, other_std: Tensor, counts: Tensor) -> Tensor:
    """How far one normal distribution is from another, with independent entries.

    KL(N(m, s²) | N(m', s'²)) = Σ log(s'/s) + (s² + (m - m')²) / (2 s'²) - 1/2

    Args:
        mean: m, (…, A).
        std: s above 0, broadcastable.
        other_mean: m', (…, A).
        other_std: s' above 0, broadcastable.
        counts: (…, A) bool, broadcastable; False where an entry only pads the action.

    Returns:
        Shape (…), detached.
    """
    with torch.no_grad():
        distance = (std.square() + (mean - other_mean).square()) / (2 * other_std.square())
        terms = (other_std / std).log() + distance - 0.5
        return torch.where(counts, terms, torch.zeros_like(terms)).sum(dim=-1)


def agent_weights(divergences: Tensor, temperature: float) -> Tensor:
    """How much each agent's penalty counts.

    λ_i = softmax_i(temperature * KL_i)        (CFCQL, Shao et al., arXiv:2309.12696)

    Args:
        divergences: KL_i of each agent's greedy choice from its behaviour, (…, N).
        temperature: 0 weighs all agents alike. Above 0, those that leave the data most count most, at infinity alone;
            below 0, those that leave it least.

    Returns:
        Weights that sum to 1, (…, N), detached.
    """
    scores = divergences.detach()
    if math.isinf(temperature):
        best = (scores if temperature > 0 else -scores).argmax(dim=-1)
        return functional.one_hot(best, scores.shape[-1]).to(scores.dtype)
    return (temperature * scores).softmax(dim=-1)
