"""Numbers of a task's tables, by hand."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.report.by_task import compared, main_table, of_the_data, policies
from analysis.report.figures import front
from analysis.runs import main_rows, read_results
from tests.analysis.report.grids import row, two_models, write


def read(path: Path, rows: list[dict[str, object]]) -> pd.DataFrame:
    return read_results(write(path, rows))


def test_models_of_a_task(tmp_path: Path):
    found = compared(main_rows(read(tmp_path, two_models())), repetitions=50).set_index("model")
    assert list(found.index) == ["y", "x"] and list(found["place"]) == [1, 2] and list(found["seeds"]) == [2, 3]
    assert list(found["return"]) == [6, 2] and found["std"].to_list() == pytest.approx([2**0.5, 1])
    assert list(found["score"]) == [60, 20] and list(found["ms_per_decision"]) == [7, 3]
    assert found["policy_updates_per_second"].to_list() == pytest.approx([100, 50])
    assert found["critic_updates_per_second"].isna().all() and list(found["wall_minutes"]) == [1.5, 1.5]
    assert found.loc["x", "runs"] == ";".join(f"a/x/seed_{seed}/runs/x/version_0" for seed in range(3))
    assert 1 <= found.loc["x", "low"] < 2 < found.loc["x", "high"] <= 3


def test_a_single_seed_has_no_interval(tmp_path: Path):
    found = compared(main_rows(read(tmp_path, [row("a", "x", 0, 1.0)])), repetitions=50).iloc[0]
    assert found["return"] == 1 and pd.isna(found["low"]) and pd.isna(found["high"]) and pd.isna(found["std"])


def test_the_data_stands_below_the_models(tmp_path: Path):
    frame = read(tmp_path, two_models())
    data = of_the_data(frame)
    assert len(data) == 1 and data.iloc[0]["return"] == 2.5 and data.iloc[0]["episodes"] == 4000
    table = main_table(compared(main_rows(frame), 50), data, "task-a", {"x": "#runs.a.x"})
    heads = [head.text for head in table.heads]
    texts = [[cell.text for cell in line] for line in table.rows]
    assert [line[0] for line in texts] == ["y", "x", "the data"] and "won" not in heads
    assert [line[heads.index("return")] for line in texts] == ["6.000", "2.000 *", "2.500"]  # p = 0.08
    assert table.rows[0][heads.index("return")].strong and table.rows[1][0].link == "#runs.a.x"


def test_recordings_that_differ_are_told_apart(tmp_path: Path):
    rows = [row("a", model, 0, value, policy="the data", main=False) for model, value in (("x", 1.0), ("y", 2.0))]
    data = of_the_data(read(tmp_path, rows))
    assert list(data["models"]) == ["x", "y"] and list(data["return"]) == [1, 2]


def test_other_ways_to_play(tmp_path: Path):
    rows = [row("a", "x", seed, 1.0 + seed, policy="policy, w = 1", main=False) for seed in (0, 1)]
    rows += [row("a", "x", seed, 5.0, policy="policy, w = 2") for seed in (0, 1)]
    found = policies(read(tmp_path, [*rows, row("a", "y", 0, 9.0)]), ["y", "x"])
    assert list(found["policy"]) == ["policy, w = 1", "policy, w = 2"] and set(found["model"]) == {"x"}
    assert list(found["return"]) == [1.5, 5] and list(found["main"]) == [False, True]


def test_the_front_holds_what_nothing_else_beats():
    found = pd.DataFrame({"model": list("abcd"), "return": [4.0, 3.0, 2.0, 1.0], "ms": [5.0, 2.0, 3.0, 1.0]})
    assert front(found, "ms", fewer=True) == ["a", "b", "d"]
    assert front(found, "ms", fewer=False) == ["a"]
