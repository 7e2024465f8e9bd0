"""How long training takes: all models of a grid, one after the other, in rounds, so that noise hits all alike.

    python benchmarks/training_speed.py --config configs/benchmark/embedded.yaml --task 3m-mixed --out speed.csv

Each model makes a few updates in each of its stages, with the options of the grid. Times are medians over rounds of the
mean time of an update; ``train_seconds`` is what the grid's own numbers of updates would take. Nothing else should run
meanwhile. Where ``--out`` exists, its rounds count, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from grid.cells import Place, command
from grid.gathering import SPEED, seconds_per_update, train_seconds
from grid.plan import Cell, read_plan

REFERENCE = "vgm2p"
STAGES = ("critic_updates", "credit_updates")
#: The shortest evaluation: it is what writes the times down.
CALLBACKS = [
    {"class_path": "callbacks.StageSwitch"},
    {
        "class_path": "callbacks.RolloutEvaluation",
        "init_args": {"episodes": 1, "every_n_updates": 0, "final_episodes": 1},
    },
]


def shortened(cell: Cell, updates: int) -> tuple[Cell, dict[str, int], int]:
    """A cell with so many updates in each stage.

    Args:
        cell: Of the grid.
        updates: In each stage.

    Returns:
        The cell; the lengths of its own stages before the policy's; its own updates of all stages.
    """
    options = dict(zip(cell.words[1::2], cell.words[2::2], strict=True))
    stages = {
        name: int(options[f"--model.init_args.{name}"]) for name in STAGES if f"--model.init_args.{name}" in options
    }
    own = int(options["--trainer.max_steps"])
    changed = options | {f"--model.init_args.{name}": str(updates) for name in stages}
    changed |= {"--trainer.max_steps": str(updates * (1 + len(stages))), "--trainer.callbacks": json.dumps(CALLBACKS)}
    changed |= {"--trainer.limit_val_batches": "1"}
    words = ["fit", *(word for pair in changed.items() for word in pair)]
    return Cell(cell.dataset, cell.model, cell.seed, tuple(words)), stages, own


def measure(cell: Cell, updates: int) -> dict[str, Any]:
    """Trains a cell for a moment.

    Args:
        cell: Of the grid.
        updates: In each stage.

    Returns:
        task, model, seconds of an update by stage, train_seconds.
    """
    short, stages, own = shortened(cell, updates)
    with tempfile.TemporaryDirectory() as directory:
        words = command(Place(short, Path(directory), {}), "fit")
        variables = {**os.environ, "WANDB_MODE": "disabled", "PYTHONPATH": os.getcwd()}
        done = subprocess.run(
            [sys.executable, "-m", "vgm2p_cli", *words], cwd=directory, env=variables, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{cell.name}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        speed = seconds_per_update(next(Path(directory).glob("runs/*/version_0/metrics.csv")))
    settings = {f"model.init_args.{name}": length for name, length in stages.items()}
    return {"task": cell.dataset, "model": cell.model, **speed, "train_seconds": train_seconds(speed, settings, own)}


def table(rounds: pd.DataFrame) -> str:
    """The medians as Markdown, the fastest first, as ratios to the reference, too."""
    lines = [f"| task | model | {' | '.join(SPEED)} | train_seconds | to {REFERENCE} | rounds |"]
    lines.append("|---|---|" + "---|" * (len(SPEED) + 3))
    for task, some in rounds.groupby("task", sort=False):
        found = some.groupby("model")[[*SPEED, "train_seconds"]].median().sort_values("train_seconds")
        unit = found["train_seconds"].get(REFERENCE, float("nan"))
        for model, row in found.iterrows():
            times = " | ".join("" if pd.isna(row[name]) else f"{row[name]:.4f}" for name in SPEED)
            many, ratio = int((some["model"] == model).sum()), row["train_seconds"] / unit
            lines.append(f"| {task} | {model} | {times} | {row['train_seconds']:.0f} | {ratio:.2f} | {many} |")
    return "\n".join(lines)


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the grid")
    parser.add_argument("--task", nargs="+", required=True, help="its datasets")
    parser.add_argument("--models", nargs="+", help="its models; by default all")
    parser.add_argument("--updates", type=int, default=150, help="in each stage")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="CSV file with a row for each model and round")
    options = parser.parse_args()
    cells = {}
    for cell in read_plan(options.config).cells:  # the first seed of each
        if cell.dataset in options.task and (options.models is None or cell.model in options.models):
            cells.setdefault((cell.dataset, cell.model), cell)
    if not cells:
        parser.error(f"expected datasets and models of {options.config}, got none of them")
    rows = pd.read_csv(options.out).to_dict("records") if options.out.is_file() else []
    for _ in range(options.rounds):
        for cell in cells.values():
            rows.append(measure(cell, options.updates))
            pd.DataFrame(rows).to_csv(options.out, index=False)
            print(rows[-1], flush=True)
    print(table(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
