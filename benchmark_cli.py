"""``lightning benchmark``: a grid of runs, models x datasets x seeds, that can be interrupted and goes on.

``grid/`` does the work: ``plan`` reads the grid's file, ``cells`` knows the directory of a cell, ``runner`` runs the
processes, ``gathering`` makes results.csv.
"""

import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console

from callbacks.code_version import code_version, versions
from data_cli import parser_of, show
from grid import gathering
from grid.cells import Place, claimed, difference, read_json, write_json
from grid.datasets import needed, provide
from grid.display import Display
from grid.plan import Cell, Plan, read_plan, select
from grid.record import hardware
from grid.recorded import GRID, of_other_settings, recorded
from grid.runner import LIGHTNING, Work, run_cells, threads_per_cell

#: The whole configuration behind the words of ``lightning fit``, after every check that needs no data.
Resolve = Callable[[Sequence[str]], Mapping[str, Any]]


def run_benchmark(
    config: Path,
    results: Path | None = None,
    jobs: int = 1,
    only: str | None = None,
    cell: int | None = None,
    redo: bool = False,
    dry_run: bool = False,
    gather: bool = False,
    *,
    resolve: Resolve,
    program: Sequence[str] = LIGHTNING,
) -> None:
    """Runs a grid of models, datasets and seeds, each cell a process of its own, and gathers the results.

    What is finished is skipped and what was interrupted goes on from its last checkpoint: run the same command again
    until all cells are done. What results.csv says about cells without a directory here (it was brought from another
    machine, or directories were deleted) stays in it and counts as finished. A cell that fails stops no other; the exit
    code is 1 then. Datasets are recorded or downloaded before the first cell. Everything lies in one directory:
    results.csv with a row for each cell and policy, grid.json with versions and machine, and a directory for each cell
    with its log and its run.

    Args:
        config: YAML file of the grid, for example configs/benchmark/smoke.yaml; grid/plan.py says what can be in it.
        results: Directory of the results; by default runs/benchmark/ and the grid's name.
        jobs: Cells at a time. Each has an equal share of the cores, unless OMP_NUM_THREADS is set.
        only: Only cells whose name fits, for example 3m, 3m/bc or "*/bc/seed_0".
        cell: Only the cell with this number, counted from 0 as --dry_run shows them, and no results.csv; for arrays of
            batch jobs.
        redo: Delete cells that were run with other settings than the grid has now, and run them again; rows of
            results.csv that have no run here are forgotten where their settings differ.
        dry_run: Only print the command lines.
        gather: Run nothing; write results.csv from what is finished.
        resolve: Checks the command line of a cell and gives its configuration.
        program: What stands before ``fit`` in the command line of a process.

    Raises:
        FileNotFoundError: If there is no such grid, or a configuration that it names does not exist.
        ValueError: If the grid's file or an option is wrong, or cells were run with other settings.
        SystemExit: With code 1 if a cell failed.
    """
    if jobs < 1:
        raise ValueError(f"--jobs: expected at least 1, got {jobs}")
    plan = read_plan(config)
    cells = _chosen(plan, only, cell)
    results = Path("runs/benchmark") / plan.name if results is None else results
    if dry_run:
        lines = [f"# {plan.cells.index(each)}: {each.name}\n{command_line(each)}" for each in cells]
        show("\n".join(lines))
        return
    known = _refuse_or_forget_recorded(plan, results, redo)
    works: list[Work] = []
    if not gather:
        places = _places([each for each in cells if each.name not in known], results, resolve)
        _refuse_or_delete_changed(places, redo)
        if redo and (results / gathering.RESULTS).is_file():  # what was deleted or forgotten must not count any more
            gathering.write_results(gathering.gather(plan, results, known)[0], results)
        _prepare(plan, results, places, jobs, program)
        with Display() as display:
            works = run_cells(places, plan.checkpoints, jobs, display.show, program, grid=plan.name)
    if cell is None:
        _report(plan, results, known)
    _leave(works)


def run(words: Sequence[str], resolve: Resolve, program: Sequence[str] = LIGHTNING) -> None:
    """Runs the command.

    Args:
        words: What follows ``lightning benchmark`` on the command line.
        resolve: Checks the command line of a cell and gives its configuration.
        program: What stands before ``fit`` in the command line of a process.

    Raises:
        SystemExit: With code 1 if a cell failed, 2 if the words cannot be understood, 130 if the user interrupts.
    """
    parser = parser_of(run_benchmark, positional=False, hidden=("resolve", "program"))
    parser.prog = "lightning benchmark"
    options = parser.instantiate(parser.parse_args(list(words))).as_dict()
    try:
        run_benchmark(**options, resolve=resolve, program=program)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on\n")
        raise SystemExit(130) from None


def command_line(cell: Cell) -> str:
    """The command line of a cell, as a user would type it."""
    return shlex.join(["lightning", *cell.words])


