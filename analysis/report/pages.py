"""A report as one HTML page and as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.report.blocks import Cell, Drawing, Gallery, Section, Table, Words


@dataclass(frozen=True)
class Report:
    """A whole report.

    Args:
        title: Its title.
        headline: What was run.
        remarks: What must be known before the numbers.
        sections: The rest.
    """

    title: str
    headline: str
    remarks: Sequence[str]
    sections: Sequence[Section]

    def parts(self) -> "Iterator[Words | Table | Gallery | Section]":
        """All parts of all sections, in order."""
        waiting: list[Words | Table | Gallery | Section] = list(self.sections)
        while waiting:
            part = waiting.pop(0)
            yield part
            if isinstance(part, Section):
                waiting = [*part.parts, *waiting]

    @property
    def tables(self) -> list[Table]:
        """All tables."""
        return [part for part in self.parts() if isinstance(part, Table)]

    @property
    def drawings(self) -> list[Drawing]:
        """All figures."""
        return [drawing for part in self.parts() if isinstance(part, Gallery) for drawing in part.drawings]


def html(report: Report, svgs: Mapping[str, str]) -> str:
    """The page: self-contained, without scripts; whatever comes from the results is escaped.

    Args:
        report: The report.
        svgs: The figures as ``svg`` elements, by name.
    """
    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["section"] = lambda part: isinstance(part, Section)
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["gallery"] = lambda part: isinstance(part, Gallery)
    style = environment.get_template("report.css").render()
    drawn = {name: Markup(text) for name, text in svgs.items()}
    return environment.get_template("report.html").render(report=report, svgs=drawn, style=Markup(style)) + "\n"


def markdown(report: Report) -> str:
    """The same in Markdown, with the figures as files.

    Args:
        report: The report.
    """
    lines = [f"# {_escaped(report.title)}", "", _escaped(report.headline), ""]
    lines += [f"- {_escaped(line)}" for line in report.remarks]
    for section in report.sections:
        lines += _section(section, level=2)
    return "\n".join(lines) + "\n"


def _section(section: Section, level: int) -> list[str]:
    lines = ["", f"{'#' * level} {_escaped(section.title)}", ""]
    for part in section.parts:
        if isinstance(part, Section):
            lines += _section(part, level + 1)
        elif isinstance(part, Table):
            lines += [
                _escaped(part.caption),
                "",
                *_table(part),
                "",
                f"[tables/{part.name}.csv](tables/{part.name}.csv)",
                "",
            ]
        elif isinstance(part, Gallery):
            lines += [f"![{_escaped(each.alt)}](figures/{each.name}.png)" for each in part.drawings]
            lines += ["", _escaped(part.caption), ""]
        else:
            lines += [f"- {_escaped(line)}" if part.kind == "list" else f"{_escaped(line)}\n" for line in part.lines]
    return lines


def _table(table: Table) -> list[str]:
    heads = " | ".join(_escaped(head.text) for head in table.heads)
    rule = "|".join("---:" if head.number else "---" for head in table.heads)
    rows = [" | ".join(_entry(cell) for cell in row) for row in table.rows]
    return [f"| {heads} |", f"|{rule}|", *(f"| {row} |" for row in rows)]


def _entry(cell: Cell) -> str:
    if cell.code:
        return f"`{cell.text.replace('`', '').replace('|', chr(92) + '|')}`" if cell.text else ""
    return f"**{_escaped(cell.text)}**" if cell.strong else _escaped(cell.text)


def _escaped(text: str) -> str:
    """Text in which nothing is Markdown or HTML that could do harm."""
    for letter in ("\\", "|", "`", "*", "[", "]"):
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
