"""From advantages of recorded joint actions to weights and labels.

Statistics (mean, deviation, quantiles) come from the whole dataset: what counts as good must not depend on what an
action happened to be drawn with. The exceptions are ``in_batch_units`` and ``softmax_weights``, for algorithms whose
critic is trained together with the policy, so that the dataset's statistics change with every update.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.losses.masking import masked_mean

_MIN_STD = 1e-6


def normalise_advantages(advantages: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    """Advantages in units of their deviation over the dataset.

    (A - mean) / max(std, 1e-6)

    Args:
        advantages: A, shape (…).
        mean: Mean of A over the dataset; 0 keeps the sign of A.
        std: Standard deviation of A over the dataset; equal advantages (0) give 0.

    Returns:
        Shape (…); unchanged by a constant added to all advantages of the dataset.
    """
    floor = torch.as_tensor(std, dtype=advantages.dtype, device=advantages.device).clamp(min=_MIN_STD)
    return (advantages - mean) / floor


def in_batch_units(advantages: Tensor, mask: Tensor) -> Tensor:
    """Advantages in units of their size in this batch, so that a temperature means the same whatever the rewards' unit.

    A / max(sqrt(<A²>_m), 1e-6)

    Args:
        advantages: A, any shape.
        mask: Entries that count, bool, broadcastable to the shape of A.

    Returns:
        Same shape, detached; signs are kept. Unchanged if all rewards are multiplied by a number.
    """
    advantages = advantages.detach()
    return normalise_advantages(advantages, 0.0, masked_mean(advantages.square(), mask).sqrt())


def exponential_weights(advantages: Tensor, temperature: float, maximum: float) -> Tensor:
    """Weights of advantage-weighted cloning.

    min(exp(A / temperature), maximum)        (Peng et al., AWR, arXiv:1910.00177; IQL's β is 1 / temperature)

    Args:
        advantages: A, usually normalised, shape (…).
        temperature: Above 0; large clones all data alike, small only the best.
        maximum: Largest weight, above 0.

    Returns:
        Weights in (0, maximum], shape (…), detached; 1 where A = 0. NaN advantages give NaN.

    Raises:
        ValueError: If ``temperature`` or ``maximum`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}; weights are exp(advantage / temperature)")
    if maximum <= 0:
        raise ValueError(f"maximum of the weights must be above 0, got {maximum}; 100 is usual")
    return (advantages.detach() / temperature).exp().clamp(max=maximum)


def softmax_weights(scores: Tensor, temperature: float, mask: Tensor) -> Tensor:
    """Weights of recorded steps that compete with each other within the batch.

    w_b = M exp(x_b / temperature) / Σ_c exp(x_c / temperature), over the M steps under the mask
    (ICQ, Yang et al., arXiv:2106.03400: exp(x / temperature) / Z with Z estimated by the batch)

    Args:
        scores: x, the mask's shape, or with further axes behind it (agents), each of which competes for itself.
        temperature: Above 0; large weighs all alike, small only the best.
        mask: Steps that count, bool.

    Returns:
        Weights, shape of ``scores``, detached: 0 outside the mask, mean 1 under it, unchanged by a constant added to
        all scores.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(
            f"temperature must be above 0, got {temperature}; weights are a softmax of score / temperature"
        )
    counts = mask.flatten().view(-1, *(1 for _ in scores.shape[mask.dim() :]))
    rows = scores.detach().flatten(0, mask.dim() - 1) / temperature  # (B·T, …)
    # Finite, so that a batch without any step that counts gives zeros and not NaN
    shares = rows.masked_fill(~counts, torch.finfo(rows.dtype).min).softmax(dim=0)
    return (shares * mask.sum()).masked_fill(~counts, 0.0).view(scores.shape)


def generalised_advantages(one_step: Tensor, ends: Tensor, decay: float) -> Tensor:
    """Sums the one-step advantages that follow in the same episode, with geometric weights.

    A_t = δ_t + γλ A_{t+1}, and δ_t at the end of an episode; with δ_t = r_t + γ V(s_{t+1}) - V(s_t) this is
    G^λ_t - V(s_t)        (Schulman et al., arXiv:1506.02438)

    Args:
        one_step: δ of consecutive recorded steps, (L,).
        ends: Whether a step is its episode's last, (L,) bool.
        decay: γλ in [0, 1].

    Returns:
        A, (L,), on the device and with the dtype of ``one_step``.

    Raises:
        ValueError: If ``decay`` is outside [0, 1], or the last step ends no episode.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay must be in [0, 1], got {decay}; it is the discount times the trace decay")
    if len(ends) == 0 or not ends[-1]:
        raise ValueError(f"expected the last of {len(ends)} steps to end an episode; mark it in ends")
    last = ends.nonzero().squeeze(-1)
    lengths = torch.diff(last, prepend=last.new_full((1,), -1))
    following = torch.zeros(len(last), dtype=torch.float64, device=one_step.device)
    sums = torch.empty_like(one_step)
    for back in range(int(lengths.max())):  # all episodes at once, each from its last step backwards
        going = lengths > back
        rows = last[going] - back
        following[going] = one_step[rows] + decay * following[going]
        sums[rows] = following[going].to(sums.dtype)
    return sums


def sign_labels(advantages: Tensor, threshold: float = 0.0) -> Tensor:
    """Labels O = 1[A > threshold]: better than what the data does in this state (CFGRL, arXiv:2505.23458).

    Args:
        advantages: A, shape (…).
        threshold: Below 0 only clearly bad actions are negative; above 0 only clearly good ones are positive.

    Returns:
        Shape (…) bool.

    Raises:
        ValueError: If an advantage is NaN.
    """
    _require_labelled(advantages)
    return advantages > threshold


def quantile_labels(advantages: Tensor, quantile_value: Tensor | float) -> Tensor:
    """Labels O = 1[A >= quantile_value]: the best share of the dataset, whatever the critic's bias.

    Args:
        advantages: A, shape (…).
        quantile_value: Quantile of A over the dataset, e.g. its 0.75 quantile for the best quarter; a number or a
            shape that broadcasts to (…).

    Returns:
        Shape (…) bool.

    Raises:
        ValueError: If an advantage is NaN.
    """
    _require_labelled(advantages)
    return advantages >= quantile_value


def continuous_condition(advantages: Tensor, mean: Tensor | float, std: Tensor | float, clip: float = 3.0) -> Tensor:
    """The advantage itself as a condition: normalised over the dataset and clipped.

    c = clip((A - mean) / std, -clip, clip)

    Args:
        advantages: A, shape (…).
        mean: Mean of A over the dataset.
        std: Standard deviation of A over the dataset.
        clip: Largest absolute value, above 0, in deviations.

    Returns:
        Conditions in [-clip, clip], shape (…).

    Raises:
        ValueError: If ``clip`` is not positive or an advantage is NaN.
    """
    if clip <= 0:
        raise ValueError(f"clip must be above 0 deviations, got {clip}; 3 is usual")
    _require_labelled(advantages)
    return normalise_advantages(advantages, mean, std).clamp(-clip, clip)


def _require_labelled(advantages: Tensor) -> None:
    if advantages.isnan().any():
        missing = int(advantages.isnan().sum())
        raise ValueError(
            f"expected an advantage for every step, got NaN for {missing} of {advantages.numel()}; "
            "the critic stage labels the data before the policy stage reads it"
        )
