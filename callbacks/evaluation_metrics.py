"""What an evaluation says about a policy: its returns as several averages, and what its decisions cost."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.aggregation import CatMetric

from callbacks.episodes import Episodes
from environments.scores import REFERENCES, normalised_score
from lightning_modules.networks.policies import Policy

#: Metrics by which a policy can be called better than another.
Comparable = Literal["return_mean", "return_iqm", "normalised_score", "win_rate", "episode_length"]
_SHOW_NAN = float("nan")  # torchmetrics would leave returns out that are not a number; in their place this is counted


class InterquartileMean(CatMetric):
    """Mean of the middle half of all values: a quarter of them, rounded down, is left out at either end.

    Less moved by outliers than the mean, less noisy than the median (Agarwal et al., 2021, arXiv:2108.13264); the same
    as ``scipy.stats.trim_mean(values, 0.25)``. Values are given as vectors.
    """

    def compute(self) -> Tensor:
        """The mean, a scalar.

        Raises:
            ValueError: If there was no value.
        """
        values = _at_least_one(super().compute(), self).sort().values
        cut = len(values) // 4
        return values[cut : len(values) - cut].mean()


class StandardDeviation(CatMetric):
    """Root of the mean squared distance to the mean of all values (divided by their number, not by one less)."""

    def compute(self) -> Tensor:
        """The deviation, a scalar.

        Raises:
            ValueError: If there was no value.
        """
        return _at_least_one(super().compute(), self).std(correction=0)


def _at_least_one(values: Any, metric: Metric) -> Tensor:
    """The values, if there are any."""
    if not isinstance(values, Tensor):
        raise ValueError(f"{type(metric).__name__} expected at least one value before compute(), got none; update() it")
    return values


def averages(returns: NDArray[np.float64], scenario: str) -> dict[str, float]:
    """Several averages of the returns of some episodes.

    Args:
        returns: Team rewards summed over each episode, (E,), at least one.
        scenario: Where they were earned.

    Returns:
        ``return_mean``, ``return_std``, ``return_iqm``, and ``normalised_score``, the mean of the scores, where
        :data:`environments.scores.REFERENCES` has the scenario: nothing stands in for a missing reference.
    """
    metrics: dict[str, Metric] = {
        "return_mean": MeanMetric(_SHOW_NAN),
        "return_std": StandardDeviation(_SHOW_NAN),
        "return_iqm": InterquartileMean(_SHOW_NAN),
    }
    numbers = {name: _computed(metric, returns) for name, metric in metrics.items()}
    if scenario in REFERENCES:
        numbers["normalised_score"] = _computed(MeanMetric(_SHOW_NAN), normalised_score(returns, scenario))
    return numbers


def evaluation_metrics(result: Episodes, policy: Policy, scenario: str, can_be_won: bool) -> dict[str, float]:
    """Everything that is logged about the episodes of a policy.

    Args:
        result: Its episodes, at least one of which was not lost.
        policy: Who played.
        scenario: What was played.
        can_be_won: Whether its episodes are won or lost.

    Returns:
        Those of :func:`averages`; ``win_rate``, the share of battles won, where there is such a thing;
        ``episode_length`` in steps, ``lost_episodes``; ``ms_per_decision``, ``network_calls`` per decision and
        ``parameters`` of the acting networks.
    """
    numbers = averages(result.returns, scenario)
    if can_be_won:
        numbers["win_rate"] = _computed(MeanMetric(_SHOW_NAN), result.won)
    return numbers | {
        "episode_length": _computed(MeanMetric(_SHOW_NAN), result.lengths),
        "ms_per_decision": result.milliseconds,
        "lost_episodes": float(result.lost),
        "network_calls": float(result.network_calls),
        "parameters": float(acting_parameters(policy)),
    }


def acting_parameters(policy: Policy) -> int:
    """Number of parameters of the networks that a policy acts with, each counted once; critics are none of them.

    Args:
        policy: Its networks are found among its attributes, also inside lists, dictionaries and other policies. They
            count whether they are trained or lagged copies of what is trained.

    Returns:
        The number; 0 for a script.
    """
    parameters = {id(each): each for network in _networks_of(policy) for each in network.parameters()}
    return sum(each.numel() for each in parameters.values())


def _networks_of(thing: Any) -> Iterator[nn.Module]:
    """Networks that an object holds."""
    if isinstance(thing, nn.Module):
        yield thing
    else:
        for part in _parts_of(thing):
            if isinstance(part, nn.Module | Mapping | list | tuple) or is_dataclass(part):
                yield from _networks_of(part)


def _parts_of(thing: Any) -> list[Any]:
    """What an object consists of."""
    if isinstance(thing, Mapping):
        return list(thing.values())
    if isinstance(thing, list | tuple):
        return list(thing)
    if is_dataclass(thing):
        return [getattr(thing, field.name) for field in fields(thing)]
    return list(vars(thing).values())


def _computed(metric: Metric, values: NDArray[Any]) -> float:
    """A metric of some values, in double precision."""
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(np.asarray(values, dtype=np.float64)))
    return float(metric.compute())
