"""Statistics as pictures: intervals, profiles, curves, and what a decision costs. Draws on axes that the caller has."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

_COLOURS = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
_LINES = ("-", "--", ":", "-.")


def styles(models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a kind of line for each model, so that it looks the same in all figures.

    Args:
        models: Their names, at most 40 of them told apart.
    """
    return {
        model: {"color": _COLOURS[number % 10], "linestyle": _LINES[number // 10 % 4]}
        for number, model in enumerate(models)
    }


def draw_intervals(axes: Axes, table: pd.DataFrame, label: str, names: str = "model") -> None:
    """Estimates with their intervals, the best at the top.

    Args:
        axes: Where.
        table: Rows with ``estimate``, ``low`` and ``high``, for example one statistic of
            :func:`analysis.statistics.aggregates`.
        label: What is estimated.
        names: Column with the names.
    """
    ordered = table.sort_values("estimate", ignore_index=True)
    errors = (ordered["estimate"] - ordered["low"], ordered["high"] - ordered["estimate"])
    axes.errorbar(ordered["estimate"], ordered.index, xerr=errors, fmt="o", color="#4878a8", ecolor="0.6", capsize=2)
    axes.set_yticks(ordered.index, ordered[names])
    axes.set_xlabel(label)
    _plain(axes)
    axes.grid(axis="x", color="0.9")


def draw_profiles(axes: Axes, profiles: pd.DataFrame, looks: dict[str, dict[str, Any]], label: str) -> None:
    """Performance profiles: the share of runs above each threshold.

    Args:
        axes: Where.
        profiles: What :func:`analysis.profiles.performance_profiles` gives.
        looks: What :func:`styles` gives; models without are left out.
        label: What the thresholds are.
    """
    _draw_lines(axes, profiles.rename(columns={"threshold": "x", "share": "y"}), looks)
    axes.set(xlabel=label, ylabel="share of runs above it", ylim=(-0.03, 1.03))


def draw_curves(axes: Axes, curves: pd.DataFrame, looks: dict[str, dict[str, Any]], label: str) -> None:
    """How good models were after how many updates, of one task.

    Args:
        axes: Where.
        curves: Rows of one task of :func:`analysis.profiles.efficiency_curves`.
        looks: What :func:`styles` gives; models without are left out.
        label: What was measured.
    """
    _draw_lines(axes, curves.rename(columns={"update": "x", "estimate": "y"}), looks)
    axes.set(xlabel="updates", ylabel=label)


def draw_speed(axes: Axes, table: pd.DataFrame, value: str, label: str, named: Sequence[str] | None = None) -> None:
    """How good models are against how long a decision takes: the upper left corner is the best place.

    Args:
        axes: Where.
        table: One row for each model: ``model``, ``ms_per_decision`` and the value.
        value: Column.
        label: What it is.
        named: Models with their names beside them; by default all.
    """
    known = table.dropna(subset=["ms_per_decision", value])
    shown = set(known["model"] if named is None else named)
    colours = ["#4878a8" if model in shown else "0.75" for model in known["model"]]
    axes.scatter(known["ms_per_decision"], known[value], c=colours, s=25, zorder=3)
    for _, row in known[known["model"].isin(shown)].iterrows():
        place = (row["ms_per_decision"], row[value])
        axes.annotate(row["model"], place, xytext=(5, 3), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel="milliseconds per decision", ylabel=label)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.15)
    _plain(axes)
    axes.grid(color="0.9")


def _draw_lines(axes: Axes, table: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """One line with its band for each model, in the order of the looks."""
    for model, look in looks.items():
        line = table[table["model"] == model].sort_values("x")
        if len(line):
            marker = "o" if len(line) == 1 else None
            axes.plot(line["x"], line["y"], label=model, marker=marker, lw=1.5, **look)
            axes.fill_between(line["x"], line["low"], line["high"], color=look["color"], alpha=0.12, lw=0)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
