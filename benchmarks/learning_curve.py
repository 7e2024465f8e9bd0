"""Draws the return over updates of one or more runs, with the data's and cloning's returns as lines.

python benchmarks/learning_curve.py runs/smac/version_* --out docs/learning_curve.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

CURVE = "eval/return_mean"
LINES = {"the data": ("black", "--"), "cloning (null condition)": ("tab:orange", ":")}


def main() -> None:
    """Reads metrics.csv and evaluation.csv of every run directory named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run directories, for example runs/smac/version_0")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--title", default="")
    options = parser.parse_args()
    tables = []
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for run in options.runs:
        curve = pd.read_csv(run / "metrics.csv").dropna(subset=[CURVE])
        axes.plot(curve["step"] + 1, curve[CURVE], marker="o", markersize=3, label=f"policy, {run.name}")
        tables.append(pd.read_csv(run / "evaluation.csv").set_index("policy"))
    mean = pd.concat(tables).groupby(level=0)["return"].mean()
    for row, (colour, style) in LINES.items():
        axes.axhline(mean[row], color=colour, linestyle=style, label=f"{row}: {mean[row]:.2f}")
    axes.set(xlabel="updates of all stages", ylabel="return", title=options.title)
    axes.legend(fontsize=8)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=130)


if __name__ == "__main__":
    main()
