"""A section for each task: table, returns, curves, costs and other ways to play."""

import pandas as pd

from analysis.profiles import efficiency_curves
from analysis.report import figures
from analysis.report.blocks import Drawing, Gallery, Section, Table, Words, count, listed
from analysis.report.by_task import STAGES, main_table, of_the_data, policies, policies_table
from analysis.report.equal_time_section import at_equal_time
from analysis.report.material import Material

LEGEND = (
    "Columns of the tables. Return: mean over seeds of the mean over episodes, with its 95 % interval; std: its "
    "standard deviation over seeds; s.e.: standard error over the episodes of one run; IQM: mean of the middle half of "
    "the episodes. Score: 0 is random, 100 the expert. Steps: of an episode. Calls, ms: calls of a network and "
    "milliseconds for one decision. Critic/s, credit/s, policy/s: updates per second in each stage of training. "
    "Minutes: of the whole cell. The name of a model leads to its runs, with their directories and command lines."
)


def tasks(material: Material) -> Section:
    """All tasks."""
    return Section("tasks", "Tasks", [Words((LEGEND,)), *(_task(material, task) for task in material.tasks)])


def _task(material: Material, task: str) -> Section:
    name, found, results = material.task_names[task], material.found[task], material.sources.results
    data = of_the_data(results[(results["task"] == task) & (results["checkpoint"] == material.checkpoint)])
    anchors = {model: f"#{material.anchor(task, model)}" for model in found["model"]}
    parts: list[Words | Table | Gallery | Section] = [
        Words((_learned_from(material, task),)),
        main_table(found, data, f"task-{name}", anchors),
    ]
    parts += [
        gallery for gallery in (_figures(material, task, list(data["return"])), _curves(material, task)) if gallery
    ]
    weights = results[(results["task"] == task) & (results["checkpoint"] == material.checkpoint)]
    played = policies(weights, list(found["model"]))
    if len(played):
        table = policies_table(played, f"policies-{name}")
        parts.append(Section(f"policies-{name}", f"{task}: other ways to play the same weights", (table,), folded=True))
    timed = at_equal_time(material, task)
    return Section(f"task-{name}", task, [*parts, timed] if timed else parts)


def _learned_from(material: Material, task: str) -> str:
    rows = material.rows[material.rows["task"] == task]
    pairs = rows[["dataset", "quality"]].fillna("").drop_duplicates()
    names = [f"{row['dataset']} {row['quality']}".strip() for _, row in pairs.iterrows()]
    episodes, updates = rows["episodes"].dropna(), rows["updates"].dropna()
    played = f" Played for {count(episodes.min())} episodes a run." if episodes.nunique() == 1 else ""
    learned = f" {count(updates.min())} updates." if updates.nunique() == 1 else ""
    return f"Learned from {listed([each for each in names if each]) or 'data that is not named'}.{learned}{played}"


def _figures(material: Material, task: str, data: list[float]) -> Gallery:
    """Returns, and what they cost."""
    name, found = material.task_names[task], material.found[task]
    rows = material.rows[material.rows["task"] == task]
    drawn = figures.returns_of_task(found, rows, data, material.looks)
    best = found.iloc[0]["model"]
    drawings = [Drawing(f"returns-{name}", f"Returns of {len(found)} models on {task}; the best is {best}.", drawn)]
    speed = STAGES[-1]
    costs = (
        ("ms_per_decision", "milliseconds per decision (fewer is better)", True),
        (f"{speed}_updates_per_second", "updates per second while the policy is trained (more is better)", False),
    )
    fronts = []
    for column, label, fewer in costs:
        figure = figures.cost(found, column, label, fewer, material.looks)
        if figure is not None:
            stem = "decisions" if fewer else "speed"
            drawings.append(Drawing(f"{stem}-{name}", f"Return on {task} against {label}, by model.", figure))
            fronts.append(f"By {label.partition(' (')[0]}: {listed(figures.front(found, column, fewer))}")
    caption = "First: mean return"
    caption += ", 95 % interval and each seed" if rows.groupby("model")["seed"].nunique().max() > 1 else ""
    caption += "; dotted: the recorded episodes. " if data else ". "
    if fronts:
        caption += (
            "Then the return against what it costs; numbers are places in the table. The grey line joins the models of "
            f"which no other one is both better and cheaper. {'. '.join(fronts)}. Times are only as comparable as the "
            "load of the machine was equal; the settings below say how many jobs ran at once."
        )
    return Gallery(caption, drawings, first_is_tall=True)


def _curves(material: Material, task: str) -> Gallery | None:
    """Returns while training, and at its end."""
    own = material.sources.curves
    own = own[(own["task"] == task) & own["run"].isin(material.rows["run"])]
    if own.empty:
        return None
    final = material.checkpoint == "final"
    table = efficiency_curves(with_end(own, material.rows) if final else own, repetitions=material.repetitions)
    if table.empty:
        return None
    name, order = material.task_names[task], list(material.found[task]["model"])
    drawn = figures.curves(order, table, material.looks)
    drawings = [
        Drawing(f"curves-{name}-{i}", f"Return over updates on {task}, models of group {i} of {len(drawn)}.", figure)
        for i, figure in enumerate(drawn, start=1)
    ]
    band = ", bands are its 95 % interval" if table["seeds"].max() > 1 else ""
    end = " The last point is the evaluation at the end, with the return of the table." if final else ""
    caption = (
        f"Return while training, mean over seeds{band}. The best models come first; grey are those of the other "
        f"panels.{end} All updates count, those of critics, too."
    )
    return Gallery(caption, drawings)


def with_end(curves: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Curves that end with the evaluation at the end of training, which plays more episodes than those on the way.

    Args:
        curves: Of some runs, of one metric.
        rows: One row for each run, with final weights.
    """
    ends = rows[rows["run"].isin(curves["run"]) & rows["updates"].notna()]
    same = {"update": ends["updates"].astype(int), "value": ends["return"], "metric": curves["metric"].iloc[0]}
    ends = ends[["task", "model", "seed", "run", "origin"]].assign(**same)
    both = pd.concat([curves[list(ends.columns)].astype({"update": int}), ends], ignore_index=True)
    return both.drop_duplicates(["run", "update"], keep="last")
