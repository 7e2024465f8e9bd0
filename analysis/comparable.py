"""Which runs can be compared over several tasks: every model on the same tasks, with equally many seeds."""

from itertools import combinations
from typing import NamedTuple

import pandas as pd


class Comparable(NamedTuple):
    """Runs for a comparison.

    Args:
        rows: One for each run.
        models, tasks: What is compared, on what.
        seeds: How many, of every model on every task.
        without: Models that are left out.
        unused: Tasks that are left out.
    """

    rows: pd.DataFrame
    models: list[str]
    tasks: list[str]
    seeds: int
    without: list[str]
    unused: list[str]


def comparable(frame: pd.DataFrame, value: str) -> Comparable:
    """The largest set of runs in which every model has the same tasks and as many seeds.

    A grid that is not finished, or in which a model cannot learn some tasks, has gaps. Of all choices of tasks and of a
    number of seeds, the one that keeps most runs is taken; of equal ones that with more tasks. Of models with more
    seeds, the first ones count.

    Args:
        frame: One row for each run.
        value: Column; runs without it are left out.
    """
    known = frame[frame[value].notna()]
    everything = list(dict.fromkeys(frame["model"])), list(dict.fromkeys(frame["task"]))
    counts = known.groupby(["model", "task"])["seed"].nunique()
    best: tuple[tuple[int, int], list[str], list[str], int] = ((0, 0), [], [], 0)
    for seeds in sorted(set(counts)):
        enough = counts[counts >= seeds].reset_index()
        tasks_of = {str(model): frozenset(some) for model, some in enough.groupby("model")["task"]}
        for tasks in _choices(list(tasks_of.values())):
            models = [model for model in everything[0] if tasks_of.get(model, frozenset()) >= tasks]
            size = (len(models) * len(tasks) * int(seeds), len(tasks))
            if size > best[0]:
                best = size, models, [task for task in everything[1] if task in tasks], int(seeds)
    _, models, kept, seeds = best
    rows = known[known["model"].isin(models) & known["task"].isin(kept)].sort_values("seed", kind="stable")
    rows = rows.groupby(["task", "model"], sort=False).head(seeds)
    without = [model for model in everything[0] if model not in models]
    return Comparable(rows, models, kept, seeds, without, [task for task in everything[1] if task not in kept])


def ranking(frame: pd.DataFrame, value: str = "return") -> list[str]:
    """Models by their mean place over tasks, from 0 (best) to 1; the best first, those that lack a task last.

    Args:
        frame: One row for each run.
        value: Column.
    """
    means = frame.groupby(["task", "model"])[value].mean().unstack("task")
    places = (means.rank(ascending=False) - 1) / (means.notna().sum() - 1).clip(lower=1)
    order = pd.DataFrame({"lacking": means.isna().sum(axis=1), "place": places.mean(axis=1)})
    return [str(model) for model in order.sort_values(["lacking", "place"], kind="stable").index]


def _choices(tasks: list[frozenset[str]]) -> set[frozenset[str]]:
    """Sets of tasks that several models may have in common: of each model, of each two, and of all."""
    pairs = {one & other for one, other in combinations(set(tasks), 2)}
    return {choice for choice in {*tasks, *pairs, frozenset.intersection(*tasks)} if choice}
