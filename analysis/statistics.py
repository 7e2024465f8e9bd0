"""Statistics of several tasks and seeds, with intervals (Agarwal et al., arXiv:2108.13264).

All functions take frames with one row for each run and the columns ``task``, ``model``, ``seed`` and the value that is
asked for (:func:`analysis.runs.main_rows` gives them). They refuse what would make a number meaningless: rows of
several origins, several rows of one run, values that are missing, and unequal numbers of seeds.

Intervals are percentiles of a stratified bootstrap: seeds are drawn anew, with replacement, within each task. With few
seeds they are too narrow (three seeds have ten different draws); say how many there are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import trim_mean

Array = NDArray[np.float64]
#: From values (..., S, K) of S seeds on K tasks to statistics (...).
Statistic = Callable[[Array], Array]
REPETITIONS = 2000


class Interval(NamedTuple):
    """An estimate and its bootstrap interval."""

    estimate: float
    low: float
    high: float


def iqm(values: Array) -> Array:
    """Interquartile mean: the mean of the middle half of all runs, (..., S, K) -> (...).

    A quarter of the runs is cut at each end, rounded down.
    """
    pooled = values.reshape(*values.shape[:-2], -1)
    return np.asarray(trim_mean(pooled, proportiontocut=0.25, axis=-1), np.float64)


def mean(values: Array) -> Array:
    """Mean over runs and tasks, (..., S, K) -> (...)."""
    return np.asarray(values.mean(axis=(-2, -1)), np.float64)


def median(values: Array) -> Array:
    """Median over tasks of the mean over seeds, (..., S, K) -> (...)."""
    return np.asarray(np.median(values.mean(axis=-2), axis=-1), np.float64)


def optimality_gap(values: Array, goal: float = 100.0) -> Array:
    """How far runs stay below a goal: the mean of max(goal - value, 0), (..., S, K) -> (...). Lower is better.

    Args:
        values: In the unit of the goal.
        goal: What is good enough; 100 is the expert's normalised score.
    """
    return np.asarray(np.maximum(goal - values, 0.0).mean(axis=(-2, -1)), np.float64)


STATISTICS: Mapping[str, Statistic] = {"IQM": iqm, "mean": mean, "median": median, "optimality gap": optimality_gap}


def values_of(frame: pd.DataFrame, model: str, value: str = "score", tasks: Sequence[str] | None = None) -> Array:
    """The values of a model, (S, K): seeds in order, tasks as they are asked for.

    Args:
        frame: One row for each run.
        model: Its name.
        value: Column.
        tasks: Which tasks; by default the model's, sorted.

    Raises:
        ValueError: If rows are of several origins, a run has several rows or no value, or tasks differ in their
            numbers of seeds.
    """
    check_one_origin(frame)
    rows = frame[frame["model"] == model]
    tasks = sorted(rows["task"].unique()) if tasks is None else list(tasks)
    rows = rows[rows["task"].isin(tasks)]
    twice = rows[rows.duplicated(["task", "seed"])]
    if len(twice):
        first = twice.iloc[0]
        raise ValueError(
            f"expected one row for each run, got several of {model} on {first['task']} with seed {first['seed']}; "
            "choose a policy and a checkpoint first (analysis.runs.main_rows)"
        )
    empty = rows[rows[value].isna()]
    if len(empty):
        raise ValueError(
            f"expected '{value}' of every run, got none for {model} on {', '.join(sorted(empty['task'].unique()))}; "
            "scores need reference returns (environments/scores.py): leave these tasks out, or look at returns by task"
        )
    counts = {task: int((rows["task"] == task).sum()) for task in tasks}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        words = ", ".join(f"{task}: {count}" for task, count in counts.items()) or "no task"
        raise ValueError(f"expected as many seeds of {model} on every task, got {words}")
    ordered = rows.sort_values("seed", kind="stable")
    return np.stack([ordered.loc[ordered["task"] == task, value].to_numpy(np.float64) for task in tasks], axis=1)


def check_one_origin(frame: pd.DataFrame) -> None:
    """Refuses a frame in which numbers of several origins would end in one mean.

    Args:
        frame: With the column ``origin``; without it all rows are ours.

    Raises:
        ValueError: If there are several.
    """
    origins = sorted(frame["origin"].unique()) if "origin" in frame.columns else []
    if len(origins) > 1:
        raise ValueError(
            f"expected numbers of one origin, got those of {', '.join(origins)}; published numbers were measured in "
            "another way and stand beside ours, never in the same mean (analysis.published.beside)"
        )


def resampled(values: Array, repetitions: int, generator: np.random.Generator) -> Array:
    """Seeds drawn anew with replacement, for each task by itself: (S, K) -> (repetitions, S, K)."""
    draws = generator.integers(len(values), size=(repetitions, *values.shape))
    return np.take_along_axis(values[None], draws, axis=1)


def bootstrap(
    values: Array, statistic: Statistic, repetitions: int = REPETITIONS, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """A statistic with its stratified bootstrap interval.

    Args:
        values: (S, K), S seeds on K tasks.
        statistic: What is estimated.
        repetitions: Draws, at least 1.
        confidence: Of the interval, between 0 and 1.
        seed: Of the draws.

    Raises:
        ValueError: If a number is out of its range.
    """
    draws = statistic(resampled(values, positive(repetitions), np.random.default_rng(seed)))
    low, high = np.quantile(draws, tails(confidence))
    return Interval(float(statistic(values)), float(low), float(high))


def aggregates(
    frame: pd.DataFrame,
    value: str = "score",
    statistics: Mapping[str, Statistic] = STATISTICS,
    repetitions: int = REPETITIONS,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Statistics of every model over all tasks.

    Args:
        frame: One row for each run; every model on the same tasks.
        value: Column; something that may be averaged over tasks, such as normalised scores.
        statistics: By name.
        repetitions: Draws of the bootstrap.
        confidence: Of the intervals.
        seed: Of the draws.

    Returns:
        One row for each model and statistic: model, statistic, estimate, low, high, tasks, seeds.

    Raises:
        ValueError: As ``values_of``; if models were run on different tasks.
    """
    rows = []
    for model, values in all_values(frame, value).items():
        for name, statistic in statistics.items():
            interval = bootstrap(values, statistic, repetitions, confidence, seed)
            size = {"tasks": values.shape[1], "seeds": values.shape[0]}
            rows.append({"model": model, "statistic": name, **interval._asdict(), **size})
    return pd.DataFrame(rows)


