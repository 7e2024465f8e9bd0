"""The figures of a report. Each returns matplotlib figures; drawing is within ``style.styled``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, ScalarFormatter

from analysis.report.style import GREY, WIDTH, Look, groups, panel

Looks = Mapping[str, Look]


def intervals(names: Sequence[str], table: pd.DataFrame, looks: Looks, label: str) -> tuple[Figure, Axes]:
    """A point with an interval for each model, the first on top.

    Args:
        names: Models, from top to bottom.
        table: Indexed by model: estimate, low, high; no line where the interval is empty.
        looks: Of the models.
        label: Of the axis.
    """
    figure, axes = panel(height=0.9 + 0.2 * len(names))
    for place, name in enumerate(names):
        estimate, low, high = (float(table.loc[name, column]) for column in ("estimate", "low", "high"))
        if np.isfinite(low) and np.isfinite(high):
            axes.plot([low, high], [place, place], color=looks[name].colour, linewidth=2.2, alpha=0.55)
        axes.plot([estimate], [place], looks[name].marker, color=looks[name].colour, markersize=5.5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="both", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    return figure, axes


def returns_of_task(found: pd.DataFrame, rows: pd.DataFrame, data: Sequence[float], looks: Looks) -> Figure:
    """Returns of the models of a task: mean, interval, each run, and the data.

    Args:
        found: As ``by_task.compared`` gives it.
        rows: One row for each run.
        data: Returns of the recordings.
        looks: Of the models.
    """
    names = [str(name) for name in found["model"]]
    table = found.set_index("model").rename(columns={"return": "estimate"})
    figure, axes = intervals(names, table, looks, "return")
    for place, name in enumerate(names):
        values = rows.loc[rows["model"] == name, "return"]
        if len(values) > 1:
            axes.plot(values, [place] * len(values), "|", color="#202020", markersize=6, markeredgewidth=0.8)
    for value in data:
        axes.axvline(value, color="#202020", linestyle=":", linewidth=1.2)
    return figure


def heat_map(names: Sequence[str], chance: pd.DataFrame) -> Figure:
    """How likely the model of a row is better than that of a column.

    Args:
        names: Models, the best first.
        chance: From 0 to 1; indexed by the model of the row, with the other models as columns.
    """
    size = max(3.2, 1.5 + 0.33 * len(names))
    figure, axes = panel(width=size + 0.4, height=size)
    values = chance.loc[list(names), list(names)].to_numpy(np.float64)
    axes.pcolormesh(values, cmap="RdBu", vmin=-0.1, vmax=1.1, edgecolors="white", linewidth=0.8)
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0), aspect="equal")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if np.isfinite(value):
                dark = abs(value - 0.5) > 0.3
                colour = "white" if dark else "#202020"
                axes.text(
                    column + 0.5, row + 0.5, f"{100 * value:.0f}", ha="center", va="center", fontsize=7.5, color=colour
                )
    middles = np.arange(len(names)) + 0.5
    axes.set_xticks(middles, names, rotation=90)
    axes.set_yticks(middles, names)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    return figure


def profiles(names: Sequence[str], table: pd.DataFrame, looks: Looks, single: bool) -> list[Figure]:
    """The share of runs above each score, a few models in each panel before the others in grey.

    Args:
        names: Models, the best first.
        table: As :func:`analysis.profiles.performance_profiles` gives it.
        looks: Of the models.
        single: Whether there is one seed only, and bands would say nothing.
    """
    lines = {str(model): some for model, some in table.groupby("model", sort=False)}
    figures = []
    for group in groups(names):
        figure, axes = panel()
        for name in [name for name in names if name not in group]:
            axes.plot(lines[name]["threshold"], lines[name]["share"], color=GREY, linewidth=0.7, zorder=1)
        for name in group:
            line, look = lines[name], looks[name]
            axes.plot(line["threshold"], line["share"], color=look.colour, linestyle=look.line, label=name)
            if not single:
                axes.fill_between(line["threshold"], line["low"], line["high"], color=look.colour, alpha=0.1, lw=0)
        axes.set(xlabel="score", ylabel="share of runs above it", ylim=(-0.02, 1.02))
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, handlelength=2.6)
        figures.append(figure)
    return figures


def curves(names: Sequence[str], table: pd.DataFrame, looks: Looks) -> list[Figure]:
    """Returns over updates on one task, a few models in each panel before the others in grey.

    Args:
        names: Models, the best first.
        table: As :func:`analysis.profiles.efficiency_curves` gives it, of one task.
        looks: Of the models.
    """
    lines = {str(model): some.sort_values("update") for model, some in table.groupby("model", sort=False)}
    names = [name for name in names if name in lines]
    low, high = table["low"].min(), table["high"].max()
    room = 0.05 * (high - low or 1)
    figures = []
    for group in groups(names):
        figure, axes = panel()
        for name in [name for name in names if name not in group]:
            axes.plot(lines[name]["update"], lines[name]["estimate"], color=GREY, linewidth=0.7, zorder=1)
        for name in group:
            line, look = lines[name], looks[name]
            same = {"color": look.colour, "linestyle": look.line, "marker": look.marker, "markersize": 4}
            axes.plot(line["update"], line["estimate"], label=name, **same)
            if line["seeds"].max() > 1:
                axes.fill_between(line["update"], line["low"], line["high"], color=look.colour, alpha=0.1, lw=0)
        axes.set(xlabel="updates", ylabel="return", ylim=(low - room, high + room))
        axes.set_xlim(0, table["update"].max() * 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, handlelength=2.6)
        figures.append(figure)
    return figures


def coefficients(table: pd.DataFrame, clone: float, looks: Looks) -> Figure:
    """Returns over the values of coefficients on one task, a line with intervals for each algorithm.

    Args:
        table: As :func:`analysis.claim_tables.coefficient_curves` gives it, of one task.
        clone: The return of cloning without values, a dotted line; nan if it is not known.
        looks: Of the families, in the order of the legend.
    """
    figure, axes = panel(height=3.8)
    axes.axhline(clone, color="#202020", linestyle=":", linewidth=1.2)
    for family, look in looks.items():
        line = table[table["family"] == family].sort_values("value")
        errors = (line["estimate"] - line["low"], line["high"] - line["estimate"])
        style = {"color": look.colour, "linestyle": look.line, "marker": look.marker, "markersize": 4.5}
        label = f"{family}, {line['option'].iloc[0].replace('_', ' ')}"
        axes.errorbar(line["value"], line["estimate"], yerr=errors, label=label, capsize=2, elinewidth=1, **style)
    axes.set_xscale("log")
    _plain_ticks(axes, table["value"])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # 1, not 1.00, beside 0.01
    axes.set(xlabel="coefficient", ylabel="return")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, handlelength=2.6)
    return figure


def front(found: pd.DataFrame, column: str, fewer: bool) -> list[str]:
    """The models of a task of which no other one has both a better return and a better cost; the best return first.

    Args:
        found: As ``by_task.compared`` gives it.
        column: Of the cost.
        fewer: Whether less of it is better.
    """
    names, reached = [], np.inf
    for _, row in _priced(found, column).iterrows():
        price = row[column] if fewer else -row[column]
        if price < reached:
            reached = price
            names.append(str(row["model"]))
    return names


def cost(found: pd.DataFrame, column: str, label: str, fewer: bool, looks: Looks) -> Figure | None:
    """Return against a cost of each model on one task; a line joins those of ``front``.

    Args:
        found: As ``by_task.compared`` gives it.
        column: Of the cost.
        label: Of the axis.
        fewer: Whether less of it is better.
        looks: Of the models.

    Returns:
        None if the cost is not known of any model.
    """
    known = _priced(found, column)
    if known.empty:
        return None
    figure, axes = panel(width=WIDTH)
    best = front(found, column, fewer)
    joined = known[known["model"].isin(best)]
    axes.plot(joined[column], joined["return"], color=GREY, linewidth=4, alpha=0.6, zorder=1, solid_capstyle="round")
    for _, row in known.iterrows():
        look = looks[row["model"]]
        axes.plot([row[column]], [row["return"]], look.marker, color=look.colour, markersize=6)
        weight = "bold" if row["model"] in best else "normal"
        place: dict[str, Any] = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(str(row["place"]), (row[column], row["return"]), color=look.colour, weight=weight, **place)
    axes.set_xscale("log")
    _plain_ticks(axes, known[column])
    axes.margins(x=0.12, y=0.08)
    axes.set(xlabel=label, ylabel="return")
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    return figure


def _priced(found: pd.DataFrame, column: str) -> pd.DataFrame:
    """The models whose cost is known, the best return first, and of equal returns as they were."""
    return found[found[column] > 0].sort_values("return", ascending=False, kind="stable")


def _plain_ticks(axes: Axes, values: pd.Series) -> None:
    """Ticks of a logarithmic axis as plain numbers: 1, 2, 5, 10 and so on, and few of them."""
    low, high = float(values.min()) / 1.3, float(values.max()) * 1.3
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps: Sequence[int] = (1, 2, 5) if high / low < 300 else (1,)
    ticks = [step * 10.0**power for power in powers for step in steps]
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
