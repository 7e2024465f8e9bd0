"""Results of configs/benchmark/claims.yaml as tables: coefficients, network calls, variants.

A model of that grid is called ``<algorithm>+<option>+<value>``; one without a plus is the algorithm as configured.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.runs import main_rows
from analysis.statistics import REPETITIONS, Array, bootstrap, check_one_origin, mean, values_of
from analysis.tables import difference_p

OURS = "vgm2p"
CLONE = "meanflow_bc"
#: Rows of an evaluation that are the same weights with another value of an option.
_PLAYED = {"guidance_scale": r"policy, w = ([0-9.]+)", "sampling_steps": r"policy, ([0-9]+) steps"}


class Setting(NamedTuple):
    """An algorithm with one option set: what the name of a model says."""

    family: str
    option: str
    value: str


def setting_of(model: str) -> Setting | None:
    """What the name of a model says; None for an algorithm as configured.

    Args:
        model: Such as ``om2p+q_weight+0.3``.

    Raises:
        ValueError: If it has a plus but not two.
    """
    parts = model.split("+")
    if len(parts) == 1:
        return None
    if len(parts) != 3 or not all(parts):
        raise ValueError(f"expected a model named <algorithm>+<option>+<value>, got '{model}'; rename it in the grid")
    return Setting(*parts)


def played_settings(frame: pd.DataFrame, option: str, model: str = OURS) -> pd.DataFrame:
    """Runs of one model, played with several values of an option that needs no training.

    Args:
        frame: Results, of all policies.
        option: ``guidance_scale`` or ``sampling_steps``.
        model: Which model.

    Returns:
        Its rows of the final weights with a column ``value``. The policy as it acts has one sampling step.

    Raises:
        ValueError: If no row was played so.
    """
    rows = frame[(frame["model"] == model) & (frame["checkpoint"] == "final")].copy()
    rows["value"] = rows["policy"].str.extract(f"^{_PLAYED[option]}$", expand=False)
    if option == "sampling_steps":
        rows.loc[rows["main"], "value"] = "1"
    found = rows[rows["value"].notna()]
    if found.empty:
        rule = re.sub(r"[()]", "", _PLAYED[option])
        raise ValueError(f"expected evaluations of {model} in rows '{rule}', got {sorted(set(rows['policy']))}")
    return found


def coefficient_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """All runs that differ in a coefficient: those trained so, and VGM2P's guidance scales.

    Args:
        frame: Results of the grid.

    Returns:
        Rows with the columns family, option and value (a number).

    Raises:
        ValueError: As ``setting_of`` and ``played_settings``.
    """
    trained = main_rows(frame).copy()
    settings = {model: setting_of(model) for model in trained["model"].unique()}
    trained = trained[[settings[model] is not None for model in trained["model"]]]
    for key in Setting._fields:
        trained[key] = [getattr(settings[model], key) for model in trained["model"]]
    trained = trained[trained["family"] != OURS]
    played = played_settings(frame, "guidance_scale").assign(family=OURS, option="guidance_scale")
    both = pd.concat([played, trained], ignore_index=True)
    return both.assign(value=both["value"].astype(float))


def coefficient_curves(runs: pd.DataFrame, column: str = "return", repetitions: int = REPETITIONS) -> pd.DataFrame:
    """Means over seeds for each value of a coefficient.

    Args:
        runs: What ``coefficient_runs`` gives.
        column: What is measured.
        repetitions: Draws of the bootstrap.

    Returns:
        One row for each task, family and value: task, family, option, value, seeds, estimate, low, high.
    """
    rows: list[dict[str, Any]] = []
    for keys, some in runs.groupby(["task", "family", "option", "value"], sort=True):
        values = some[column].to_numpy(np.float64)[:, None]
        named = dict(zip(("task", "family", "option", "value"), keys, strict=True))
        rows.append({**named, "seeds": len(values), **bootstrap(values, mean, repetitions)._asdict()})
    return pd.DataFrame(rows)


def relative_range(values: Array) -> Array:
    """(best - worst) / |best| of the means over seeds, (..., S, K) of K values of a coefficient -> (...)."""
    means = values.mean(axis=-2)
    best, worst = means.max(axis=-1), means.min(axis=-1)
    return np.asarray((best - worst) / np.abs(best), np.float64)


def sensitivity(
    frame: pd.DataFrame, column: str = "return", clone: str = CLONE, repetitions: int = REPETITIONS
) -> pd.DataFrame:
    """How much a wrong coefficient costs.

    Args:
        frame: Results of the grid.
        column: What is measured.
        clone: The model that clones without values.
        repetitions: Draws of the bootstrap.

    Returns:
        One row for each task and family: task, family, option, seeds, values (how many), best_value, best, worst,
        estimate with low and high (``relative_range`` and its interval; drawing seeds anew makes a range larger rather
        than smaller, so that a method without any sensitivity has an interval above 0), and kept: the share of the
        gain over cloning that the worst value keeps, (worst - clone) / (best - clone); nan where there is no gain or no
        clone.

    Raises:
        ValueError: As ``coefficient_runs``; if the values of a coefficient have different numbers of seeds.
    """
    cloned = main_rows(frame).query("model == @clone").groupby("task")[column].mean()
    rows: list[dict[str, Any]] = []
    for (task, family, option), some in coefficient_runs(frame).groupby(["task", "family", "option"], sort=False):
        columns = {value: runs.sort_values("seed")[column].to_numpy() for value, runs in some.groupby("value")}
        if len({len(runs) for runs in columns.values()}) > 1:
            counts = ", ".join(f"{value:g}: {len(runs)}" for value, runs in columns.items())
            raise ValueError(f"expected as many seeds for every {option} of {family} on {task}, got {counts}")
        values = np.stack(list(columns.values()), axis=1)
        means = values.mean(axis=0)
        base = cloned.get(task, np.nan)
        gain = means.max() - base
        rows.append(
            {
                **{"task": task, "family": family, "option": option, "seeds": len(values), "values": len(columns)},
                **{"best_value": list(columns)[int(means.argmax())], "best": means.max(), "worst": means.min()},
                **bootstrap(values, relative_range, repetitions)._asdict(),
                "kept": (means.min() - base) / gain if gain > 0 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def variants(
    runs: pd.DataFrame, base: str = OURS, column: str = "return", names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Models beside one of them.

    Args:
        runs: One row for each run.
        base: What the others are held against.
        column: What is measured.
        names: Which models; by default all variants of the base, and the clone.

    Returns:
        One row for each task and model: task, model, seeds, mean, std, difference (to the base's mean), p (two-sided
        Welch test against the base, not corrected for the number of models; nan for one seed). Tasks on which the base
        was not run are left out.
    """
    check_one_origin(runs)
    rows: list[dict[str, Any]] = []
    for task, some in runs.groupby("task", sort=False):
        present = list(dict.fromkeys(some["model"]))
        if base not in present:
            continue
        chosen = names or [m for m in present if m == CLONE or m.startswith(f"{base}+")]
        own = values_of(some, base, column)[:, 0]
        for model in [base, *(name for name in chosen if name in present and name != base)]:
            values = values_of(some, model, column)[:, 0]
            rows.append(
                {
                    **{"task": task, "model": model, "seeds": len(values), "mean": values.mean()},
                    "std": values.std(ddof=1) if len(values) > 1 else np.nan,
                    "difference": values.mean() - own.mean(),
                    "p": np.nan if model == base else difference_p(values, own),
                }
            )
    return pd.DataFrame(rows)


def steps_table(frame: pd.DataFrame, column: str = "return") -> pd.DataFrame:
    """VGM2P with several network calls for a decision beside one: as ``variants``, with the calls as models.

    Args:
        frame: Results of the grid.
        column: What is measured.
    """
    played = played_settings(frame, "sampling_steps")
    played = played.assign(model=played["value"]).sort_values(["task", "value"], key=_as_numbers, kind="stable")
    return variants(played, "1", column, names=sorted(played["value"].unique(), key=float))


def _as_numbers(column: pd.Series) -> pd.Series:
    return column.astype(float) if column.name == "value" else column
