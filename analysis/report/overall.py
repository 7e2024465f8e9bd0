"""All tasks together: statistics of scores, who is better than whom, and performance profiles."""

import numpy as np
import pandas as pd

from analysis.comparable import Comparable, comparable
from analysis.profiles import performance_profiles
from analysis.report import figures
from analysis.report.blocks import (
    Cell,
    Drawing,
    Gallery,
    Head,
    Section,
    Shown,
    Table,
    Words,
    between,
    count,
    listed,
    number,
    several,
    table_of,
)
from analysis.report.material import Material
from analysis.statistics import STATISTICS, aggregates, improvement_probability

Part = Words | Table | Gallery | Section


def overall(material: Material) -> Section:
    """The section of all tasks together."""
    return Section("overall", "All tasks together", [*_scores(material), *_chances(material)])


def chances(chosen: Comparable, repetitions: int) -> pd.DataFrame:
    """How likely each model is better than each other one.

    Args:
        chosen: Runs with returns.
        repetitions: Draws of the bootstrap.

    Returns:
        One row for each ordered pair: model, other, probability, low, high.
    """
    rows = []
    for place, model in enumerate(chosen.models):
        for other in chosen.models[place + 1 :]:
            found = improvement_probability(chosen.rows, model, other, "return", repetitions)
            rows.append((model, other, *found))
            rows.append((other, model, 1 - found.estimate, 1 - found.high, 1 - found.low))
    return pd.DataFrame(rows, columns=["model", "other", "probability", "low", "high"])


def which(chosen: Comparable, of_what: str) -> str:
    """Which runs are compared, and which are not, in words.

    Args:
        chosen: The runs.
        of_what: What is compared.
    """
    words = (
        f"{of_what} of {several(len(chosen.models), 'model')} on {several(len(chosen.tasks), 'task')} "
        f"({listed(chosen.tasks)}), {several(chosen.seeds, 'seed')} each: the largest set in which every model has the "
        "same tasks and as many seeds."
    )
    if chosen.without:
        words += f" Left out: {listed(chosen.without)}."
    if chosen.unused:
        words += f" Tasks that are left out: {listed(chosen.unused)}."
    return words


def _scores(material: Material) -> list[Part]:
    chosen = comparable(material.rows, "score")
    if len(chosen.models) < 2:
        return [Words(("No two models have scores on the same task: there is no mean over tasks.",))]
    table = aggregates(chosen.rows, repetitions=material.repetitions)
    if chosen.seeds < 2:
        table[["low", "high"]] = np.nan  # drawing one seed anew gives the same seed
    estimates = table.pivot(index="model", columns="statistic", values="estimate")
    order = [str(name) for name in estimates["IQM"].sort_values(ascending=False, kind="stable").index]
    drawings = []
    for statistic in STATISTICS:
        some = table[table["statistic"] == statistic].set_index("model")
        lower = " (lower is better)" if statistic == "optimality gap" else ""
        figure, _ = figures.intervals(order, some, material.looks, f"{statistic} of scores{lower}")
        alt = f"{statistic} of normalised scores by model; the highest IQM is that of {order[0]}."
        drawings.append(Drawing(f"aggregate-{statistic.replace(' ', '-')}", alt, figure))
    lines = (
        "Lines are 95 % intervals of a bootstrap within each task." if chosen.seeds > 1 else "One seed: no intervals."
    )
    caption = f"Models in the order of their IQM. {lines}"
    return [
        Words((which(chosen, "Normalised scores (0 is random, 100 the expert)"),)),
        _aggregate_table(table, order),
        Gallery(caption, drawings),
        _profiles(material, chosen, order),
    ]


def _aggregate_table(table: pd.DataFrame, order: list[str]) -> Table:
    keyed = table.set_index(["model", "statistic"])

    def entry(statistic: str) -> Shown:
        def shown(row: pd.Series) -> Cell:
            found = keyed.loc[(row["model"], statistic)]
            interval = f" {between(found['low'], found['high'], 3)}" if pd.notna(found["low"]) else ""
            return Cell(f"{number(found['estimate'], 3)}{interval}")

        return shown

    columns: list[tuple[Head, Shown]] = [(Head("model", number=False), lambda row: Cell(row["model"]))]
    columns += [(Head(name), entry(name)) for name in STATISTICS]
    caption = (
        "Statistics of normalised scores over all runs and tasks, with 95 % intervals where there are several seeds. "
        "IQM: mean of the middle half of the runs. Optimality gap: how far runs stay below 100, lower is better."
    )
    made = table_of("aggregates", caption, pd.DataFrame({"model": order}), columns)
    return Table(made.name, caption, made.heads, made.rows, table)


def _profiles(material: Material, chosen: Comparable, order: list[str]) -> Gallery:
    low, high = chosen.rows["score"].min(), chosen.rows["score"].max()
    room = 0.02 * (high - low or 1)
    levels = np.linspace(low - room, high + room, 101)
    table = performance_profiles(chosen.rows, list(levels), repetitions=material.repetitions)
    drawn = figures.profiles(order, table, material.looks, single=chosen.seeds < 2)
    drawings = [
        Drawing(f"profiles-{i}", f"Performance profiles, models of group {i} of {len(drawn)}.", figure)
        for i, figure in enumerate(drawn, start=1)
    ]
    caption = (
        "Performance profiles: the share of runs, over all these tasks, whose score is above a threshold; higher is "
        "better. The best models come first; grey are those of the other panels."
    )
    return Gallery(caption, drawings)


def _chances(material: Material) -> list[Part]:
    chosen = comparable(material.rows, "return")
    if len(chosen.models) < 2:
        return [Words(("No two models have results on the same task: nothing can be compared.",))]
    names = [name for name in material.models if name in chosen.models]
    table = chances(chosen, material.repetitions)
    if chosen.seeds < 2:
        table[["low", "high"]] = np.nan
    square = table.pivot(index="model", columns="other", values="probability").reindex(index=names, columns=names)
    means = square.mean(axis=1).sort_values(ascending=False, kind="stable")
    names = [str(name) for name in means.index]
    figure = figures.heat_map(names, square)
    alt = f"Probability of improvement between {len(names)} models; best on average is {names[0]}."
    caption = (
        "Probability of improvement: how often, in percent, a run of the model of the row has a higher return than a "
        "run of the model of the column on the same task (a tie counts half), as a mean over tasks."
    )
    columns: list[tuple[Head, Shown]] = [
        (Head("model", number=False), lambda row: Cell(row["model"])),
        (Head("other", number=False), lambda row: Cell(row["other"])),
        (Head("probability"), lambda row: Cell(number(row["probability"], 3))),
        (Head("95 % interval"), lambda row: Cell(between(row["low"], row["high"], 3))),
        (Head("tasks"), lambda row: Cell(count(len(chosen.tasks)))),
    ]
    numbers = table_of(
        "improvement", "Probability that a run of the model is better than a run of the other.", table, columns
    )
    return [
        Words((which(chosen, "Returns"),)),
        Gallery(caption, (Drawing("improvement", alt, figure),)),
        Section("improvement-numbers", "Probability of improvement in numbers", (numbers,), folded=True),
    ]