def _chosen(plan: Plan, only: str | None, number: int | None) -> list[Cell]:
    """The cells that the options ask for."""
    if number is None:
        return select(plan.cells, only)
    if only is not None:
        raise ValueError("--cell and --only: expected one of the two, got both")
    if not 0 <= number < len(plan.cells):
        raise ValueError(f"--cell: expected a number from 0 to {len(plan.cells) - 1}, got {number}")
    return [plan.cells[number]]


def _places(cells: Sequence[Cell], results: Path, resolve: Resolve) -> list[Place]:
    """The cells with their configurations, which differ between seeds in the seed only."""
    known: dict[tuple[str, ...], Mapping[str, Any]] = {}
    places = []
    for cell in cells:
        words = cell.words[:-2]
        if words not in known:
            try:
                known[words] = resolve(cell.words)
            except SystemExit:  # the parser has said what is wrong
                raise ValueError(
                    f"the command line of {cell.name} is refused (see above): {command_line(cell)}"
                ) from None
            except (ValueError, TypeError, OSError, ImportError) as error:
                raise ValueError(f"{error}\nThat is cell {cell.name}: {command_line(cell)}") from None
        config = {**known[words], "seed_everything": cell.seed} if known[words] else {}
        places.append(Place(cell, (results / cell.name).absolute(), config))
    return places


def _refuse_or_forget_recorded(plan: Plan, results: Path, redo: bool) -> dict[str, list[gathering.Row]]:
    """Rows of cells whose runs are not here, without those of other settings, which cannot be made again."""
    known = recorded(plan.cells, results)
    commands = {cell.name: command_line(cell) for cell in plan.cells}
    changed = of_other_settings(known, commands, results)
    if changed and not redo:
        raise ValueError(
            f"'{results / gathering.RESULTS}' has results of {len(changed)} cells that were run with other settings "
            f"than the grid has now, and their runs are not here: {', '.join(changed[:10])}"
            f"{' and others' if len(changed) > 10 else ''}; --redo forgets them and runs these cells again, --results "
            "keeps them and begins elsewhere"
        )
    if kept := {name: rows for name, rows in known.items() if name not in changed}:
        sys.stderr.write(
            f"{len(kept)} cells are known from '{results / gathering.RESULTS}' only, their runs are "
            "not here: they count as finished; without that file they would be run again\n"
        )
    return kept


def _refuse_or_delete_changed(places: Sequence[Place], redo: bool) -> None:
    """Cells that were begun with other settings: their numbers must not stand beside those of the others."""
    changed = [(place, words) for place in places if (words := difference(place)) is not None]
    if changed and not redo:
        lines = [f"  {place.cell.name}: {words}" for place, words in changed[:10]]
        more = f"\n  and {len(changed) - 10} more" if len(changed) > 10 else ""
        raise ValueError(
            f"{len(changed)} cells were run with other settings than the grid has now:\n"
            + "\n".join(lines)
            + more
            + "\n"
            "--redo deletes these cells and runs them again; --results keeps them and begins elsewhere"
        )
    for place, _ in changed:
        with claimed(place.directory) as right:
            if right is None:
                raise ValueError(f"--redo: another process works on {place.cell.name}; stop it first")
            shutil.rmtree(place.directory)


def _prepare(plan: Plan, results: Path, places: Sequence[Place], jobs: int, program: Sequence[str]) -> None:
    """Writes down what the grid is run with, and makes its datasets; one process at a time."""
    results.mkdir(parents=True, exist_ok=True)
    with FileLock(results / ".preparing.lock"):
        before = read_json(results / GRID, {"calls": []})
        call = {
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": ["lightning", *sys.argv[1:]],
            "jobs": jobs,
            "threads_per_cell": threads_per_cell(jobs),
            "versions": versions(),
            "code": code_version(),
            "hardware": hardware(),
        }
        cells = [{"name": cell.name, "command": command_line(cell)} for cell in plan.cells]
        grid = {"name": plan.name, "checkpoints": plan.checkpoints, "cells": cells}
        write_json(results / GRID, {**grid, "calls": [*before["calls"], call]})
        provide(needed(place.config for place in places), program)


def _report(plan: Plan, results: Path, known: Mapping[str, Sequence[gathering.Row]]) -> None:
    """Writes results.csv and prints the summary."""
    rows, others = gathering.gather(plan, results, known)
    if others:
        sys.stderr.write(f"left out, because they were run with other settings: {', '.join(others)}\n")
    if not rows:
        show("no cell is finished yet")
        return
    table = gathering.summary(rows, plan.name)
    Console(width=Console(width=10_000).measure(table).maximum).print(table)
    finished = len({row["run"] for row in rows})
    show(f"{finished} of {len(plan.cells)} cells: {gathering.write_results(rows, results)}")


def _leave(works: Sequence[Work]) -> None:
    """Says what is not done, and leaves with code 1 if there is any."""
    for work in works:
        if work.state == "failed":
            sys.stderr.write(f"failed: {work.place.cell.name}: {work.reason}\n  {work.place.log}\n")
        elif work.state == "elsewhere":
            sys.stderr.write(f"left to another process that works on it: {work.place.cell.name}\n")
    if any(work.state in ("failed", "elsewhere") for work in works):
        raise SystemExit(1)
