"""Which runs can be averaged over tasks."""

import pytest

from analysis.comparable import comparable, ranking
from tests.analysis.frames import results


def test_gaps_are_left_out():
    frame = results(
        {("a", "x"): [1, 2], ("b", "x"): [1, 2], ("a", "y"): [3, 4], ("b", "y"): [3, 4], ("a", "z"): [5, 6]}
    )
    found = comparable(frame, "score")
    assert (found.models, found.tasks, found.seeds) == (["x", "y"], ["a", "b"], 2)
    assert (found.without, found.unused) == (["z"], []) and len(found.rows) == 8


def test_a_task_is_dropped_where_that_keeps_more_runs():
    values = {("a", model): [1.0, 2.0] for model in "uvwxy"} | {("b", "u"): [1.0, 2.0]}
    found = comparable(results(values), "score")
    assert (found.models, found.tasks, found.unused, len(found.rows)) == (list("uvwxy"), ["a"], ["b"], 10)


def test_equally_many_seeds():
    found = comparable(results({("a", "x"): [1, 2, 3], ("a", "y"): [4, 5]}), "score")
    assert found.seeds == 2 and list(found.rows.loc[found.rows["model"] == "x", "seed"]) == [0, 1]


def test_nothing_is_known():
    found = comparable(results({("a", "x"): [1]}, column="return"), "score")
    assert (found.models, found.tasks, found.seeds, len(found.rows)) == ([], [], 0, 0)


@pytest.mark.parametrize(("of_y_on_b", "order"), [([0.0], ["x", "y", "z"]), ([9.0], ["y", "x", "z"])])
def test_order_is_that_of_mean_places(of_y_on_b: list[float], order: list[str]):
    values = {("a", "x"): [2.0], ("a", "y"): [2.5], ("b", "x"): [5.0], ("b", "y"): of_y_on_b, ("a", "z"): [9.0]}
    values[("b", "x")] = [8.0]
    if order[0] == "x":
        values[("a", "y")] = [1.0]
    assert ranking(results(values, column="return")) == order  # z lacks a task
