"""Cells that the stub runs, and what it left."""

import json
import sys
from pathlib import Path
from typing import Any

from grid.cells import Place
from grid.plan import Cell

STUB = (sys.executable, str(Path(__file__).with_name("stub.py")))


def place(root: Path, name: str = "d/m", seed: int = 0, config: dict[str, Any] | None = None, **options: Any) -> Place:
    """A cell of 40 updates."""
    dataset, model = name.split("/")
    given = {"trainer.max_steps": 40, **{key.replace("__", "."): value for key, value in options.items()}}
    words = [word for key, value in given.items() for word in (f"--{key}", str(value).lower())]
    cell = Cell(dataset, model, seed, ("fit", "--config", "x.yaml", *words, "--seed_everything", str(seed)))
    settings = {"trainer": {"max_steps": given["trainer.max_steps"]}, **(config or {})}
    return Place(cell, root / cell.name, settings)


def calls(place: Place) -> list[dict[str, Any]]:
    """What the stub was called with."""
    path = place.directory / "calls.json"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def steps(place: Place) -> list[str]:
    """The subcommands and checkpoints of those calls."""
    checkpoints = [dict(zip(each["words"][1::2], each["words"][2::2], strict=True)) for each in calls(place)]
    return [
        " ".join(filter(None, [each["words"][0], options.get("--ckpt_path")]))
        for each, options in zip(calls(place), checkpoints, strict=True)
    ]
