"""Which cell of a grid a process trains: told by ``lightning benchmark``, written into the run's configuration."""

from collections.abc import Mapping

GRID, CELL, POLICY = "VGM2P_GRID", "VGM2P_CELL", "VGM2P_POLICY"


def cell_variables(grid: str, cell: str, policy: str | None) -> dict[str, str]:
    """Environment variables for the process of a cell.

    Args:
        grid: Name of the grid.
        cell: Name of the cell, ``<dataset>/<model>/seed_<seed>``.
        policy: Row of the evaluation that stands for the model; None for the one that acts by default.
    """
    return {GRID: grid, CELL: cell, POLICY: policy or ""}


def cell_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The cell that a process trains.

    Args:
        environment: Environment variables.

    Returns:
        ``grid``, ``grid_dataset`` and ``grid_model``, the names that the grid's file has; empty outside a grid.

    Raises:
        ValueError: If ``VGM2P_CELL`` is no name of a cell.
    """
    cell = environment.get(CELL, "")
    if not cell:
        return {}
    parts = cell.split("/")
    if len(parts) != 3 or not all(parts):
        raise ValueError(
            f"{CELL}: expected <dataset>/<model>/seed_<seed> in this environment variable, got '{cell}'; "
            "'lightning benchmark' sets it, unset it for other runs"
        )
    return {"grid": environment.get(GRID, ""), "grid_dataset": parts[0], "grid_model": parts[1]}
