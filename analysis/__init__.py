"""From what was recorded and logged to figures and statistics."""

from analysis.returns import histogram_figure, histogram_text

__all__ = ["histogram_figure", "histogram_text"]
