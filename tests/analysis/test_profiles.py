"""Profiles and curves, by hand."""

import numpy as np
import pandas as pd
import pytest

from analysis.profiles import efficiency_curves, performance_profiles
from analysis.statistics import iqm
from tests.analysis.frames import results


def test_a_profile_is_the_share_of_runs_above_each_threshold():
    frame = results({("a", "x"): [0, 10], ("b", "x"): [20, 30], ("a", "y"): [90, 90], ("b", "y"): [90, 90]})
    table = performance_profiles(frame, [-1, 0, 15, 30, 89], repetitions=500)
    x = table[table["model"] == "x"]
    assert x["share"].tolist() == [1.0, 0.75, 0.5, 0.0, 0.0], "a run at the threshold is not above it"
    assert table[table["model"] == "y"]["share"].tolist() == [1.0] * 5
    at_zero = x[x["threshold"] == 0].iloc[0]
    assert (at_zero["low"], at_zero["high"]) == (0.5, 1.0), "both seeds of task a are 0, or both are 10"


def curves() -> pd.DataFrame:
    rows = [
        ("a", "x", 0, 100, 1.0),
        ("a", "x", 1, 100, 3.0),
        ("a", "x", 0, 200, 5.0),
        ("a", "x", 1, 200, 5.0),
        ("a", "x", 0, 300, 9.0),  # the other seed is not there yet
        ("b", "x", 0, 50, 7.0),
    ]
    frame = pd.DataFrame(rows, columns=["task", "model", "seed", "update", "value"])
    return frame.assign(metric="eval/return_mean", origin="ours")


def test_curves_are_means_over_the_seeds_of_a_task_where_all_are_there():
    table = efficiency_curves(curves(), repetitions=300)
    assert table[["task", "update", "estimate", "low", "high", "seeds"]].to_numpy().tolist() == [
        ["a", 100, 2.0, 1.0, 3.0, 2],
        ["a", 200, 5.0, 5.0, 5.0, 2],
        ["b", 50, 7.0, 7.0, 7.0, 1],
    ]


def test_curves_of_another_statistic():
    values = np.array([0.0, 1.0, 2.0, 9.0])
    rows = pd.DataFrame({"task": "a", "model": "x", "seed": range(4), "update": 1, "value": values})
    table = efficiency_curves(rows.assign(metric="m", origin="ours"), iqm, repetitions=10)
    assert table["estimate"].tolist() == [1.5]


def test_several_metrics_or_origins_are_refused():
    with pytest.raises(ValueError, match="expected curves of one metric, got eval/return_mean, other"):
        efficiency_curves(pd.concat([curves(), curves().assign(metric="other")]))
    with pytest.raises(ValueError, match="expected numbers of one origin"):
        efficiency_curves(pd.concat([curves(), curves().assign(origin="MADiff")]))
