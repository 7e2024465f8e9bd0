"""What models reach in the same training time, from runs of the same number of updates."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics import check_one_origin


def returns_at_equal_time(
    runs: pd.DataFrame, curves: pd.DataFrame, reference: str = "vgm2p", metric: str = "eval/return_mean"
) -> pd.DataFrame:
    """Every run at the time that the reference takes for all of its updates.

    A model's time for an update is the median over its seeds on a task, because machines are noisy. A run that needs
    more time than the reference is read from its curve, between the two evaluations around that moment; one that needs
    less counts as it ended, although it could have gone on: ``share`` tells. Curves have fewer episodes than the final
    evaluation, so that the former are noisier.

    Args:
        runs: One row for each run, with train_seconds and updates (:func:`analysis.runs.main_rows`).
        curves: What :func:`analysis.runs.read_curves` gives for them.
        reference: The model whose time counts.
        metric: Of the curves; in the unit of ``return``.

    Returns:
        One row for each run on tasks that the reference was run on: task, model, seed, seconds (the reference's), share
        (the time it would take for all of its own updates, in units of that), update (at which it is read), return.

    Raises:
        ValueError: If there is no run of the reference, or times or a curve are missing.
    """
    check_one_origin(runs)
    unknown = runs[runs["train_seconds"].isna() | runs["updates"].isna()]
    if len(unknown):
        raise ValueError(
            f"expected train_seconds and updates of every run, got none of {', '.join(sorted(set(unknown['model'])))}; "
            "lightning benchmark --config GRID --gather writes them"
        )
    seconds = runs.groupby(["task", "model"])["train_seconds"].median()
    tasks = [task for task in runs["task"].unique() if (task, reference) in seconds.index]
    if not tasks:
        raise ValueError(f"expected runs of {reference}, got those of {', '.join(sorted(set(runs['model'])))}")
    measured = curves[curves["metric"] == metric].groupby("run")
    rows: list[dict[str, Any]] = []
    for run in runs[runs["task"].isin(tasks)].to_dict("records"):
        limit = float(seconds[run["task"], reference])
        share = float(seconds[run["task"], run["model"]]) / limit
        update, value = float(run["updates"]), run["return"]
        if share > 1:
            if run["run"] not in measured.groups:
                raise ValueError(f"expected '{metric}' over updates of {run['run']}, got no curve of it")
            curve = measured.get_group(run["run"]).sort_values("update")
            update /= share
            # The last point of the curve and the final evaluation are the same weights.
            points = curve[curve["update"] < run["updates"]]
            at = [*points["update"], run["updates"]]
            value = np.interp(update, at, [*points["value"], run["return"]])
        named = {key: run[key] for key in ("task", "model", "seed")}
        rows.append({**named, "seconds": limit, "share": share, "update": update, "return": float(value)})
    return pd.DataFrame(rows)
