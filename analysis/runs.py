"""Logged runs as tidy frames: one row for each run, checkpoint and policy; and curves, one row for each measurement.

Columns of results, in the units of the recording unless said otherwise:

task                what belongs together: the grid's name of the dataset, or dataset and quality
dataset, quality    what was learned from
model, algorithm    the grid's name of the model, and its class
policy, main        which policy was played, and whether it stands for the model
seed, checkpoint    the run's seed; final or best weights
return              mean over the episodes; return_error, return_std, return_iqm belong to it
score               100 (return - random) / (expert - random); empty where no references are known
won                 share of episodes won, from 0 to 1; empty where nothing is won
length, ms_per_decision, calls_per_decision, parameters, lost, episodes
updates             behind the weights; *_seconds_per_update by stage; train_seconds of all updates; wall_seconds of
                    the whole cell, with evaluations
commit, changed_files, run      where the number comes from
origin              "ours"; published numbers have another one (:mod:`analysis.published`)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.main_policy import main_policy

OURS = "ours"
NUMBERS = (
    *("return", "return_error", "return_std", "return_iqm", "score", "won", "length", "ms_per_decision"),
    *("calls_per_decision", "parameters", "lost", "episodes", "updates", "critic_seconds_per_update"),
    *("credit_seconds_per_update", "policy_seconds_per_update", "train_seconds", "wall_seconds"),
)
TEXTS = ("task", "dataset", "quality", "model", "algorithm", "policy", "checkpoint", "commit", "run")
COLUMNS = (*TEXTS, "main", "seed", *NUMBERS, "changed_files", "origin")
CURVE_COLUMNS = ("task", "model", "seed", "update", "metric", "value", "run", "origin")
#: Columns of evaluation.csv that have another name in a frame.
_RENAMED = {
    "± s.e.": "return_error",
    "std": "return_std",
    "IQM": "return_iqm",
    "ms per decision": "ms_per_decision",
    "calls per decision": "calls_per_decision",
}


def read_results(path: Path) -> pd.DataFrame:
    """The results of a grid.

    Args:
        path: results.csv, or the directory that it lies in.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no results.csv of ``lightning benchmark``.
    """
    file = path / "results.csv" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"expected the results.csv of a grid, found no file '{file}'; lightning benchmark --config GRID --gather "
            "writes it"
        )
    frame = pd.read_csv(file, dtype={column: "str" for column in TEXTS})
    missing = [column for column in COLUMNS if column not in frame.columns and column != "origin"]
    if missing:
        raise ValueError(
            f"expected the results.csv of a grid in '{file}', got a table without {', '.join(missing)}; "
            "lightning benchmark --config GRID --gather writes it anew"
        )
    return tidy(frame)


def read_run(directory: Path) -> pd.DataFrame:
    """The results of a single run, as ``lightning fit`` leaves it.

    Args:
        directory: Such as runs/smac/version_0.

    Raises:
        FileNotFoundError: If it has no evaluation.csv or no config.yaml.
    """
    table, config = _file(directory, "evaluation.csv"), _configuration(directory)
    frame = pd.read_csv(table).rename(columns=_RENAMED)
    name = main_policy(list(frame["policy"]), config["model"].get("init_args") or {})
    described = _identity(config) | {"checkpoint": "final", "updates": config["trainer"].get("max_steps")}
    return tidy(frame.assign(**described, main=frame["policy"] == name, run=str(directory)))


def read_curves(
    runs: pd.DataFrame, results: Path | None = None, metrics: Sequence[str] = ("eval/return_mean",)
) -> pd.DataFrame:
    """What runs logged while they trained.

    Args:
        runs: Results; each run is read once.
        results: Directory that the column ``run`` starts from; by default the current one.
        metrics: Names of the metrics.

    Returns:
        One row for each run, update and metric, with ``CURVE_COLUMNS``; updates count from 1.

    Raises:
        FileNotFoundError: If a run has no metrics.csv.
    """
    parts = [pd.DataFrame(columns=list(CURVE_COLUMNS))]
    for _, row in runs.drop_duplicates("run").iterrows():
        file = _file((results or Path()) / row["run"], "metrics.csv")
        logged = pd.read_csv(file, low_memory=False)
        for metric in (name for name in metrics if name in logged.columns):
            values = logged[["step", metric]].dropna().rename(columns={"step": "update", metric: "value"})
            values["update"] += 1
            same = {name: row[name] for name in ("task", "model", "seed", "run", "origin")}
            parts.append(values.assign(metric=metric, **same)[list(CURVE_COLUMNS)])
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def main_rows(frame: pd.DataFrame, checkpoint: str = "final") -> pd.DataFrame:
    """One row for each run: the policy that stands for the model, with certain weights.

    Args:
        frame: Results.
        checkpoint: ``final`` or ``best``.

    Raises:
        ValueError: If there are none with these weights.
    """
    chosen = frame[frame["main"] & (frame["checkpoint"] == checkpoint)]
    if chosen.empty:
        there = sorted(frame["checkpoint"].dropna().unique())
        raise ValueError(f"expected results with the checkpoint '{checkpoint}', got those with {there} only")
    return chosen


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """All columns, in order and of their types; those that are missing are empty, those that are unknown are dropped.

    Args:
        frame: Results with any of ``COLUMNS``.
    """
    frame = frame.reindex(columns=list(COLUMNS))
    for column in NUMBERS:
        frame[column] = pd.to_numeric(frame[column]).astype(float)
    frame["seed"] = pd.to_numeric(frame["seed"]).astype("Int64")
    frame["main"] = frame["main"].astype(bool)
    frame["origin"] = frame["origin"].astype(object).fillna(OURS)
    return frame


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """What a run's configuration says about it."""
    data = config["data"]["init_args"]
    algorithm = str(config["model"]["class_path"]).rpartition(".")[2]
    return {
        "task": f"{data['dataset']} {data['quality']}",
        "dataset": data["dataset"],
        "quality": data["quality"],
        "model": algorithm,
        "algorithm": algorithm,
        "seed": config["seed_everything"],
    }


def _configuration(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(_file(directory, "config.yaml").read_text())
    return loaded


def _file(directory: Path, name: str) -> Path:
    if not (directory / name).is_file():
        raise FileNotFoundError(
            f"expected the directory of a finished run, such as runs/smac/version_0, found no '{directory / name}'"
        )
    return directory / name
