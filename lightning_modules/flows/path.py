"""The straight path between data and noise, and the times at which it is visited.

The time convention of this project, whatever a source paper uses: **t = 0 is data, t = 1 is noise**. A data point x and
its noise are joined by z_t = (1 - t) x + t · noise, whose velocity is v = dz/dt = noise - x. Sampling integrates
*backwards*, from t = 1 to t = 0. Flow times carry a last axis of size 1, (…, 1), so that they broadcast over vectors
(…, D).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

TimeDistribution = Literal["uniform", "logit_normal"]


class FlowTimes(NamedTuple):
    """Pairs of flow times r <= t.

    Attributes:
        r: Where the flow is to end, (…, 1) in [0, t].
        t: Where the sample is now, (…, 1) in [min_time, 1].
        average: (…) bool. True where r and t were drawn apart, so that an *average* velocity is learned and its
            derivative is needed; False where r equals t exactly, which is plain flow matching.
    """

    r: Tensor
    t: Tensor
    average: Tensor


def interpolate(x: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
    """The point of the straight path at time t.

    z_t = (1 - t) x + t · noise        (Liu et al., arXiv:2209.03003; Geng et al., arXiv:2505.13447)

    Args:
        x: Data, shape (…, D).
        noise: Noise, shape (…, D).
        t: Flow times in [0, 1], shape (…, 1); 0 gives the data, 1 the noise.

    Returns:
        Points, shape (…, D).
    """
    return (1 - t) * x + t * noise


def path_velocity(x: Tensor, noise: Tensor) -> Tensor:
    """Velocity v = dz_t/dt = noise - x of the straight path: constant in time, away from the data.

    Args:
        x: Data, shape (…, D).
        noise: Noise, shape (…, D).

    Returns:
        Velocities, shape (…, D).
    """
    return noise - x


def sample_times(
    shape: Sequence[int],
    flow_ratio: float,
    min_time: float,
    distribution: TimeDistribution,
    generator: torch.Generator | None,
    device: torch.device | str = "cpu",
    mean: float = -0.4,
    std: float = 1.0,
) -> FlowTimes:
    """Draws the time pairs of a MeanFlow update.

    Two independent draws are ordered, r <= t (Geng et al., arXiv:2505.13447); then r := t on all rows but
    a share ``flow_ratio``. That share is an exact number of rows, chosen without replacement, so that the rows which
    need a derivative form a slice of fixed size. Times are finally squeezed into t >= min_time by
    t := min_time + (1 - min_time) t, which leaves r alone and keeps the order.

    Args:
        shape: Leading shape (…) of the batch.
        flow_ratio: Share of rows with r < t, in [0, 1]: round(flow_ratio · rows) of them. 0 is plain flow matching.
        min_time: Smallest t, in [0, 1); keep it above 0 where something is divided by t.
        distribution: ``uniform`` on [0, 1], or ``logit_normal``: the sigmoid of N(mean, std²).
        generator: Source of randomness, on ``device``.
        device: Where the times are made.
        mean: Mean of the logit; negative favours times near the data. Used by ``logit_normal`` only.
        std: Standard deviation of the logit, above 0. Used by ``logit_normal`` only.

    Returns:
        r and t, shape (…, 1), and the mask of rows with r < t, shape (…).

    Raises:
        ValueError: If ``flow_ratio`` or ``min_time`` is out of range, or the distribution is unknown.
    """
    if not 0 <= flow_ratio <= 1:
        raise ValueError(f"flow_ratio must be in [0, 1], got {flow_ratio}; it is the share of rows with r < t")
    if not 0 <= min_time < 1:
        raise ValueError(f"min_time must be in [0, 1), got {min_time}; a usual value is 0.05")
    draws = _draw((2, *shape, 1), distribution, generator, device, mean, std)
    earlier, later = draws.amin(dim=0), draws.amax(dim=0)
    t = min_time + (1 - min_time) * later
    average = _exact_share(shape, flow_ratio, generator, device)
    return FlowTimes(torch.where(average.unsqueeze(-1), earlier, t), t, average)


def sample_instants(
    shape: Sequence[int], min_time: float, generator: torch.Generator | None, device: torch.device | str = "cpu"
) -> Tensor:
    """Draws the times of a plain flow matching update, uniform on [min_time, 1].

    Not ``sample_times`` with r = t on all rows: there t is the later of two draws.

    Args:
        shape: Leading shape (…) of the batch.
        min_time: Smallest t, in [0, 1); keep it above 0 where something is divided by t.
        generator: Source of randomness, on ``device``.
        device: Where the times are made.

    Returns:
        t, shape (…, 1).

    Raises:
        ValueError: If ``min_time`` is out of range.
    """
    if not 0 <= min_time < 1:
        raise ValueError(f"min_time must be in [0, 1), got {min_time}; a usual value is 0.05")
    return min_time + (1 - min_time) * torch.rand((*shape, 1), generator=generator, device=device)


def _draw(
    shape: tuple[int, ...],
    distribution: TimeDistribution,
    generator: torch.Generator | None,
    device: torch.device | str,
    mean: float,
    std: float,
) -> Tensor:
    if distribution == "uniform":
        return torch.rand(shape, generator=generator, device=device)
    if distribution == "logit_normal":
        return torch.sigmoid(mean + std * torch.randn(shape, generator=generator, device=device))
    raise ValueError(f"unknown time distribution {distribution!r}; choose 'uniform' or 'logit_normal'")


def _exact_share(
    shape: Sequence[int], share: float, generator: torch.Generator | None, device: torch.device | str
) -> Tensor:
    """Bool mask (…) with exactly round(share · rows) rows set, uniformly chosen without replacement."""
    rows = torch.Size(shape).numel()
    rank = torch.randperm(rows, generator=generator, device=device)
    return (rank < round(share * rows)).reshape(tuple(shape))
