"""Small frames of results."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.runs import tidy


def results(values: Mapping[tuple[str, str], Sequence[float]], column: str = "score", **same: Any) -> pd.DataFrame:
    """Results of models on tasks: {(task, model): values of seeds 0, 1, ...}."""
    rows = [
        {"task": task, "model": model, "seed": seed, column: value, "main": True, "checkpoint": "final", **same}
        for (task, model), seeds in values.items()
        for seed, value in enumerate(seeds)
    ]
    return tidy(pd.DataFrame(rows))
