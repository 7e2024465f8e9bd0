"""Rows of results.csv whose runs are elsewhere."""

import json
from pathlib import Path

import pytest

from grid.gathering import COLUMNS, write_results
from grid.plan import Cell
from grid.recorded import GRID, of_other_settings, recorded

CELLS = [
    Cell("d", model, seed, ("fit", "--seed_everything", str(seed))) for model in ("bc", "vgm2p") for seed in (0, 1)
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two rows of one cell, one of another, one of a cell that the grid does not have."""
    rows = [
        ("bc", 0, "the data", False),
        ("bc", 0, "policy", True),
        ("vgm2p", 1, "policy", True),
        ("old", 0, "policy", True),
    ]
    named = ("model", "seed", "policy", "main")
    write_results(
        [dict.fromkeys(COLUMNS) | {"task": "d"} | dict(zip(named, row, strict=True)) for row in rows], tmp_path
    )
    return tmp_path


def test_rows_are_read_as_they_were_written(results: Path):
    found = recorded(CELLS, results)
    assert {name: [row["policy"] for row in rows] for name, rows in found.items()} == {
        "d/bc/seed_0": ["the data", "policy"],
        "d/vgm2p/seed_1": ["policy"],
    }
    assert [row["main"] for row in found["d/bc/seed_0"]] == [False, True]
    assert set(found["d/bc/seed_0"][0]) == set(COLUMNS) and found["d/bc/seed_0"][0]["won"] is None


def test_a_cell_that_was_begun_here_speaks_for_itself(results: Path):
    (results / "d/bc/seed_0").mkdir(parents=True)
    assert list(recorded(CELLS, results)) == ["d/vgm2p/seed_1"]


def test_without_results_nothing_is_recorded(tmp_path: Path):
    assert recorded(CELLS, tmp_path) == {}


def test_other_command_lines_are_named(results: Path):
    """A cell that grid.json does not know is taken as it is: there is nothing to compare."""
    commands = {"d/bc/seed_0": "lightning fit", "d/vgm2p/seed_1": "lightning fit --x 2"}
    assert of_other_settings(commands, commands, results) == []
    cells = [{"name": "d/vgm2p/seed_1", "command": "lightning fit --x 1"}]
    (results / GRID).write_text(json.dumps({"cells": cells}))
    assert of_other_settings(commands, commands, results) == ["d/vgm2p/seed_1"]
