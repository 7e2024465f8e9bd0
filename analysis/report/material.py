"""What all sections of a report are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.comparable import ranking
from analysis.report.blocks import plain_names
from analysis.report.by_task import compared
from analysis.report.sources import Sources
from analysis.report.style import Look, looks
from analysis.runs import main_rows


@dataclass(frozen=True)
class Material:
    """The results of a grid, chosen and compared.

    Args:
        sources: The files.
        checkpoint: Which weights count: ``final`` or ``best``.
        repetitions: Draws of each bootstrap.
        rows: One row for each run: the policy that stands for the model, where it has a return.
        empty: Cells whose results have no return.
        tasks: In the order of the results.
        models: By their mean place over tasks, the best first.
        found: The models of each task (:func:`analysis.report.by_task.compared`).
        looks: How each model is drawn.
        task_names: Plain names of the tasks, for files and anchors.
        model_names: Plain names of the models.
    """

    sources: Sources
    checkpoint: str
    repetitions: int
    rows: pd.DataFrame
    empty: list[str]
    tasks: list[str]
    models: list[str]
    found: Mapping[str, pd.DataFrame]
    looks: Mapping[str, Look]
    task_names: Mapping[str, str]
    model_names: Mapping[str, str]

    @property
    def seeds(self) -> int:
        """The most seeds that a model has on a task."""
        return int(max(found["seeds"].max() for found in self.found.values()))

    def anchor(self, task: str, model: str) -> str:
        """Where the page lists the runs of a model on a task."""
        return f"runs.{self.task_names[task]}.{self.model_names[model]}"


def material(sources: Sources, checkpoint: str, repetitions: int) -> Material:
    """Chooses and compares.

    Args:
        sources: The files.
        checkpoint: ``final`` or ``best``.
        repetitions: Draws of each bootstrap.

    Raises:
        ValueError: If there are no results of these weights, none has a return, or a run stands there twice.
    """
    chosen = main_rows(sources.results, checkpoint)
    rows = chosen[chosen["return"].notna()]
    without = chosen[chosen["return"].isna()]
    empty = [f"{row['task']}/{row['model']}/seed_{row['seed']}" for _, row in without.iterrows()]
    if rows.empty:
        raise ValueError(
            f"expected returns in '{sources.directory / 'results.csv'}', got none in any of {len(chosen)} runs"
        )
    tasks = [str(task) for task in rows["task"].unique()]
    models = ranking(rows)
    found = {task: compared(rows[rows["task"] == task], repetitions) for task in tasks}
    return Material(
        sources=sources,
        checkpoint=checkpoint,
        repetitions=repetitions,
        rows=rows,
        empty=empty,
        tasks=tasks,
        models=models,
        found=found,
        looks=looks(models),
        task_names=plain_names(tasks),
        model_names=plain_names(models),
    )