def improvement_probability(
    frame: pd.DataFrame,
    model: str,
    other: str,
    value: str = "score",
    repetitions: int = REPETITIONS,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """How likely a run of a model is better than a run of another one: mean over tasks of P(X > Y) + P(X = Y) / 2.

    Args:
        frame: One row for each run.
        model: X.
        other: Y.
        value: Column; only its order within a task counts, so that returns serve as well as scores.
        repetitions: Draws of the bootstrap.
        confidence: Of the interval.
        seed: Of the draws.

    Raises:
        ValueError: As ``values_of``; if the two were run on different tasks.
    """
    both = all_values(frame[frame["model"].isin((model, other))], value)
    missing = [name for name in (model, other) if name not in both]
    if missing:
        raise ValueError(f"expected runs of {model} and {other}, got none of {missing[0]}")
    generator = np.random.default_rng(seed)
    x, y = (resampled(both[name], positive(repetitions), generator) for name in (model, other))
    low, high = np.quantile(_superiority(x, y), tails(confidence))
    return Interval(float(_superiority(both[model], both[other])), float(low), float(high))


def all_values(frame: pd.DataFrame, value: str) -> dict[str, Array]:
    """The values of every model, (S, K) each, on the same tasks.

    Args:
        frame: One row for each run.
        value: Column.

    Raises:
        ValueError: As ``values_of``; if models were run on different tasks.
    """
    check_one_origin(frame)
    tasks = {model: frozenset(some["task"]) for model, some in frame.groupby("model", sort=False)}
    everywhere = sorted(frozenset().union(*tasks.values()))
    for model, own in tasks.items():
        if missing := [task for task in everywhere if task not in own]:
            raise ValueError(
                f"expected every model on the same tasks, got none of {model} on {', '.join(missing)}; leave out the "
                "model or the tasks, a mean over different tasks compares nothing"
            )
    return {str(model): values_of(frame, str(model), value, everywhere) for model in tasks}


def _superiority(x: Array, y: Array) -> Array:
    """(..., S, K) and (..., Z, K) -> (...)."""
    greater = x[..., :, None, :] > y[..., None, :, :]
    equal = x[..., :, None, :] == y[..., None, :, :]
    return np.asarray((greater + 0.5 * equal).mean(axis=(-3, -2, -1)), np.float64)


def tails(confidence: float) -> tuple[float, float]:
    """The two quantiles of an interval; raises if it is none."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}; .95 is usual")
    return (1 - confidence) / 2, (1 + confidence) / 2


def positive(repetitions: int) -> int:
    """A number of draws; raises if it is none."""
    if repetitions < 1:
        raise ValueError(f"repetitions: expected at least 1, got {repetitions}; {REPETITIONS} is usual")
    return repetitions
