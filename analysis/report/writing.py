"""Writes a report: report.html and report.md, and beside them tables/*.csv, figures/*.svg and figures/*.png."""

from pathlib import Path

from analysis.report.blocks import Section, Words
from analysis.report.claims_section import claims_section
from analysis.report.material import Material, material
from analysis.report.overall import overall
from analysis.report.overview import headline, missing_cells, overview, remarks
from analysis.report.pages import Report, html, markdown
from analysis.report.provenance import runs, settings
from analysis.report.published_section import published_section
from analysis.report.sources import read_sources
from analysis.report.style import inline, styled, write
from analysis.report.tasks import tasks
from analysis.statistics import REPETITIONS
from whole_files import written_whole


def write_report(
    results: Path,
    out: Path | None = None,
    title: str | None = None,
    checkpoint: str = "final",
    repetitions: int = REPETITIONS,
) -> Path:
    """Writes the report of a grid.

    Args:
        results: Directory of the results, or results.csv.
        out: Directory of the report; by default ``report`` beside the results. What is there under the same names is
            replaced, anything else stays.
        title: Of the report; by default from the grid's name.
        checkpoint: Which weights count: ``final`` or ``best``.
        repetitions: Draws of each bootstrap.

    Returns:
        The page.

    Raises:
        FileNotFoundError: If there are no results.
        ValueError: If a file of the results is not what it should be, or holds nothing with these weights.
    """
    sources = read_sources(results)
    out = sources.directory / "report" if out is None else out
    with styled():
        report = _report(material(sources, checkpoint, repetitions), out, title)
        svgs = {}
        for drawing in report.drawings:
            files = (out / "figures" / f"{drawing.name}{suffix}" for suffix in (".svg", ".png"))
            with written_whole(next(files)) as svg, written_whole(next(files)) as png:
                text = write(drawing.figure, drawing.name, svg, png)
            svgs[drawing.name] = inline(drawing.figure, drawing.name, text, drawing.alt)
    for table in report.tables:
        with written_whole(out / "tables" / f"{table.name}.csv") as unfinished:
            table.frame.to_csv(unfinished, index=False, lineterminator="\n")
    for name, text in (("report.md", markdown(report)), ("report.html", html(report, svgs))):
        with written_whole(out / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    return out / "report.html"


def _report(found: Material, out: Path, title: str | None) -> Report:
    name = found.sources.grid.get("name") or found.sources.directory.resolve().name
    missing, claims = missing_cells(found), claims_section(found)
    sections = [
        *([missing] if missing else []),
        overview(found),
        overall(found),
        tasks(found),
        *([claims] if claims else []),
        published_section(found),
        settings(found),
        runs(found, out),
        _about(found),
    ]
    return Report(title or f"Results of {name}", headline(found), remarks(found), sections)


def _about(found: Material) -> Section:
    lines = (
        "Intervals are percentiles of a bootstrap that draws seeds anew within each task (Agarwal et al., "
        "arXiv:2108.13264); with few seeds they are too narrow.",
        f"{found.repetitions:,} draws with a fixed seed: the same results give the same report.",
        "Every table is a CSV file in tables/, with all digits and the directories of its runs; every figure is an SVG "
        "and a PNG file in figures/. report.md has the same content in Markdown.",
        "Made by lightning report from results.csv, grid.json, curves.csv and settings.csv, which are enough to make "
        "it again.",
    )
    return Section("about", "How to read and repeat this", (Words(lines, "list"),))
