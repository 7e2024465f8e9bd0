"""Statistics over tasks and seeds, against arithmetic by hand and an exact enumeration of the bootstrap."""

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from analysis.statistics import (
    aggregates,
    bootstrap,
    improvement_probability,
    iqm,
    mean,
    median,
    optimality_gap,
    resampled,
    values_of,
)
from tests.analysis.frames import results

#: Two seeds on four tasks; sorted: 0 10 20 30 40 50 60 150.
VALUES = np.array([[0.0, 20.0, 40.0, 60.0], [10.0, 30.0, 50.0, 150.0]])


def test_iqm_is_the_mean_of_the_middle_half_of_all_runs():
    assert float(iqm(VALUES)) == pytest.approx((20 + 30 + 40 + 50) / 4)
    assert float(iqm(np.array([[1.0], [2.0], [9.0]]))) == pytest.approx(4.0), "a quarter of three runs is none"


def test_mean_median_and_optimality_gap():
    assert float(mean(VALUES)) == pytest.approx(360 / 8)
    assert float(median(VALUES)) == pytest.approx((25 + 45) / 2), "task means are 5, 25, 45, 105"
    assert float(optimality_gap(VALUES)) == pytest.approx((100 + 90 + 80 + 70 + 60 + 50 + 40 + 0) / 8)
    assert float(optimality_gap(VALUES, goal=15.0)) == pytest.approx((15 + 5) / 8)


@pytest.mark.parametrize("statistic", [iqm, mean, median, optimality_gap])
def test_statistics_of_many_draws_are_those_of_each(statistic: Callable[[np.ndarray], np.ndarray]):
    draws = np.random.default_rng(0).normal(size=(3, 5, 4)) * 100
    assert statistic(draws) == pytest.approx([float(statistic(draw)) for draw in draws])


def test_seeds_are_drawn_within_each_task():
    draws = resampled(VALUES, 500, np.random.default_rng(0))
    assert draws.shape == (500, 2, 4)
    for task in range(4):
        assert set(np.unique(draws[:, :, task])) == set(VALUES[:, task])
    mixed = (draws[:, 0, 0] == 0.0) != (draws[:, 0, 1] == 20.0)
    assert mixed.any(), "tasks are drawn independently"


def test_the_interval_is_that_of_all_possible_draws():
    """Two seeds on two tasks: 16 equally likely draws, enumerated."""
    values = np.array([[0.0, 10.0], [4.0, 30.0]])
    means = [
        (a + b + c + d) / 4
        for a, b in itertools.product((0.0, 4.0), repeat=2)
        for c, d in itertools.product((10.0, 30.0), repeat=2)
    ]
    interval = bootstrap(values, mean, repetitions=40_000, confidence=0.8)
    assert interval.estimate == 11.0
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, (0.1, 0.9)))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Normal values, 20 seeds on 3 tasks: 95 % intervals hold the mean in about 95 % of 300 repetitions."""
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        interval = bootstrap(generator.normal(size=(20, 3)), mean, repetitions=400)
        hits += interval.low <= 0 <= interval.high
    assert 0.89 <= hits / 300 <= 0.98


def test_equal_values_have_no_interval_and_equal_seeds_the_same():
    assert bootstrap(np.full((3, 2), 7.0), iqm) == (7.0, 7.0, 7.0)
    assert bootstrap(VALUES, iqm, seed=3) == bootstrap(VALUES, iqm, seed=3)


def test_aggregates_of_every_model():
    frame = results({("a", "x"): [0, 10], ("b", "x"): [20, 30], ("a", "y"): [50, 50], ("b", "y"): [50, 50]})
    table = aggregates(frame, repetitions=50).set_index(["model", "statistic"])
    assert table.loc[("x", "IQM"), "estimate"] == pytest.approx(15.0)
    assert table.loc[("x", "optimality gap"), "estimate"] == pytest.approx(85.0)
    assert tuple(table.loc[("y", "mean"), ["estimate", "low", "high"]]) == (50.0, 50.0, 50.0)
    assert set(table["tasks"]) == {2} and set(table["seeds"]) == {2}


def test_improvement_is_the_mean_over_tasks_of_the_share_of_better_pairs():
    """Task a: 1 > 0, 1 = 1, 2 > 0, 2 > 1: 3.5 of 4. Task b: always worse: 0 of 4."""
    frame = results({("a", "x"): [1, 2], ("a", "y"): [0, 1], ("b", "x"): [0, 0], ("b", "y"): [5, 6]}, "return")
    interval = improvement_probability(frame, "x", "y", value="return", repetitions=200)
    assert interval.estimate == pytest.approx((3.5 / 4 + 0) / 2)
    assert interval.low <= interval.estimate <= interval.high
    other = improvement_probability(frame, "y", "x", value="return", repetitions=200)
    assert other.estimate == pytest.approx(1 - interval.estimate)


def test_improvement_on_one_task_is_mann_whitneys_u():
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 8, size=12).astype(float), generator.integers(2, 10, size=12).astype(float)
    interval = improvement_probability(results({("a", "x"): x, ("a", "y"): y}), "x", "y", repetitions=2)
    assert interval.estimate == pytest.approx(mannwhitneyu(x, y).statistic / 144)


def test_values_are_in_the_order_of_seeds_and_tasks():
    frame = results({("b", "x"): [3, 4], ("a", "x"): [1, 2]}).sample(frac=1, random_state=0)
    assert values_of(frame, "x").tolist() == [[1, 3], [2, 4]]
    assert values_of(frame, "x", tasks=["b"]).tolist() == [[3], [4]]


TWO = results({("a", "x"): [1, 2], ("b", "x"): [3, 4]})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.concat([TWO, TWO.assign(origin="MoSDOT")]), "expected numbers of one origin, got those of MoSDOT, ours"),
        (
            pd.concat([TWO, TWO.assign(checkpoint="best")]),
            "several of x on a with seed 0; choose a policy and a checkp",
        ),
        (TWO.assign(score=[1, 2, None, 4]), "expected 'score' of every run, got none for x on b; scores need"),
        (TWO[:3], "expected as many seeds of x on every task, got a: 2, b: 1"),
        (TWO[:0], "expected as many seeds of x on every task, got no task"),
    ],
)
def test_what_would_make_a_number_meaningless_is_refused(frame: pd.DataFrame, message: str):
    with pytest.raises(ValueError, match=message):
        values_of(frame, "x")


def test_models_are_compared_on_the_same_tasks_only():
    frame = results({("a", "x"): [1, 2], ("b", "x"): [3, 4], ("a", "y"): [1, 2]})
    with pytest.raises(ValueError, match="expected every model on the same tasks, got none of y on b; leave out"):
        aggregates(frame)
    with pytest.raises(ValueError, match="expected runs of x and z, got none of z"):
        improvement_probability(frame, "x", "z")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"confidence": 95}, "confidence: .* 95"), ({"repetitions": 0}, "repetitions: expected at least 1, got 0")],
)
def test_numbers_out_of_range(options: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        bootstrap(VALUES, mean, **options)  # type: ignore[arg-type]
