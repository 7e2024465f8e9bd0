"""All finished cells of a grid as one table: results.csv, and a summary for the terminal."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.table import Table

from analysis.main_policy import main_policy
from grid.cells import DONE, SETTINGS, TABLES, Place, flat, read_json
from grid.plan import Plan
from grid.progress import model_options, table_of
from whole_files import written_whole

RESULTS = "results.csv"
#: Columns of results.csv that come from an evaluation's table, and what they are called there.
EVALUATED = {
    "return": "return",
    "return_error": "± s.e.",
    "return_std": "std",
    "return_iqm": "IQM",
    "score": "score",
    "won": "won",
    "length": "length",
    "ms_per_decision": "ms per decision",
    "calls_per_decision": "calls per decision",
    "parameters": "parameters",
    "lost": "lost",
    "episodes": "episodes",
}
IDENTITY = ("task", "dataset", "quality", "model", "algorithm", "policy", "main", "seed", "checkpoint")
SPEED = tuple(f"{stage}_seconds_per_update" for stage in ("critic", "credit", "policy"))
COLUMNS = (*IDENTITY, *EVALUATED, "updates", *SPEED, "train_seconds", "wall_seconds", "commit", "changed_files", "run")

Row = dict[str, Any]


def gather(plan: Plan, results: Path, known: Mapping[str, Sequence[Row]] | None = None) -> tuple[list[Row], list[str]]:
    """The rows of all finished cells.

    Args:
        plan: The grid.
        results: Directory of its results.
        known: Rows by the name of a cell, for cells whose runs are not here.

    Returns:
        One row for each cell, checkpoint and policy; and the names of cells that are finished but were run with other
        settings than the grid has now, of which there are no rows.
    """
    rows: list[Row] = []
    others: list[str] = []
    for cell in plan.cells:
        directory = results / cell.name
        done = read_json(directory / DONE, None)
        if done is None:
            rows += (known or {}).get(cell.name, [])
            continue
        if tuple(done["words"]) != cell.words:
            others.append(cell.name)
            continue
        place = Place(cell, directory, read_json(directory / SETTINGS, {}).get("config", {}))
        rows += rows_of(place, done, plan.checkpoints)
    return rows, others


def rows_of(place: Place, done: dict[str, Any], checkpoints: Iterable[str]) -> list[Row]:
    """The rows of a finished cell.

    Args:
        place: The cell.
        done: Its marker.
        checkpoints: Which weights are wanted.
    """
    run = place.directory / done["run"]
    settings = flat(place.config)
    common: Row = {
        "task": place.cell.dataset,
        "dataset": settings.get("data.init_args.dataset"),
        "quality": settings.get("data.init_args.quality"),
        "model": place.cell.model,
        "algorithm": str(settings.get("model.class_path") or "").rpartition(".")[2] or None,
        "seed": place.cell.seed,
        **(speed := seconds_per_update(run / "metrics.csv")),
        "train_seconds": train_seconds(speed, settings, place.updates),
        "wall_seconds": done["wall_seconds"],
        "commit": (done["code"]["commit"] or "")[:12] or None,
        "changed_files": done["code"]["changed_files"],
        "run": f"{place.cell.name}/{done['run']}",
    }
    rows: list[Row] = []
    for checkpoint, file in TABLES.items():
        table = table_of(run / file) if checkpoint in checkpoints else []
        main = main_policy([row["policy"] for row in table], model_options(place.config), place.cell.policy)
        for row in table:
            found = {name: row.get(column) or None for name, column in EVALUATED.items()}
            own = {"policy": row["policy"], "main": row["policy"] == main, "checkpoint": checkpoint}
            rows.append({**common, **own, **found, "updates": done["updates"].get(checkpoint)})
    return rows


def seconds_per_update(metrics: Path) -> Row:
    """Mean time of an update in each stage of a run, as the run logged it at its end.

    Args:
        metrics: Its metrics.csv.

    Returns:
        By ``SPEED``; a run of one stage has trained its policy only.
    """
    logged: dict[str, str] = {}
    for row in table_of(metrics):
        logged |= {key: value for key, value in row.items() if value and key.endswith("_seconds_per_update")}
    named = {key.removeprefix("train/"): float(value) for key, value in logged.items()}
    if "train_seconds_per_update" in named:
        named["policy_seconds_per_update"] = named["train_seconds_per_update"]
    return {name: named.get(name) for name in SPEED}


def train_seconds(speed: Row, settings: Mapping[str, Any], updates: int | None) -> float | None:
    """Time of all updates of a run, without evaluations, start and end.

    Args:
        speed: Seconds of an update by ``SPEED``.
        settings: The run's whole configuration, flat.
        updates: Of all stages together.

    Returns:
        Seconds; None if something is not known.
    """
    if updates is None:
        return None
    total, left = 0.0, updates
    for stage in ("critic", "credit"):
        seconds = speed.get(f"{stage}_seconds_per_update")
        if seconds is not None:  # the stage took place
            length = settings.get(f"model.init_args.{stage}_updates")
            if not isinstance(length, int):
                return None
            length = min(length, left)
            total, left = total + length * seconds, left - length
    seconds = speed.get("policy_seconds_per_update")
    return None if left and seconds is None else total + left * (seconds or 0.0)


def write_results(rows: Sequence[Row], results: Path) -> Path:
    """Writes results.csv, all or nothing.

    Args:
        rows: Its rows.
        results: Directory of the results.

    Returns:
        The file.
    """
    path = results / RESULTS
    with written_whole(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def summary(rows: Sequence[Row], name: str) -> Table:
    """The policy that stands for each model, as a mean over seeds, for a terminal.

    Args:
        rows: As ``gather`` gives them.
        name: Of the grid.
    """
    table = Table(title=f"{name}: mean ± standard error over seeds", box=None, pad_edge=False, title_justify="left")
    columns = ("dataset", "model", "policy", "weights", "seeds", "return", "won", "s per update", "minutes")
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:4] else "right", no_wrap=True)
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["main"]:
            groups[row["task"], row["model"], row["policy"], row["checkpoint"]].append(row)
    for key, some in groups.items():
        numbers = [_mean(some, "return", 3, error=True), _mean(some, "won", 2, error=False)]
        numbers += [_mean(some, SPEED[-1], 4, error=False), _mean(some, "wall_seconds", 1, error=False, unit=60)]
        table.add_row(*key, str(len(some)), *numbers)
    return table


def _mean(rows: Sequence[Row], column: str, digits: int, error: bool, unit: float = 1) -> str:
    values = [float(row[column]) / unit for row in rows if row[column] not in (None, "")]
    if not values:
        return ""
    spread = f" ± {stdev(values) / len(values) ** 0.5:.{digits}f}" if error and len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"
