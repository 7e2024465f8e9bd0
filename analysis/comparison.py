"""Which part of results may be averaged: grids that are half done, and models that do not fit every task."""

import pandas as pd


def balanced(frame: pd.DataFrame, value: str = "score") -> tuple[pd.DataFrame, list[str]]:
    """The largest part of results in which every model has the same seeds on the same tasks.

    A statistic over tasks needs that. Tasks and seeds are given up from those with the fewest runs on, and so are
    models that do not have all that is left.

    Args:
        frame: One row for each run (:func:`analysis.runs.main_rows`).
        value: Column; runs without it count as missing.

    Returns:
        The rows, and a sentence for everything that was left out.

    Raises:
        ValueError: If no run has the value.
    """
    known = frame[frame[value].notna()]
    if known.empty:
        raise ValueError(
            f"expected '{value}' of at least one run, got none; scores need reference returns "
            "(environments/scores.py): look at returns by task"
        )
    tasks, seeds = (list(known[column].value_counts().index) for column in ("task", "seed"))
    parts = [
        _of_all(known, tasks[:n_tasks], seeds[:n_seeds])
        for n_tasks in range(len(tasks), 0, -1)
        for n_seeds in range(len(seeds), 0, -1)
    ]
    # A model alone is no comparison; of equals, more models tell more, and the first has the most tasks.
    kept = max(parts, key=lambda part: (part["model"].nunique() > 1, len(part), part["model"].nunique()))
    return kept, [
        f"{what} left out: {', '.join(map(str, names))}"
        for what, column in (("tasks", "task"), ("seeds", "seed"), ("models", "model"))
        if (names := [name for name in frame[column].unique() if name not in set(kept[column])])
    ]


def _of_all(frame: pd.DataFrame, tasks: list[str], seeds: list[int]) -> pd.DataFrame:
    """The runs of those models that have all of these tasks and seeds."""
    some = frame[frame["task"].isin(tasks) & frame["seed"].isin(seeds)]
    pairs = some.drop_duplicates(["model", "task", "seed"]).groupby("model").size()
    return some[some["model"].isin(pairs[pairs == len(tasks) * len(seeds)].index)]
