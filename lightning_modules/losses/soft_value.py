"""OMIGA's value loss: the soft maximum of local action values over the actions in the data."""

from __future__ import annotations

from torch import Tensor

_LEAST_SHIFT = -1.0  # keeps exp(-shift), and with it the gradient's scale, below e


def soft_value_loss(
    q: Tensor, v: Tensor, weight: Tensor | float, temperature: float, clip: float = 10.0, mask: Tensor | None = None
) -> Tensor:
    """Loss whose minimiser is V = (α/w) log E exp(w Q / α).

    z = clip(w (Q - V) / α, ±clip),  m = sg max(max z, -1),  L = exp(z - m) + exp(-m) w V / α
    (OMIGA, Wang et al., arXiv:2307.11620; code: https://github.com/ZhengYinan-AIR/OMIGA)

    m only rescales the gradient of the whole batch, so that exp cannot overflow. Where z is clipped the first term has
    no gradient, so V is only pulled down there.

    Args:
        q: Local values Q_i of recorded actions, shape (…); detached here.
        v: Local state values V_i, shape (…); the only gradient.
        weight: Mixer weights w_i >= 0, a number or shape (…); detached here.
        temperature: α > 0; large gives the mean of Q, small the maximum.
        clip: Largest |z|, above 0.
        mask: Entries that count, bool of shape (…): padding must not choose m. None: all.

    Returns:
        Elementwise loss, shape (…); not reduced, so the caller applies the mask to it, too.

    Raises:
        ValueError: If ``temperature`` or ``clip`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}; OMIGA uses 10")
    if clip <= 0:
        raise ValueError(f"clip must be above 0, got {clip}; OMIGA uses 10")
    slope = (weight.detach() if isinstance(weight, Tensor) else weight) / temperature
    z = (slope * (q.detach() - v)).clamp(-clip, clip)
    counting = z.detach() if mask is None else z.detach().masked_fill(~mask, _LEAST_SHIFT)
    shift = counting.max().clamp(min=_LEAST_SHIFT)
    return (z - shift).exp() + (-shift).exp() * slope * v
