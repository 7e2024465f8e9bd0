"""What a report is made of, before it becomes HTML, Markdown and CSV: sections of text, lists, tables and drawings."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

NOTHING = "–"
#: From a row of a frame to what a reader sees of it.
Shown = Callable[[pd.Series], "Cell"]


@dataclass(frozen=True)
class Cell:
    """What a reader sees in a table.

    Args:
        text: The words.
        link: Where a click leads: an anchor of the page, or a path that starts at the report's directory.
        strong: For the best.
        code: For what is typed.
        anchor: Its name in links.
    """

    text: str
    link: str | None = None
    strong: bool = False
    code: bool = False
    anchor: str | None = None


@dataclass(frozen=True)
class Head:
    """The head of a column.

    Args:
        text: The words.
        number: Whether the column is aligned as numbers are.
    """

    text: str
    number: bool = True


@dataclass(frozen=True)
class Table:
    """A table, of which each row begins with its name.

    Args:
        name: Stem of its CSV file.
        caption: What it shows, in plain words.
        heads: One for each column.
        rows: Cells, as many as heads.
        frame: The same numbers, unrounded, for the CSV file.
    """

    name: str
    caption: str
    heads: Sequence[Head]
    rows: Sequence[Sequence[Cell]]
    frame: pd.DataFrame


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Args:
        name: Stem of its files.
        alt: What is to be seen, for who cannot see it.
        figure: Of matplotlib.
    """

    name: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class Gallery:
    """Figures side by side, as many in a row as the screen has room for.

    Args:
        caption: One for all.
        drawings: The figures.
        first_is_tall: Whether the first one is as high as two of the others.
    """

    caption: str
    drawings: Sequence[Drawing]
    first_is_tall: bool = False


@dataclass(frozen=True)
class Words:
    """Paragraphs of a kind: ``p``, ``list`` or ``warning`` (a list that must be seen)."""

    lines: Sequence[str]
    kind: str = "p"


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Args:
        anchor: Its name in links.
        title: Its heading.
        parts: What it holds, in order; a section among them is one level lower.
        folded: Whether it is closed until a reader opens it.
    """

    anchor: str
    title: str
    parts: Sequence["Words | Table | Gallery | Section"] = field(default=())
    folded: bool = False


def table_of(name: str, caption: str, frame: pd.DataFrame, columns: Sequence[tuple[Head, Shown]]) -> Table:
    """A table of a frame: what each column shows of a row.

    Args:
        name: Stem of its CSV file.
        caption: What it shows.
        frame: One row for each row.
        columns: Heads, and what stands below them.
    """
    rows = [[shown(row) for _, shown in columns] for _, row in frame.iterrows()]
    return Table(name, caption, [head for head, _ in columns], rows, frame)


def number(value: float | None, digits: int = 4) -> str:
    """A number with about so many digits, never in powers of ten between a thousandth and a million.

    Args:
        value: A number; a dash if there is none.
        digits: Digits that count; all those before the point are shown.
    """
    if value is None or pd.isna(value):
        return NOTHING
    value = float(value)
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    behind = max(0, digits - 1 - max(math.floor(math.log10(abs(value))), 0))
    if abs(value) < 10.0**-behind:
        return f"{value:.{max(digits - 2, 1)}g}"
    return f"{value:,.{behind}f}"


def count(value: float | None) -> str:
    """A whole number, or a dash."""
    return NOTHING if value is None or pd.isna(value) else f"{round(float(value)):,}"


def share(value: float | None) -> str:
    """A share as percent, or a dash."""
    return NOTHING if value is None or pd.isna(value) else f"{100 * float(value):.1f} %"


def between(low: float, high: float, digits: int = 4) -> str:
    """An interval, or a dash."""
    return NOTHING if pd.isna(low) or pd.isna(high) else f"[{number(low, digits)}, {number(high, digits)}]"


def plain(name: str) -> str:
    """A name that can be that of a file or an anchor, whatever it was made of."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "unnamed"


def plain_names(names: Sequence[str]) -> dict[str, str]:
    """As ``plain``, and different for different names."""
    found: dict[str, str] = {}
    for name in names:
        wanted = made = plain(name)
        again = 2
        while made.lower() in {other.lower() for other in found.values()}:
            made, again = f"{wanted}-{again}", again + 1
        found[name] = made
    return found


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def several(many: int, one: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{many:,} {one}" if many == 1 else f"{many:,} {one}s"
