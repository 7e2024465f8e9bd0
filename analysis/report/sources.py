"""What a report is made from: the files of ``lightning benchmark``, or the small ones among them.

    results.csv     a row for each run, checkpoint and policy
    grid.json       which cells were wanted, their command lines, versions and machine
    curves.csv      returns while training, of all runs
    settings.csv    the configurations of all runs (:mod:`analysis.report.configurations`)

The last two are made from the directories of the runs where these are, and read where they are not: the four files
alone, for example in a repository, give the same report again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.report.configurations import read_settings
from analysis.runs import CURVE_COLUMNS, OURS, read_curves, read_results
from whole_files import written_whole

METRIC = "eval/return_mean"
SETTING_COLUMNS = ("task", "model", "setting", "value")


@dataclass(frozen=True)
class Sources:
    """What is known about a grid.

    Args:
        directory: Where its files are; the column ``run`` of the results starts here.
        results: All rows of results.csv.
        curves: Returns while training, as :func:`analysis.runs.read_curves` gives them; may be empty.
        settings: task, model, setting, value; may be empty. An empty task or model means all that have the setting.
        grid: grid.json; empty if there is none.
    """

    directory: Path
    results: pd.DataFrame
    curves: pd.DataFrame
    settings: pd.DataFrame
    grid: Mapping[str, Any]

    @property
    def commands(self) -> dict[str, str]:
        """The command line of each wanted cell, by its name ``<task>/<model>/seed_<s>``."""
        return {str(cell["name"]): str(cell["command"]) for cell in self.grid.get("cells", ())}

    def missing(self, checkpoint: str) -> list[str]:
        """Names of the cells that were wanted and have no result.

        Args:
            checkpoint: Of which weights.
        """
        rows = self.results[self.results["main"] & (self.results["checkpoint"] == checkpoint)]
        there = {cell_name(row) for _, row in rows.iterrows()}
        return [name for name in self.commands if name not in there]


def cell_name(row: "pd.Series[Any]") -> str:
    """The cell that a row of the results belongs to."""
    return f"{row['task']}/{row['model']}/seed_{row['seed']}"


def read_sources(path: Path) -> Sources:
    """Reads a grid, and writes curves.csv and settings.csv beside its results where the runs are there.

    Args:
        path: Directory of the results, or results.csv.

    Raises:
        FileNotFoundError: If there is no results.csv.
        ValueError: If a file is not what it should be, or no cell is finished.
    """
    results = read_results(path)
    directory = path if path.is_dir() else path.parent
    if results.empty:
        raise ValueError(
            f"expected at least one finished cell in '{directory / 'results.csv'}', got a table without rows; "
            "lightning benchmark --config GRID runs the cells"
        )
    if nameless := [name for name in ("task", "model", "seed") if results[name].isna().any()]:
        raise ValueError(
            f"expected task, model and seed in every row of '{directory / 'results.csv'}', got rows without "
            f"{', '.join(nameless)}; lightning benchmark --config GRID --gather writes it anew"
        )
    runs = results.dropna(subset=["run"]).drop_duplicates("run")
    return Sources(directory, results, _curves(runs, directory), _settings(runs, directory), _grid(directory))


def _curves(runs: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """The curves of the runs that are there, and those of other runs that were written down before."""
    file = directory / "curves.csv"
    before = _table(file, tuple(name for name in CURVE_COLUMNS if name != "origin"))
    there = runs[[(directory / run / "metrics.csv").is_file() for run in runs["run"]]]
    if there.empty:
        return before[before["run"].isin(runs["run"])].assign(origin=OURS)
    now = read_curves(there, directory, (METRIC,))
    others = before[before["run"].isin(set(runs["run"]) - set(there["run"]))].assign(origin=OURS)
    found = pd.concat([part for part in (now, others) if len(part)] or [now], ignore_index=True)
    _write(found.drop(columns="origin"), file)
    return found


def _settings(runs: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """The configurations of the runs, if all are there or nothing was written down before."""
    file = directory / "settings.csv"
    pairs = runs.drop_duplicates(["task", "model"])
    there = pairs[[(directory / run / "config.yaml").is_file() for run in pairs["run"]]]
    if there.empty or (len(there) < len(pairs) and file.is_file()):
        return _table(file, SETTING_COLUMNS).fillna("")
    found = read_settings(there, directory)
    _write(found, file)
    return found


def _grid(directory: Path) -> Mapping[str, Any]:
    file = directory / "grid.json"
    if not file.is_file():
        return {}
    try:
        grid = json.loads(file.read_text())
        if all({"name", "command"} <= set(cell) for cell in grid["cells"]):
            return dict(grid)
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(
        "expected the grid.json of lightning benchmark, with a name and a command for each cell, got something else in "
        f"'{file}'; lightning benchmark writes it when it runs; without the file the report names no missing cells"
    )


def _table(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not file.is_file():
        return pd.DataFrame(columns=list(columns))
    texts = {name: "str" for name in columns if name not in ("seed", "update") and name != "value"}
    frame = pd.read_csv(file, dtype=texts | ({"value": "str"} if "setting" in columns else {}))
    if missing := [name for name in columns if name not in frame.columns]:
        raise ValueError(
            f"expected the columns {', '.join(columns)} in '{file}', got a table without {', '.join(missing)}; delete "
            "it where the directories of the runs are there, it is written anew"
        )
    return frame[list(columns)]


def _write(frame: pd.DataFrame, file: Path) -> None:
    with written_whole(file) as unfinished:
        frame.to_csv(unfinished, index=False, lineterminator="\n")
