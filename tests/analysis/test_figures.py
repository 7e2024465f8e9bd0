"""What figures show, read back from their axes."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import draw_curves, draw_intervals, draw_profiles, draw_speed, styles


def axes() -> Axes:
    return Figure().add_subplot()


def test_forty_models_look_different():
    looks = styles([str(number) for number in range(40)])
    assert len({(look["color"], look["linestyle"]) for look in looks.values()}) == 40


def test_the_best_interval_is_at_the_top():
    table = pd.DataFrame({"model": ["good", "bad"], "estimate": [2.0, 1.0], "low": [1.5, 0.0], "high": [3.0, 1.25]})
    draw_intervals(drawn := axes(), table, "IQM")
    assert [label.get_text() for label in drawn.get_yticklabels()] == ["bad", "good"]
    points, _, (lines,) = drawn.containers[0]
    assert points.get_xydata().tolist() == [[1.0, 0.0], [2.0, 1.0]]
    assert [segment[:, 0].tolist() for segment in lines.get_segments()] == [[0.0, 1.25], [1.5, 3.0]]


def test_lines_are_in_order_and_only_of_models_with_a_look():
    table = pd.DataFrame({"model": ["x", "x", "y"], "update": [20, 10, 10], "estimate": [2.0, 1.0, 5.0]})
    draw_curves(drawn := axes(), table.assign(low=0.0, high=9.0), styles(["x"]), "mean return")
    assert [line.get_xydata().tolist() for line in drawn.lines] == [[[10.0, 1.0], [20.0, 2.0]]]
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("updates", "mean return")


def test_profiles_are_shares_over_thresholds():
    table = pd.DataFrame({"model": "x", "threshold": [0.0, 1.0], "share": [1.0, 0.25], "low": 0.0, "high": 1.0})
    draw_profiles(drawn := axes(), table, styles(["x"]), "score")
    assert drawn.lines[0].get_ydata().tolist() == [1.0, 0.25] and drawn.get_xlabel() == "score"


def test_speed_leaves_out_what_was_not_measured_and_names_what_is_asked():
    table = pd.DataFrame({"model": ["x", "y", "z"], "ms_per_decision": [1.0, 10.0, np.nan], "return": [3.0, 4.0, 5.0]})
    draw_speed(drawn := axes(), table, "return", "mean return", ["y", "z"])
    assert np.asarray(drawn.collections[0].get_offsets()).tolist() == [[1.0, 3.0], [10.0, 4.0]]
    assert [text.get_text() for text in drawn.texts] == ["y"] and drawn.get_xscale() == "log"
