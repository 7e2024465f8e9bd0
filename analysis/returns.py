"""How the returns of a recording are distributed: as a figure, and as text for a terminal."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCKS = " ▏▎▍▌▋▊▉█"  # eighths of a character


def histogram_text(returns: NDArray[np.float64], bins: int = 12, width: int = 40) -> str:
    """A histogram in characters, one line for each bin.

    Args:
        returns: Return of each episode, (E,), at least one, finite.
        bins: Number of bins of equal width, at least 1.
        width: Characters of the longest bar, at least 1.

    Returns:
        Lines of lower limit, bar and number of episodes; the last bin includes its upper limit.

    Raises:
        ValueError: If there are no returns, or one is not finite.
    """
    counts, edges = np.histogram(_checked(returns), bins)
    lines = []
    for lower, upper, count in zip(edges, edges[1:], counts, strict=False):
        eighths = round(8 * width * int(count) / int(counts.max()))
        bar = BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8].strip()
        lines.append(f"{lower:10.4g} to {upper:<10.4g} {bar.ljust(width)} {count:,}")
    return "\n".join(lines)


def histogram_figure(returns: NDArray[np.float64], title: str, path: Path) -> None:
    """Draw a histogram of returns, with their mean.

    Args:
        returns: Return of each episode, (E,), at least one, finite.
        title: What was recorded.
        path: File to write; its ending, for example .png or .svg, decides the format.

    Raises:
        ValueError: If there are no returns, or one is not finite, or matplotlib does not know the format.
        ImportError: If matplotlib is not installed.
    """
    _checked(returns)
    try:
        from matplotlib.figure import Figure  # not pyplot, which would look for a screen
    except ImportError as error:
        raise ImportError("a figure needs matplotlib: pip install -e '.[figures]'") from error
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(returns, bins=50, color="#4878a8")
    axes.axvline(float(returns.mean()), color="black", linestyle="--", label=f"mean {returns.mean():.4g}")
    axes.set(title=title, xlabel="return of an episode", ylabel="episodes")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _checked(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(returns) or not np.isfinite(returns).all():
        raise ValueError(
            f"expected at least one return, all finite, got {len(returns)} with "
            f"{int((~np.isfinite(returns)).sum())} that are not; see: lightning data verify"
        )
    return returns
