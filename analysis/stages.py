"""The stages of a run: where one ends and the next begins, and what was logged in each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

#: In which stage a loss is trained, by the beginning of its name.
_STAGES = {"value": "critic", "q": "critic", "credit": "credit", "policy": "policy"}


class Span(NamedTuple):
    """A stage and its updates: the first one counts as 1, ``last`` belongs to it."""

    stage: str
    first: int
    last: int


def stages(directory: Path) -> list[Span]:
    """The stages of a run, from its configuration.

    Args:
        directory: Such as runs/matrix/version_0.

    Returns:
        ``critic``, ``credit`` (with local credit only) and ``policy``; one of the name ``train`` for an algorithm that
        learns everything at once.

    Raises:
        FileNotFoundError: If it has no config.yaml.
    """
    file = directory / "config.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"expected the directory of a run, such as runs/matrix/version_0, found no '{file}'")
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    options, end = config["model"].get("init_args") or {}, int(config["trainer"]["max_steps"])
    if "critic_updates" not in options:
        return [Span("train", 1, end)]
    critic = int(options["critic_updates"])
    credit = int(options["credit_updates"]) if options.get("credit") == "local" else 0
    spans = [Span("critic", 1, critic), Span("credit", critic + 1, critic + credit)]
    return [span for span in [*spans, Span("policy", critic + credit + 1, end)] if span.first <= span.last]


def within_stages(curves: pd.DataFrame, spans: Sequence[Span]) -> pd.DataFrame:
    """Losses of the stages in which they are trained.

    Lightning goes on to log the last value of a loss until the epoch ends, also when its stage is over.

    Args:
        curves: Rows with ``metric`` and ``update`` (:func:`analysis.runs.read_curves`).
        spans: What :func:`stages` gives.

    Returns:
        The rows of losses ``train/..._loss`` and ``val/..._loss`` inside their stage, and all rows of other metrics.
    """
    bounds = {span.stage: (span.first, span.last) for span in spans}
    parts = []
    for metric, some in curves.groupby("metric", sort=False):
        kind, _, name = str(metric).partition("/")
        stage = _STAGES.get(name.split("_")[0]) if kind in ("train", "val") and name.endswith("_loss") else None
        first, last = bounds.get(str(stage), (0, float("inf")))
        parts.append(some[some["update"].between(first, last)])
    return pd.concat(parts, ignore_index=True) if parts else curves
