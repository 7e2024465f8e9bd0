"""Cells whose directory somebody deletes while they run."""

from pathlib import Path

from grid.sessions import close_session, what_happened
from tests.grid.cells import place


def test_a_deleted_cell_is_no_error_of_the_grid(tmp_path: Path):
    gone = place(tmp_path)
    close_session(gone, 1)
    assert not gone.directory.exists()
    assert what_happened(gone, 1) == f"its files in '{gone.directory}' are gone; the same command starts it anew"
