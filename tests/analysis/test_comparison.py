"""What is left of an unfinished grid."""

import pytest

from analysis.comparison import balanced
from analysis.statistics import all_values
from tests.analysis.frames import results


def pairs(frame) -> set[tuple[str, str, int]]:
    return set(zip(frame["task"], frame["model"], frame["seed"], strict=True))


def test_a_finished_grid_stays_whole():
    frame = results({("a", "x"): [1, 2], ("b", "x"): [3, 4], ("a", "y"): [5, 6], ("b", "y"): [7, 8]})
    kept, left_out = balanced(frame)
    assert pairs(kept) == pairs(frame) and left_out == []


def test_a_model_that_does_not_fit_every_task_is_left_out():
    frame = results(
        {("a", "x"): [1, 2], ("b", "x"): [3, 4], ("a", "y"): [5, 6], ("b", "y"): [7, 8], ("a", "z"): [9, 9]}
    )
    kept, left_out = balanced(frame)
    assert set(kept["model"]) == {"x", "y"} and len(kept) == 8
    assert left_out == ["models left out: z"]


def test_a_seed_that_only_begins_and_a_task_that_few_have_are_left_out():
    frame = results(
        {
            ("a", "x"): [1, 2],
            ("a", "y"): [3],
            ("a", "z"): [4],
            ("b", "x"): [5],
            ("b", "y"): [6],
            ("b", "z"): [7],
            ("c", "x"): [8],
        }
    )
    kept, left_out = balanced(frame)
    assert pairs(kept) == {(task, model, 0) for task in "ab" for model in "xyz"}
    assert left_out == ["tasks left out: c", "seeds left out: 1"]
    assert {name: values.shape for name, values in all_values(kept, "score").items()} == dict.fromkeys("xyz", (1, 2))


def test_runs_without_the_value_are_missing():
    frame = results({("a", "x"): [1], ("b", "x"): [float("nan")], ("a", "y"): [2], ("b", "y"): [3]})
    kept, left_out = balanced(frame)
    assert pairs(kept) == {("a", "x", 0), ("a", "y", 0)} and left_out == ["tasks left out: b"]


def test_no_value_at_all():
    with pytest.raises(
        ValueError, match="expected 'score' of at least one run, got none; scores need reference returns"
    ):
        balanced(results({("a", "x"): [float("nan")]}))
