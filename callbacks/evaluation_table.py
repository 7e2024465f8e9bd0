"""The table of an evaluation: printed, narrow enough for a terminal, and written in full as CSV."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from callbacks.episodes import Episodes
from callbacks.evaluation_metrics import averages
from datamodules.offline import OfflineDataModule
from whole_files import written_whole

#: Columns of the CSV: the metrics that they show.
COLUMNS = {
    "return": "return_mean",
    "± s.e.": "return_error",
    "std": "return_std",
    "IQM": "return_iqm",
    "score": "normalised_score",
    "won": "win_rate",
    "length": "episode_length",
    "ms per decision": "ms_per_decision",
    "calls per decision": "network_calls",
    "parameters": "parameters",
    "lost": "lost_episodes",
    "episodes": "episodes",
}
#: Columns of the printed table, with the names that they have there; what is the same in most rows is left to the CSV.
PRINTED = {name: name for name in ("policy", "return", "± s.e.", "IQM", "score", "won", "length")}
PRINTED |= {"ms per decision": "ms", "calls per decision": "calls"}
_FORMATS = {"won": "{:.0%}", "score": "{:.1f}", "length": "{:.1f}", "ms per decision": "{:.2f}"}
_WHOLE = ("calls per decision", "parameters", "lost", "episodes")

Row = dict[str, Any]


def policy_row(name: str, result: Episodes, metrics: Mapping[str, float]) -> Row:
    """The row of a policy.

    Args:
        name: What it is called.
        result: Its episodes.
        metrics: What ``evaluation_metrics`` says about them.
    """
    return _row(name, metrics, result.return_error, len(result.returns))


def data_row(data: OfflineDataModule, scenario: str) -> Row:
    """The row of what was learned from: all its episodes, played by whoever recorded them.

    Args:
        data: The recording.
        scenario: What the policies play.
    """
    statistics, returns = data.statistics, data.episode_returns
    metrics = averages(returns, scenario) | {"episode_length": statistics["length_mean"]}
    if "win_rate" in statistics:
        metrics["win_rate"] = statistics["win_rate"]
    error = float(returns.std() / np.sqrt(max(len(returns) - 1, 1)))
    return _row("the data", metrics, error, len(returns))


def show(rows: Sequence[Row], speed: Mapping[str, float], title: str) -> None:
    """Prints the table of an evaluation.

    Args:
        rows: One per policy; a column that all leave empty is not shown.
        speed: Seconds per update by stage; empty when nothing was trained.
        title: Shown above.
    """
    caption = " · ".join(f"{stage}: {seconds:.4f} s per update" for stage, seconds in speed.items())
    table = Table(title=title, caption=caption or None)
    columns = [column for column in _filled(rows) if column in PRINTED]
    for column in columns:
        table.add_column(PRINTED[column], justify="left" if column == "policy" else "right", no_wrap=column == "policy")
    for row in rows:
        table.add_row(*(_cell(column, row[column]) for column in columns))
    Console().print(table)


def write(rows: Sequence[Row], path: Path) -> None:
    """Writes the table of an evaluation as CSV, all or nothing; a column that all rows leave empty is left out."""
    with written_whole(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=_filled(rows), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _row(name: str, metrics: Mapping[str, float], error: float, episodes: int) -> Row:
    known: dict[str, Any] = {**metrics, "return_error": error, "episodes": episodes}
    row = {column: known.get(metric) for column, metric in COLUMNS.items()}
    return {"policy": name} | {c: int(v) if c in _WHOLE and v is not None else v for c, v in row.items()}


def _filled(rows: Sequence[Row]) -> list[str]:
    return [column for column in rows[0] if any(row[column] is not None for row in rows)]


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return _FORMATS.get(column, "{:.3f}").format(value)
    return str(value)
