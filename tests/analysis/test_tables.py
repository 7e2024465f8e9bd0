"""Tables by task: who is best, and who cannot be told from the best."""

import numpy as np
import pytest

from analysis.tables import difference_p, task_table, text_table
from tests.analysis.frames import results

FRAME = results(
    {
        ("3m", "bc"): [1.0, 1.1, 1.2],
        ("3m", "iql"): [1.9, 2.0, 2.1],
        ("3m", "awr"): [1.7, 2.0, 2.15],
        ("xor", "bc"): [0.5, 0.5, 0.5],
        ("xor", "iql"): [0.5, 0.5, 0.5],
    },
    "return",
)


def test_the_best_and_those_not_told_from_it():
    table = task_table(FRAME, repetitions=100).set_index(["task", "model"])
    assert table.loc["3m"].index.tolist() == ["iql", "awr", "bc"], "the best first"
    assert table["best"].to_dict() == {
        ("3m", "iql"): True,
        ("3m", "awr"): False,
        ("3m", "bc"): False,
        ("xor", "bc"): True,
        ("xor", "iql"): False,
    }
    assert table["as_good"].tolist() == [True, True, False, True, True]
    row = table.loc[("3m", "bc")]
    assert row["mean"] == pytest.approx(1.1) and row["std"] == pytest.approx(0.1) and row["seeds"] == 3
    assert row["low"] == pytest.approx(1.0) and row["high"] == pytest.approx(1.2)


def test_p_is_welchs_by_hand():
    """Means 2.0 and 1.1, variances .01 each: t = .9 / sqrt(.02 / 3) = 11.02 at 4 degrees of freedom."""
    x, y = np.array([1.9, 2.0, 2.1]), np.array([1.0, 1.1, 1.2])
    t = 0.9 / np.sqrt(0.02 / 3)
    # Student's distribution function at 4 degrees of freedom in closed form
    s = t / np.sqrt(4 + t**2)
    upper = 0.5 + 0.25 * s * (3 - s**2)
    assert difference_p(x, y) == pytest.approx(2 * (1 - upper), rel=1e-6)
    assert difference_p(x, y) == pytest.approx(0.000386, abs=2e-5)


def test_p_without_spread_or_with_one_seed():
    same = np.array([0.5, 0.5])
    assert difference_p(same, same) == 1.0 and difference_p(same, same + 0.1) == 0.0
    assert np.isnan(difference_p(same[:1], same))


def test_of_one_seed_only_the_best_is_marked():
    table = task_table(results({("a", "x"): [1.0], ("a", "y"): [1.0 - 1e-9]}, "return"), repetitions=5)
    assert table["as_good"].tolist() == [True, False] and table["std"].isna().all()


def test_of_latencies_the_lowest_is_best():
    table = task_table(
        results({("a", "slow"): [3.0, 3.1], ("a", "fast"): [1.0, 1.1]}, "ms_per_decision"), "ms_per_decision"
    )
    assert table["model"].tolist() == ["fast", "slow"] and table["best"].tolist() == [True, False]


def test_a_level_out_of_range():
    with pytest.raises(ValueError, match="level: expected a number between 0 and 1, got 5"):
        task_table(FRAME, level=5)


def test_markdown():
    text = text_table(task_table(FRAME, repetitions=5), digits=1, models=["bc", "awr", "iql"])
    assert text.splitlines() == [
        "| | 3m | xor |",
        "|---|---|---|",
        "| bc | 1.1 ± 0.1 | **0.5 ± 0.0** |",
        "| awr | 1.9 ± 0.2 * |  |",
        "| iql | **2.0 ± 0.1** | 0.5 ± 0.0 * |",
    ]
    one = text_table(task_table(results({("a", "x"): [1.25]}, "return"), repetitions=5))
    assert one.splitlines()[2] == "| x | **1.25** |"
