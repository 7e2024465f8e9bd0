"""Expectile regression: between the mean and the best of what the data shows."""

from __future__ import annotations

from torch import Tensor


def expectile_loss(error: Tensor, expectile: float) -> Tensor:
    """Asymmetric squared error whose minimiser is the given expectile.

    L(u) = |expectile - 1[u < 0]| * u**2        (Kostrikov et al., arXiv:2110.06169)

    Args:
        error: Target minus estimate, shape (…).
        expectile: In (0, 1); 0.5 is half the squared error, larger favours high targets.

    Returns:
        Elementwise loss, shape (…); not reduced, so the caller applies the valid mask.

    Raises:
        ValueError: If ``expectile`` is outside (0, 1).
    """
    if not 0 < expectile < 1:
        raise ValueError(f"expectile must be in (0, 1), got {expectile}; 0.5 is the mean, 0.8 a usual value")
    weight = (expectile - (error < 0).to(error.dtype)).abs()
    return weight * error.square()
