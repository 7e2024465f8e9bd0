"""Everything that a grid of runs says, as one page: ``lightning report``."""

from analysis.report.writing import write_report

__all__ = ["write_report"]
