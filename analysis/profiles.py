"""Curves with intervals: how many runs pass a threshold, and how good models are after how many updates."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.statistics import (
    REPETITIONS,
    Statistic,
    all_values,
    bootstrap,
    check_one_origin,
    mean,
    positive,
    resampled,
    tails,
)


def performance_profiles(
    frame: pd.DataFrame,
    thresholds: Sequence[float],
    value: str = "score",
    repetitions: int = REPETITIONS,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The share of runs above each threshold, with pointwise intervals.

    Args:
        frame: One row for each run; every model on the same tasks.
        thresholds: In the unit of the value.
        value: Column.
        repetitions: Draws of the bootstrap.
        confidence: Of the intervals.
        seed: Of the draws.

    Returns:
        One row for each model and threshold: model, threshold, share, low, high.
    """
    levels = np.asarray(thresholds, np.float64)
    parts = []
    for model, values in all_values(frame, value).items():
        draws = resampled(values, positive(repetitions), np.random.default_rng(seed))
        shares = np.stack([(draws > level).mean(axis=(-2, -1)) for level in levels], axis=-1)
        low, high = np.quantile(shares, tails(confidence), axis=0)
        share = [(values > level).mean() for level in levels]
        parts.append(pd.DataFrame({"model": model, "threshold": levels, "share": share, "low": low, "high": high}))
    return pd.concat(parts, ignore_index=True)


def efficiency_curves(
    curves: pd.DataFrame,
    statistic: Statistic = mean,
    repetitions: int = REPETITIONS,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """How good the models of each task were after how many updates.

    Args:
        curves: One row for each run and update, of one metric (:func:`analysis.runs.read_curves`).
        statistic: Over the seeds of a task, as of K = 1 tasks.
        repetitions: Draws of the bootstrap.
        confidence: Of the intervals.
        seed: Of the draws.

    Returns:
        One row for each task, model and update that all of its seeds have: task, model, update, estimate, low, high,
        seeds.

    Raises:
        ValueError: If there are several metrics or origins.
    """
    check_one_origin(curves)
    if curves["metric"].nunique() > 1:
        raise ValueError(f"expected curves of one metric, got {', '.join(sorted(curves['metric'].unique()))}")
    rows = []
    for (task, model), some in curves.groupby(["task", "model"], sort=False):
        table = some.pivot_table(index="update", columns="seed", values="value", aggfunc="last").dropna()
        for update, values in table.iterrows():
            interval = bootstrap(values.to_numpy(np.float64)[:, None], statistic, repetitions, confidence, seed)
            same = {"task": task, "model": model, "update": update, "seeds": table.shape[1]}
            rows.append({**same, **interval._asdict()})
    return pd.DataFrame(rows, columns=["task", "model", "update", "estimate", "low", "high", "seeds"])
