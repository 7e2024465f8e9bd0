"""How models look in figures, the same in all of them, and how figures become text."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0060a8", "#c44e00", "#007d5a", "#a03070", "#6a4fb0", "#7d6000", "#b0202a", "#404040")  # dark on white
LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "d")
GREY = "#c8c8c8"
WIDTH = 4.6  # inches; two figures stand side by side on a wide screen, one fills a phone
GROUP = 6  # models that one panel can tell apart
_SETTINGS: Any = {  # matplotlib spells out the type of its keys
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#606060",
    "axes.labelcolor": "#202020",
    "text.color": "#202020",
    "text.parse_math": False,  # a model may be called $x$
    "svg.fonttype": "none",  # letters stay letters
    "legend.frameon": False,
    "figure.dpi": 100,
}


class Look(NamedTuple):
    """How a model is drawn."""

    colour: str
    line: Any
    marker: str


def looks(models: Sequence[str]) -> dict[str, Look]:
    """A look for each model; no two of 24 are the same.

    Args:
        models: In order; neighbours differ in colour and marker.
    """
    return {
        model: Look(COLOURS[i % len(COLOURS)], LINES[i // len(COLOURS) % len(LINES)], MARKERS[i % len(MARKERS)])
        for i, model in enumerate(models)
    }


@contextmanager
def styled() -> Iterator[None]:
    """Within it, figures are drawn and written in the style of the report."""
    with mpl.rc_context(_SETTINGS):
        yield


def panel(height: float = 3.4, width: float = WIDTH) -> tuple[Figure, Axes]:
    """A figure with one pair of axes.

    Args:
        height: In inches.
        width: In inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def groups(models: Sequence[str]) -> list[list[str]]:
    """Models in as many panels as are needed to tell them apart, of about equal numbers."""
    panels = -(-len(models) // GROUP)
    size = -(-len(models) // max(panels, 1))
    return [list(models[start : start + size]) for start in range(0, len(models), max(size, 1))]


def write(figure: Figure, name: str, svg: Path, png: Path) -> str:
    """Writes a figure.

    Args:
        figure: The figure.
        name: Its name; the same figure of the same name gives the same files.
        svg: The one file.
        png: The other file.

    Returns:
        What is in the SVG file.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg.write_text(buffer.getvalue(), encoding="utf-8")
    figure.set_layout_engine("none")  # everything has its place now, and need not be placed again
    figure.savefig(png, format="png", dpi=160)
    return buffer.getvalue()


def inline(figure: Figure, name: str, svg: str, alt: str) -> str:
    """A figure as an ``svg`` element that can stand in a page among others: no prologue, no address, names of its own.

    Args:
        figure: The figure.
        name: What its inner names begin with; unique in the page.
        svg: What is in its SVG file.
        alt: What is to be seen.
    """
    text = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", text)
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}.", text)
    width = figure.get_figwidth() * 96
    least = f";min-width:{0.75 * width:.0f}px" if width > 1.2 * WIDTH * 96 else ""  # wide ones scroll on a phone
    text = re.sub(r'\swidth="[^"]*pt"', f' style="max-width:{width:.0f}px{least}"', text, count=1)
    text = re.sub(r'\sheight="[^"]*pt"', "", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{_attribute(alt)}"', 1).strip()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
