"""Models over all tasks in a Markdown table: ``python -m analysis.report.scores results/embedded``.

With ``--without_chance`` each policy plays its most likely action or zero noise, where it was played so.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.comparable import comparable
from analysis.main_policy import WITHOUT_CHANCE
from analysis.report.compact import REFERENCE
from analysis.report.sources import read_sources
from analysis.runs import main_rows
from analysis.statistics import REPETITIONS, aggregates

ABOUT = "Normalised scores of models over all tasks, as a table in Markdown."


def without_chance(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each run: its most likely action or zero noise where that was played, else as it acts.

    Args:
        frame: Results, of all policies.

    Returns:
        Rows of the final weights, in the order of the results.
    """
    mains = main_rows(frame)
    greedy = frame[frame["policy"].isin(WITHOUT_CHANCE) & (frame["checkpoint"] == "final") & frame["return"].notna()]
    run = ["task", "model", "seed"]
    return pd.concat([greedy, mains]).drop_duplicates(run, keep="first").sort_index()


def scores(rows: pd.DataFrame, repetitions: int = REPETITIONS) -> pd.DataFrame:
    """Normalised scores (0 is random play, 100 the reference) of all models that have the same tasks and seeds.

    Args:
        rows: One for each run, with ``score``.
        repetitions: Draws of the bootstrap.

    Returns:
        One row for each model of :func:`analysis.comparable.comparable`, the highest IQM first: model, IQM, low, high
        (95 % bootstrap interval within each task), and a column for each task, the mean over seeds.

    Raises:
        ValueError: If no two models have scores on the same task.
    """
    chosen = comparable(rows, "score")
    if len(chosen.models) < 2:
        raise ValueError("expected scores of two models on the same task, got none: there is nothing to compare")
    table = aggregates(chosen.rows, repetitions=repetitions)
    found = table[table["statistic"] == "IQM"].set_index("model")[["estimate", "low", "high"]]
    found = found.rename(columns={"estimate": "IQM"})
    means = chosen.rows.pivot_table(index="model", columns="task", values="score", aggfunc="mean")[chosen.tasks]
    joined = found.join(means)
    return joined.sort_values("IQM", ascending=False, kind="stable").reset_index(names="model")


def markdown(table: pd.DataFrame) -> str:
    """The table of ``scores`` as Markdown; the highest of each column is bold."""
    tasks = [str(column) for column in table.columns[4:]]
    best = {column: table[column].idxmax() for column in ["IQM", *tasks]}
    lines = [f"| {' | '.join(['model', 'IQM', *tasks])} |", "|---" + "|--:" * (1 + len(tasks)) + "|"]
    for place, row in table.iterrows():
        name = f"**`{row['model']}`**" if row["model"] == REFERENCE else f"`{row['model']}`"
        shown = {column: f"{row[column]:.1f}" for column in best}
        cells = [f"**{shown[column]}**" if best[column] == place else shown[column] for column in best]
        cells[0] += f" [{row['low']:.1f}, {row['high']:.1f}]"
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m analysis.report.scores", description=ABOUT)
    parser.add_argument("results", type=Path, help="directory of lightning benchmark, or its results.csv")
    parser.add_argument("--without_chance", action="store_true", help="policies as they act without chance")
    options = parser.parse_args(words)
    try:
        frame = read_sources(options.results).results
        print(markdown(scores(without_chance(frame) if options.without_chance else main_rows(frame))))
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
