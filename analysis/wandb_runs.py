"""Runs that were logged to Weights & Biases, through its public interface, as the same frames as runs on disk."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.main_policy import main_policy
from analysis.runs import CURVE_COLUMNS, OURS, tidy

AXIS = "trainer/global_step"
#: Metrics of ``eval/<policy>/<metric>`` by the columns that they go to.
METRICS = {
    "return_mean": "return",
    "return_std": "return_std",
    "return_iqm": "return_iqm",
    "normalised_score": "score",
    "win_rate": "won",
    "episode_length": "length",
    "ms_per_decision": "ms_per_decision",
    "network_calls": "calls_per_decision",
    "parameters": "parameters",
    "lost_episodes": "lost",
}


def wandb_results(project: str, filters: Mapping[str, Any] | None = None, api: Any = None) -> pd.DataFrame:
    """The final tables of a project's finished runs.

    Standard errors, times and commits are not logged there: those columns are empty.

    Args:
        project: ``<entity>/<project>``.
        filters: Which runs, in the language of the service, for example ``{"group": "3m"}``; by default all.
        api: A ``wandb.Api``; by default a new one, with the login of the user.

    Returns:
        Results as :mod:`analysis.runs` describes them; ``run`` is the address of the run.

    Raises:
        ImportError: If wandb is not installed.
        ValueError: If no run is finished.
    """
    rows: list[dict[str, Any]] = []
    for run in _finished(project, filters, api):
        policies: dict[str, dict[str, Any]] = {}
        for key, value in dict(run.summary).items():
            prefix, _, metric = key.rpartition("/")
            if metric in METRICS and prefix.startswith("eval/"):
                policies.setdefault(prefix.removeprefix("eval/"), {})[METRICS[metric]] = value
        name = main_policy(list(policies), run.config)
        same = {**_identity(run), "checkpoint": "final", "updates": run.summary.get(AXIS)}
        rows += [{**same, "policy": policy, "main": policy == name, **found} for policy, found in policies.items()]
    return tidy(pd.DataFrame(rows))


def wandb_curves(
    project: str,
    metrics: Sequence[str] = ("eval/return_mean",),
    filters: Mapping[str, Any] | None = None,
    api: Any = None,
) -> pd.DataFrame:
    """What a project's finished runs logged while they trained, every point of it.

    Args:
        project: ``<entity>/<project>``.
        metrics: Names of the metrics.
        filters: As for ``wandb_results``.
        api: As for ``wandb_results``.

    Returns:
        Curves as :func:`analysis.runs.read_curves` gives them.
    """
    rows = [
        {
            **{name: value for name, value in _identity(run).items() if name in CURVE_COLUMNS},
            "update": int(point[AXIS]) + 1,
            "metric": metric,
            "value": float(point[metric]),
            "origin": OURS,
        }
        for run in _finished(project, filters, api)
        for metric in metrics
        for point in run.scan_history(keys=[AXIS, metric])
    ]
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def _finished(project: str, filters: Mapping[str, Any] | None, api: Any) -> Iterator[Any]:
    """The finished training runs of a project; unfinished ones are named in a warning, those of tests left out."""
    if api is None:
        try:
            import wandb
        except ImportError as error:
            raise ImportError("reading runs from Weights & Biases needs wandb: pip install -e '.[wandb]'") from error
        api = wandb.Api()
    found = api.runs(project, filters=dict(filters or {}))
    runs = [run for run in found if run.config.get("stage", "fit") == "fit"]  # tests play weights of other runs
    left_out = [f"{run.name} ({run.state})" for run in runs if run.state != "finished"]
    if len(left_out) == len(runs):
        raise ValueError(
            f"expected finished runs in '{project}', got {', '.join(left_out) or 'none'}; offline runs are uploaded by "
            "wandb sync"
        )
    if left_out:
        warnings.warn(f"left out, because they are not finished: {', '.join(left_out)}", stacklevel=3)
    yield from (run for run in runs if run.state == "finished")


def _identity(run: Any) -> dict[str, Any]:
    """Who did what; a run of a grid also says so by its group, the task, and its name, which begins with the model."""
    missing = [key for key in ("algorithm", "dataset", "quality", "seed") if key not in run.config]
    if missing:
        raise ValueError(
            f"expected {', '.join(missing)} in the configuration of {run.url}, found none; callbacks.RunMetadata "
            "writes them, has it been among trainer.callbacks?"
        )
    config = run.config
    return {
        "task": config.get("task") or run.group or f"{config['dataset']} {config['quality']}",
        "dataset": config["dataset"],
        "quality": config["quality"],
        "model": config.get("model_name") or (str(run.name).partition("/")[0] if run.group else config["algorithm"]),
        "algorithm": config["algorithm"],
        "seed": config["seed"],
        "run": run.url,
    }
