"""The YAML file of a grid, and the cells that it asks for.

name: small                       # results go to runs/benchmark/small unless --results says otherwise
seeds: [0, 1, 2]
arguments:                        # options of `lightning fit` for every cell
  trainer.max_steps: 4000
datasets:
  3m:                             # any name; it is a directory's
    config: configs/smac.yaml
    arguments: {data.init_args.batch_size: 16}
models:
  vgm2p: {}                       # the model that the configuration has
  bc:
    config: configs/model/bc.yaml
    arguments: {model.init_args.learning_rate: 0.001}
    by_dataset:                   # options of this model on one dataset
      3m: {trainer.max_steps: 2000}
    policy: policy, mode          # row of the evaluation that stands for it; by default the policy as it acts
exclude: [3m/bc]                  # pairs that are not run; * stands for anything
checkpoints: [final, best]        # which weights are evaluated

Where several say something about the same option, the more special one counts: a model's options on one dataset before
the model's, those before the dataset's, those before the ones of all cells.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from grid.checks import SEED, file, known, list_of, mapping, options, plain_name

Checkpoint = Literal["final", "best"]
Options = Mapping[str, Any]
_MODEL_KEYS = ("config", "arguments", "by_dataset", "policy")


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Args:
        dataset: The dataset's name in the grid.
        model: The model's name in the grid.
        seed: Its seed.
        words: What follows ``lightning`` on its command line, beginning with ``fit``; paths as in the grid's file.
        policy: Which row of the evaluation stands for the model; None for the one that acts by default.
    """

    dataset: str
    model: str
    seed: int
    words: tuple[str, ...]
    policy: str | None = None

    @property
    def name(self) -> str:
        """``<dataset>/<model>/seed_<seed>``, which is also its directory."""
        return f"{self.dataset}/{self.model}/seed_{self.seed}"


@dataclass(frozen=True)
class Plan:
    """A grid.

    Args:
        name: What it is called.
        cells: Its cells: seed by seed, within a seed dataset by dataset, so that an early stop leaves whole seeds.
        checkpoints: Which weights of each run are evaluated: those at the end, or those that played best meanwhile.
    """

    name: str
    cells: tuple[Cell, ...]
    checkpoints: tuple[Checkpoint, ...]


def read_plan(path: Path) -> Plan:
    """Reads a grid from its YAML file.

    Args:
        path: The file; paths in it are taken from the current directory, as on a command line.

    Raises:
        FileNotFoundError: If it, or a configuration that it names, does not exist.
        ValueError: If it is no YAML, or says something that a grid does not understand.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--config: expected the YAML file of a grid, found no file '{path}'")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got {' '.join(str(error).split())}") from None
    try:
        return plan_of(content)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{path}: {error}") from None


def plan_of(content: Any) -> Plan:
    """The grid that the content of a file describes.

    Args:
        content: What a YAML parser made of it.

    Raises:
        FileNotFoundError: If a configuration that it names does not exist.
        ValueError: If it says something that a grid does not understand.
    """
    allowed = ("name", "seeds", "datasets", "models", "arguments", "exclude", "checkpoints")
    grid = mapping(content, "the grid", allowed, ("name", "seeds", "datasets", "models"))
    name = plain_name(grid["name"], "name")
    seeds = list_of(grid["seeds"], int, "seeds", "numbers such as [0, 1, 2]")
    datasets = {
        plain_name(key, "datasets"): mapping(value, f"datasets.{key}", ("config", "arguments"), ("config",))
        for key, value in mapping(grid["datasets"], "datasets").items()
    }
    models = {
        plain_name(key, "models"): mapping(value or {}, f"models.{key}", _MODEL_KEYS)
        for key, value in mapping(grid["models"], "models").items()
    }
    for key, model in models.items():
        where = f"models.{key}.by_dataset"
        known(mapping(model.get("by_dataset") or {}, where), datasets, where, "dataset")
    excluded = list_of(grid.get("exclude") or [], str, "exclude", "pairs such as [3m/omar]")
    pairs = [f"{dataset}/{model}" for dataset in datasets for model in models]
    for pattern in excluded:
        if not any(fnmatchcase(pair, pattern) for pair in pairs):
            raise ValueError(f"exclude: expected <dataset>/<model> of this grid, got '{pattern}', which is none")
    chosen = grid.get("checkpoints", list(get_args(Checkpoint)))
    checkpoints = list_of(chosen, str, "checkpoints", "[final], [best] or [final, best]")
    known(checkpoints, get_args(Checkpoint), "checkpoints", "checkpoint")
    common = options(grid.get("arguments"), "arguments")
    cells = tuple(
        _cell(common, (dataset, datasets[dataset]), (model, models[model]), seed)
        for seed in seeds
        for dataset in datasets
        for model in models
        if not any(fnmatchcase(f"{dataset}/{model}", pattern) for pattern in excluded)
    )
    if not cells:
        raise ValueError("expected at least one cell, got none: every pair is excluded, or a list is empty")
    return Plan(name, cells, tuple(checkpoints))


def select(cells: Iterable[Cell], pattern: str | None) -> list[Cell]:
    """Those cells whose names fit.

    Args:
        cells: All of them.
        pattern: A name or its beginning, such as ``3m``, ``3m/bc`` or ``*/bc/seed_0``; * stands for anything. None
            chooses all.

    Raises:
        ValueError: If none fits.
    """
    cells = list(cells)
    patterns = ("*",) if pattern is None else (pattern, f"{pattern}/*")
    chosen = [cell for cell in cells if any(fnmatchcase(cell.name, each) for each in patterns)]
    if not chosen:
        raise ValueError(
            f"--only: expected <dataset>/<model>/seed_<seed> or a pattern that fits one, got '{pattern}', which fits "
            f"none of {len(cells)} cells; --dry_run shows them"
        )
    return chosen


def _cell(common: Options, named_data: tuple[str, Options], named_model: tuple[str, Options], seed: int) -> Cell:
    """One cell, with its command line."""
    (dataset, data), (model, settings) = named_data, named_model
    here = f"models.{model}"
    special = options((settings.get("by_dataset") or {}).get(dataset), f"{here}.by_dataset.{dataset}")
    own = options(settings.get("arguments"), f"{here}.arguments") | special
    of_data = options(data.get("arguments"), f"datasets.{dataset}.arguments")
    everything = {**own, **of_data, **common} | of_data | own  # in the order of the first, with the values of the last
    words = ["fit", "--config", file(data["config"], f"datasets.{dataset}.config")]
    if settings.get("config") is not None:
        words += ["--model", file(settings["config"], f"{here}.config")]
    for option, value in everything.items():
        words += [f"--{option}", _word(value)]
    words += [f"--{SEED}", str(seed)]
    return Cell(dataset, model, seed, tuple(words), settings.get("policy"))


def _word(value: Any) -> str:
    """A value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)
