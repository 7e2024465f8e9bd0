"""Returns at the same training time, by hand."""

import pandas as pd
import pytest

from analysis.equal_time import returns_at_equal_time
from analysis.runs import CURVE_COLUMNS
from tests.analysis.frames import results

SECONDS = {"vgm2p": [90.0, 100.0, 500.0], "slow": [200.0, 150.0, 210.0], "fast": [50.0, 50.0, 50.0]}


@pytest.fixture
def runs() -> pd.DataFrame:
    frame = results({("3m", model): [1.0, 1.1, 1.2] for model in SECONDS}, "return", updates=4000)
    frame["train_seconds"] = [seconds for model in SECONDS for seconds in SECONDS[model]]
    frame["run"] = frame["model"] + "/" + frame["seed"].astype(str)
    return frame


@pytest.fixture
def curves(runs: pd.DataFrame) -> pd.DataFrame:
    points = [(1000, 0.0), (3000, 0.8), (4000, 99.0)]
    same = {"metric": "eval/return_mean"}
    rows = [{**run, **same, "update": u, "value": v} for run in runs.to_dict("records") for u, v in points]
    return pd.DataFrame(rows)[list(CURVE_COLUMNS)]


def test_slow_runs_are_read_where_the_reference_ends(runs: pd.DataFrame, curves: pd.DataFrame):
    """The reference takes 100 seconds, the slow model 200: half of its updates, 2,000, between 0 and .8."""
    table = returns_at_equal_time(runs, curves).set_index(["model", "seed"])
    assert (table["seconds"] == 100.0).all()
    assert table.loc[("slow", 0), ["share", "update", "return"]].tolist() == pytest.approx([2.0, 2000.0, 0.4])
    assert table.loc[("vgm2p", 2), ["share", "update", "return"]].tolist() == pytest.approx([1.0, 4000.0, 1.2])
    assert table.loc[("fast", 1), ["share", "update", "return"]].tolist() == pytest.approx([0.5, 4000.0, 1.1])


def test_the_last_part_leads_to_the_final_evaluation(runs: pd.DataFrame, curves: pd.DataFrame):
    """125 seconds: 3,200 of 4,000 updates, a fifth of the way from .8 to the final return of seed 0."""
    runs.loc[runs["model"] == "slow", "train_seconds"] = 125.0
    table = returns_at_equal_time(runs, curves).set_index(["model", "seed"])
    assert table.loc[("slow", 0), "return"] == pytest.approx(0.8 + 0.2 * (1.0 - 0.8))


def test_before_the_first_evaluation_there_is_only_the_first(runs: pd.DataFrame, curves: pd.DataFrame):
    runs.loc[runs["model"] == "slow", "train_seconds"] = 1000.0
    assert returns_at_equal_time(runs, curves).set_index(["model", "seed"]).loc[("slow", 0), "return"] == 0.0


def test_what_is_missing_is_said(runs: pd.DataFrame, curves: pd.DataFrame):
    with pytest.raises(ValueError, match="expected runs of awr, got those of fast, slow, vgm2p"):
        returns_at_equal_time(runs, curves, reference="awr")
    with pytest.raises(ValueError, match="over updates of slow/0, got no curve of it"):
        returns_at_equal_time(runs, curves[curves["run"] != "slow/0"])
    runs.loc[0, "train_seconds"] = None
    with pytest.raises(ValueError, match="expected train_seconds and updates of every run, got none of vgm2p"):
        returns_at_equal_time(runs, curves)
