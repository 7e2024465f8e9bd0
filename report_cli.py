"""``lightning report``: the results of a grid as a page to look at; ``analysis/report`` makes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from data_cli import parser_of, show


def report(
    results: Path, out: Path | None = None, title: str | None = None, checkpoint: Literal["final", "best"] = "final"
) -> Path:
    """Writes a report of the results of 'lightning benchmark': tables, figures, costs, settings, sources.

    report.html needs nothing else and no network. Beside it lie report.md, tables/ with a CSV file for each table and
    figures/ with each figure as SVG and PNG. A grid that is not finished gives a report that names what is missing.
    Where the directories of the runs are there, curves.csv and settings.csv are written beside results.csv; these and
    grid.json are then enough for the same report without the runs.

    Args:
        results: Directory of the results, for example runs/benchmark/embedded, or a results.csv.
        out: Directory of the report; by default report/ beside the results.
        title: Title; by default from the grid's name.
        checkpoint: Which weights count: the final ones, or the best ones, which were chosen by playing.

    Returns:
        The page.

    Raises:
        FileNotFoundError: If there are no results.
        ImportError: If pandas, matplotlib or Jinja are not installed.
        ValueError: If a file of the results is not what it should be, or holds nothing with these weights.
    """
    try:
        from analysis.report import write_report  # not above: training must not need these packages
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("pandas", "matplotlib", "jinja2", "markupsafe"):
            raise
        raise ImportError(f"a report needs {error.name}: pip install -e '.[figures]'") from error
    return write_report(results, out, title, checkpoint)


def run(words: Sequence[str]) -> None:
    """Runs the command.

    Args:
        words: What follows ``lightning report`` on the command line.

    Raises:
        SystemExit: With code 2 if the words cannot be understood.
    """
    parser = parser_of(report)
    parser.prog = "lightning report"
    show(str(report(**parser.instantiate(parser.parse_args(list(words))).as_dict())))
