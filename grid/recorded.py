"""Rows of results.csv whose runs are not here: from another machine, or from directories that were deleted since."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from grid.cells import read_json
from grid.gathering import COLUMNS, RESULTS, Row
from grid.plan import Cell
from grid.progress import table_of

GRID = "grid.json"


def recorded(cells: Sequence[Cell], results: Path) -> dict[str, list[Row]]:
    """What results.csv says about cells that have no directory here.

    Args:
        cells: Of the grid.
        results: Directory of the results.

    Returns:
        Rows by the cell's name; nothing where there is no results.csv, or a cell was begun here.
    """
    names = {cell.name for cell in cells if not (results / cell.name).exists()}
    found: dict[str, list[Row]] = defaultdict(list)
    for row in table_of(results / RESULTS):
        name = f"{row['task']}/{row['model']}/seed_{row['seed']}"
        if name in names:
            known: Row = {column: row.get(column) or None for column in COLUMNS}
            found[name].append({**known, "main": known["main"] == "True"})
    return dict(found)


def of_other_settings(names: Collection[str], commands: Mapping[str, str], results: Path) -> list[str]:
    """Which recorded cells were run with other command lines than the grid has now, as far as grid.json says so.

    Args:
        names: Of recorded cells.
        commands: Command lines of the grid's cells by name.
        results: Directory of the results.
    """
    before = {str(cell["name"]): cell["command"] for cell in read_json(results / GRID, {"cells": []})["cells"]}
    return [name for name in names if before.get(name, commands[name]) != commands[name]]
