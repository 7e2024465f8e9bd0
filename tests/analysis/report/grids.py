"""Small grids as ``lightning benchmark`` leaves them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.runs import COLUMNS


def row(task: str, model: str, seed: int, value: float, **changes: Any) -> dict[str, Any]:
    """A row of results.csv."""
    return {
        "task": task,
        "dataset": "embedded/smax/3m",
        "quality": "Mixed",
        "model": model,
        "algorithm": model.upper(),
        "policy": "policy",
        "main": True,
        "seed": seed,
        "checkpoint": "final",
        "return": value,
        "score": 10 * value,
        "episodes": 256,
        "updates": 3000,
        "policy_seconds_per_update": 0.02,
        "wall_seconds": 90,
        "ms_per_decision": 1 + value,
        "commit": "abc",
        "changed_files": False,
        "run": f"{task}/{model}/seed_{seed}/runs/x/version_0",
        **changes,
    }


def write(directory: Path, rows: Sequence[Mapping[str, Any]], cells: Sequence[str] = ()) -> Path:
    """Writes results.csv, and grid.json if cells are named; gives the directory."""
    columns = [name for name in COLUMNS if name != "origin"]
    directory.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_csv(directory / "results.csv", index=False)
    if cells:
        named = [{"name": name, "command": f"lightning fit --name {name}"} for name in cells]
        (directory / "grid.json").write_text(json.dumps({"name": "small", "cells": named, "calls": []}))
    return directory


def two_models(task: str = "a") -> list[dict[str, Any]]:
    """x: 1, 2, 3 and y: 5, 7 on a task, with what the data earned."""
    rows = [row(task, "x", seed, value) for seed, value in enumerate((1.0, 2.0, 3.0))]
    rows += [row(task, "y", seed, value, policy_seconds_per_update=0.01) for seed, value in enumerate((5.0, 7.0))]
    rows.append(row(task, "x", 0, 2.5, policy="the data", main=False, episodes=4000))
    return rows
