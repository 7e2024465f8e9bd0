"""A table for each task: mean and spread over seeds, and which models cannot be told from the best one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from analysis.statistics import REPETITIONS, Array, bootstrap, mean, values_of

LOWER_IS_BETTER = ("return_std", "return_error", "ms_per_decision", "calls_per_decision", "parameters")


def task_table(
    frame: pd.DataFrame,
    value: str = "return",
    level: float = 0.05,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean over seeds of every model on every task, and how it compares with the best one there.

    ``best`` is the model with the best mean. ``as_good`` marks it, and all that a two-sided Welch t-test does not tell
    from it (p at least ``level``; one test for each model, not corrected for their number). Few seeds tell little: much
    is marked then. A task with one seed has no test, and only the best is marked.

    Args:
        frame: One row for each run.
        value: Column.
        level: Of the test, between 0 and 1.
        repetitions: Draws of the bootstrap.
        seed: Of the draws.

    Returns:
        One row for each task and model, the best first: task, model, seeds, mean, std (over seeds, with S - 1; nan for
        one seed), low, high (95 % bootstrap interval of the mean), p, best, as_good.

    Raises:
        ValueError: As :func:`analysis.statistics.values_of`; if the level is out of its range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}; .05 is usual")
    rows: list[dict[str, Any]] = []
    for task, some in frame.groupby("task", sort=False):
        values = {str(model): values_of(some, str(model), value)[:, 0] for model in some["model"].unique()}
        sign = -1 if value in LOWER_IS_BETTER else 1
        order = sorted(values, key=lambda model: sign * values[model].mean(), reverse=True)
        for model in order:
            own = values[model]
            p = difference_p(own, values[order[0]]) if model != order[0] else float("nan")
            interval = bootstrap(own[:, None], mean, repetitions, seed=seed)
            rows.append(
                {
                    "task": task,
                    "model": model,
                    "seeds": len(own),
                    "mean": interval.estimate,
                    "std": float(own.std(ddof=1)) if len(own) > 1 else float("nan"),
                    "low": interval.low,
                    "high": interval.high,
                    "p": p,
                    "best": model == order[0],
                    "as_good": model == order[0] or p >= level,
                }
            )
    return pd.DataFrame(rows)


def difference_p(x: Array, y: Array) -> float:
    """The p of a two-sided Welch t-test: how surprising the difference of two means would be if there was none.

    Args:
        x: Values of one model, (S,).
        y: Values of another one, (Z,).

    Returns:
        p; nan if one of them has a single value. Values without any spread differ surely (0) or not at all (1).
    """
    if min(len(x), len(y)) < 2:
        return float("nan")
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return float(x[0] == y[0])
    return float(ttest_ind(x, y, equal_var=False).pvalue)


def text_table(table: pd.DataFrame, digits: int = 2, models: Sequence[str] | None = None) -> str:
    """A task table as Markdown: models in rows, tasks in columns.

    Args:
        table: What ``task_table`` gives.
        digits: Behind the point.
        models: Order of the rows; by default that of the table.

    Returns:
        Lines; each entry is mean ± standard deviation over seeds, in bold for the best, with a * for what cannot be
        told from it, empty where a model was not run.
    """
    tasks = list(table["task"].unique())
    names = list(table["model"].unique()) if models is None else list(models)
    entries = {(row["task"], row["model"]): _entry(row, digits) for _, row in table.iterrows()}
    lines = ["| | " + " | ".join(tasks) + " |", "|---|" + "---|" * len(tasks)]
    lines += [f"| {name} | " + " | ".join(entries.get((task, name), "") for task in tasks) + " |" for name in names]
    return "\n".join(lines)


def _entry(row: Any, digits: int) -> str:
    spread = f" ± {row['std']:.{digits}f}" if row["seeds"] > 1 else ""
    text = f"{row['mean']:.{digits}f}{spread}"
    return f"**{text}**" if row["best"] else f"{text} *" if row["as_good"] else text
