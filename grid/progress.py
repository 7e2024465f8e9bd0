"""How far a running cell is, read from the metrics that its run writes."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.main_policy import main_policy
from grid.cells import TABLES, Place


@dataclass
class Progress:
    """What the metrics of a run say; read again only when the file has changed.

    Args:
        place: The cell.

    Attributes:
        updates: Updates done so far; 0 before anything was logged.
        rate: Updates per second since the first look; None before the second one.
        score: Mean return of the last rollout; None before the first one.
    """

    place: Place
    updates: int = 0
    rate: float | None = None
    score: float | None = None
    _seen: float = 0.0
    _first: tuple[float, int] | None = field(default=None)

    def look(self) -> None:
        """Reads what is new."""
        run = self.place.run
        path = None if run is None else run / "metrics.csv"
        if path is None or not path.is_file() or path.stat().st_mtime == self._seen:
            return
        self._seen = path.stat().st_mtime
        updates, score = _newest(path)
        if updates == 0:
            return
        if self._first is None or updates < self.updates:  # the first look, or a run that went back to a checkpoint
            self._first, self.rate = (self._seen, updates), None
        elif self._seen > self._first[0] and updates > self._first[1]:
            self.rate = (updates - self._first[1]) / (self._seen - self._first[0])
        self.updates, self.score = updates, self.score if score is None else score


def table_of(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main_return(place: Place, policy: str | None = None) -> float | None:
    """Return of the policy that stands for a cell, at the end of its training; None without a table.

    Args:
        place: The cell.
        policy: Its row, if the grid names one.
    """
    rows = table_of(place.run / TABLES["final"]) if place.run is not None else []
    name = main_policy([row["policy"] for row in rows], model_options(place.config), policy)
    return next((float(row["return"]) for row in rows if row["policy"] == name), None)


def model_options(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of the model in a configuration; none if it is not known."""
    options: Mapping[str, Any] = (config.get("model") or {}).get("init_args") or {}
    return options


def _newest(path: Path) -> tuple[int, float | None]:
    """Updates done and return of the last rollout."""
    try:
        rows = table_of(path)
        updates = max((int(row["step"]) + 1 for row in rows if row.get("step")), default=0)
        returns = [row["eval/return_mean"] for row in rows if row.get("eval/return_mean")]
        return updates, float(returns[-1]) if returns else None
    except ValueError:  # caught while it was being written
        return 0, None
