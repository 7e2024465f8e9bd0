"""The configurations of many runs in few lines: what all have in common is said once."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

#: Where things lie, what the run's seed decides, and what the data decides.
LEFT_OUT = (
    *("seed_everything", "config", "ckpt_path", "weights_only", "trainer.logger", "data.init_args.seed"),
    *("data.init_args.root", "data.init_args.cache_dir", "model.__path__"),
    *(f"model.init_args.{name}" for name in ("n_agents", "obs_dim", "state_dim", "action_dim", "discrete")),
)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, ten times as fast, where it was compiled


def read_settings(runs: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """The settings of runs, from their config.yaml, which differ between seeds in the seed only.

    Args:
        runs: One row for each task and model.
        directory: What the column ``run`` starts from.

    Returns:
        As ``summarised``.
    """
    known = {}
    for _, row in runs.iterrows():
        config = yaml.load((directory / row["run"] / "config.yaml").read_text(), _LOADER)
        known[str(row["task"]), str(row["model"])] = dict(_flat(config))
    return summarised(known)


def summarised(known: Mapping[tuple[str, str], Mapping[str, str]]) -> pd.DataFrame:
    """Settings of pairs of task and model, each said as rarely as possible.

    Args:
        known: By task and model: values by the name of the setting.

    Returns:
        task, model, setting, value, ordered. A row without task and model holds for all pairs that have the setting
        (if several models have it), one without task for all tasks of a model, one without model for all models of a
        task that have the setting.
    """
    found: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for pair, values in known.items():
        for setting, value in values.items():
            found[setting][pair] = value
    rows = []
    for setting, pairs in found.items():
        if len(set(pairs.values())) == 1 and len({model for _, model in pairs}) > 1:
            rows.append(("", "", setting, next(iter(pairs.values()))))
            continue
        rows += [(task, model, setting, value) for (task, model), value in _shortest(pairs).items()]
    frame = pd.DataFrame(rows, columns=["task", "model", "setting", "value"])
    return frame.sort_values(["model", "task", "setting"], kind="stable", ignore_index=True)


def _shortest(pairs: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """A setting by model, or by task, whichever takes fewer rows."""
    ways = [dict(_grouped(pairs, axis)) for axis in (1, 0)]
    return min(ways, key=len)


def _grouped(pairs: Mapping[tuple[str, str], str], axis: int) -> Iterator[tuple[tuple[str, str], str]]:
    groups: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for pair, value in pairs.items():
        groups[pair[axis]][pair] = value
    for name, some in groups.items():
        if len(set(some.values())) == 1:
            yield (("", name) if axis else (name, "")), next(iter(some.values()))
        else:
            yield from some.items()


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and text; entries of a list of settings are numbered."""
    if prefix.startswith(LEFT_OUT):
        return
    if isinstance(config, Mapping) and config:
        items: Any = config.items()
    elif isinstance(config, list) and any(isinstance(each, Mapping) for each in config):
        items = enumerate(config)
    else:
        yield prefix, config if isinstance(config, str) else json.dumps(config)
        return
    for key, value in items:
        yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
