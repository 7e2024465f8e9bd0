"""A task's models in a Markdown table: ``python -m analysis.report.compact results/embedded 3m-mixed``.

With ``--times`` training times are those that ``benchmarks/training_speed.py`` measured for all models on one machine,
in place of what the runs themselves took on whatever machine and beside whatever else they ran.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.equal_time import returns_at_equal_time
from analysis.main_policy import WITHOUT_CHANCE
from analysis.report.blocks import count, number, share
from analysis.report.by_task import compared
from analysis.report.sources import Sources, read_sources
from analysis.runs import main_rows

ABOUT = "What a task's models earn and cost, as a table in Markdown."
REFERENCE = "vgm2p"


def compact(sources: Sources, task: str, times: pd.DataFrame | None = None) -> pd.DataFrame:
    """The models of a task, the best first.

    Args:
        sources: The results; final weights count.
        task: Which one.
        times: task, model and train_seconds, several rows a model or one; their medians replace the times of the runs.

    Returns:
        One row for each model: model, seeds, return (mean over seeds), std (over seeds), best, as_good (as in
        :func:`analysis.tables.task_table`), greedy (the return of the policy without chance, where it is another one),
        won, equal_time (the return in the training time of VGM2P; empty where that is not known), updates_per_second
        (all updates in the time that training takes, evaluations left out; the median over seeds), calls_per_decision,
        ms_per_decision, parameters.

    Raises:
        ValueError: If no model was run on the task, none has final weights, or a model's time is missing.
    """
    known = sorted(set(sources.results["task"]))
    if task not in known:
        raise ValueError(f"expected a task of '{sources.directory}', one of {', '.join(known)}; got '{task}'")
    everything = sources.results[(sources.results["task"] == task) & (sources.results["checkpoint"] == "final")]
    rows = main_rows(everything)
    found = compared(rows, repetitions=1).set_index("model")
    greedy = everything[everything["policy"].isin(WITHOUT_CHANCE) & ~everything["main"]]
    found["greedy"] = greedy.groupby("model")["return"].mean()
    if times is not None:
        measured = times[times["task"] == task].groupby("model")["train_seconds"].median()
        if missing := sorted(set(rows["model"]) - set(measured.index)):
            raise ValueError(
                f"expected times of all models on {task}, got none of {', '.join(missing)}; measure them, too"
            )
        rows = rows.assign(train_seconds=rows["model"].map(measured))
    found["equal_time"] = float("nan")
    timed = rows[rows["train_seconds"].notna()]
    played_meanwhile = sources.curves["run"].isin(timed["run"]).any()
    if REFERENCE in set(timed["model"]) and played_meanwhile:
        found["equal_time"] = returns_at_equal_time(timed, sources.curves).groupby("model")["return"].mean()
    found["updates_per_second"] = (rows["updates"] / rows["train_seconds"]).groupby(rows["model"]).median()
    columns = ["seeds", "return", "std", "best", "as_good", "greedy", "won", "equal_time", "updates_per_second"]
    return found[[*columns, "calls_per_decision", "ms_per_decision", "parameters"]].reset_index()


def markdown(table: pd.DataFrame) -> str:
    """The table of ``compact`` as Markdown; columns that are empty for all models are left out."""
    columns = {
        "model": table["model"].map(lambda name: f"**`{name}`**" if name == REFERENCE else f"`{name}`"),
        "return": pd.Series([_return(row) for _, row in table.iterrows()]),
        "without chance": table["greedy"].map(_rounded),
        "won": table["won"].map(share),
        f"in {REFERENCE}'s time": table["equal_time"].map(_rounded),
        "updates/s": table["updates_per_second"].map(lambda value: number(value, 2)),
        "calls": table["calls_per_decision"].map(count),
        "ms": table["ms_per_decision"].map(lambda value: number(value, 2)),
        "parameters": table["parameters"].map(count),
    }
    if table["seeds"].nunique() > 1:
        columns["seeds"] = table["seeds"].map(count)
    empty = {"won": "won", "without chance": "greedy", f"in {REFERENCE}'s time": "equal_time"}
    shown = {name: texts for name, texts in columns.items() if name not in empty or table[empty[name]].notna().any()}
    lines = [f"| {' | '.join(shown)} |", "|---" + "|--:" * (len(shown) - 1) + "|"]
    return "\n".join(lines + [f"| {' | '.join(cells)} |" for cells in zip(*shown.values(), strict=True)])


def _return(row: pd.Series) -> str:
    spread = f" ± {_rounded(row['std'], row['return'])}" if row["seeds"] > 1 else ""
    text = f"{_rounded(row['return'])}{spread}"
    return f"**{text}**" if row["best"] else f"{text} *" if row["as_good"] else text


def _rounded(value: float, beside: float | None = None) -> str:
    """Two digits behind the point; none where returns are in the hundreds, be it another number's beside it."""
    if pd.isna(value):
        return ""
    return f"{value:,.0f}" if abs(value if beside is None else beside) >= 100 else f"{value:.2f}"


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table of a task."""
    parser = argparse.ArgumentParser(prog="python -m analysis.report.compact", description=ABOUT)
    parser.add_argument("results", type=Path, help="directory of lightning benchmark, or its results.csv")
    parser.add_argument("task", help="the grid's name of a dataset")
    parser.add_argument("--times", type=Path, help="CSV file of benchmarks/training_speed.py")
    options = parser.parse_args(words)
    try:
        times = None if options.times is None else pd.read_csv(options.times)
        print(markdown(compact(read_sources(options.results), options.task, times)))
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
