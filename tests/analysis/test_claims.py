"""The tables behind the claims, by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.claim_tables import (
    Setting,
    coefficient_curves,
    coefficient_runs,
    played_settings,
    relative_range,
    sensitivity,
    setting_of,
    steps_table,
    variants,
)
from analysis.claims import main, markdown, verdicts
from analysis.runs import tidy
from analysis.statistics import Array
from tests.analysis.frames import results


def played(policy: str, values: list[float], is_main: bool = False) -> pd.DataFrame:
    return results({("3m", "vgm2p"): values}, "return", policy=policy).assign(main=is_main)


@pytest.fixture
def frame() -> pd.DataFrame:
    trained = results(
        {
            ("3m", "om2p+q_weight+0.3"): [1.0, 1.2],
            ("3m", "om2p+q_weight+3"): [0.5, 0.5],
            ("3m", "meanflow_bc"): [0.5, 0.7],
            ("3m", "vgm2p+label+sign"): [0.2, 0.3],
            ("3m", "vgm2p+credit+joint"): [1.4, 1.5],
        },
        "return",
        policy="policy",
    )
    own = [played("policy, w = 1", [1.4, 1.4]), played("policy, w = 2", [1.5, 1.5], True)]
    own += [played("policy, 4 steps", [1.5, 1.6]), played("policy, 10 steps", [0.1, 0.1])]
    own += [played("cloning (null condition)", [0.5, 0.5])]
    return tidy(pd.concat([trained, *own], ignore_index=True))


def test_names():
    assert setting_of("vgm2p") is None
    assert setting_of("om2p+q_weight+0.3") == Setting("om2p", "q_weight", "0.3")
    for wrong in ("om2p+q_weight", "om2p+q_weight+", "a+b+c+d"):
        with pytest.raises(ValueError, match=r"expected a model named <algorithm>\+<option>\+<value>, got"):
            setting_of(wrong)


def test_values_that_need_no_training_are_rows_of_one_run(frame: pd.DataFrame):
    scales = played_settings(frame, "guidance_scale")
    assert scales.groupby("value")["return"].mean().to_dict() == {"1": pytest.approx(1.4), "2": pytest.approx(1.5)}
    steps = played_settings(frame, "sampling_steps")
    assert steps.groupby("value")["return"].mean().to_dict() == pytest.approx({"1": 1.5, "4": 1.55, "10": 0.1})
    with pytest.raises(ValueError, match=r"evaluations of meanflow_bc in rows 'policy, w = .*got \['policy'\]"):
        played_settings(frame, "guidance_scale", "meanflow_bc")


def test_curves(frame: pd.DataFrame):
    curves = coefficient_curves(coefficient_runs(frame), repetitions=200)
    assert curves[["family", "option", "value", "seeds"]].to_numpy().tolist() == [
        ["om2p", "q_weight", 0.3, 2],
        ["om2p", "q_weight", 3.0, 2],
        ["vgm2p", "guidance_scale", 1.0, 2],
        ["vgm2p", "guidance_scale", 2.0, 2],
    ]
    assert curves["estimate"].tolist() == pytest.approx([1.1, 0.5, 1.4, 1.5])
    assert (curves["low"][0], curves["high"][0]) == pytest.approx((1.0, 1.2))


@pytest.mark.parametrize(("means", "expected"), [([1.0, 1.5, 1.2], 1 / 3), ([-10.0, -20.0], 1.0), ([2.0, 2.0], 0.0)])
def test_range_by_best(means: list[float], expected: float):
    values: Array = np.array([means, means]) + np.array([[0.1], [-0.1]])
    assert relative_range(values) == pytest.approx(expected)


def test_what_a_wrong_coefficient_costs(frame: pd.DataFrame):
    table = sensitivity(frame, repetitions=200).set_index("family")
    ours, other = table.loc["vgm2p"], table.loc["om2p"]
    assert ours["estimate"] == pytest.approx(0.1 / 1.5) and other["estimate"] == pytest.approx(0.6 / 1.1)
    assert ours["low"] == ours["high"] == pytest.approx(0.1 / 1.5), "without any spread over seeds"
    assert (other["low"], other["high"]) == pytest.approx((0.5, 0.7 / 1.2)), "the best mean is 1.0 to 1.2"
    assert other["best_value"] == 0.3 and other["values"] == 2
    assert ours["kept"] == pytest.approx((1.4 - 0.6) / (1.5 - 0.6)), "the clone has .6"
    assert other["kept"] == pytest.approx((0.5 - 0.6) / (1.1 - 0.6))


def test_unequal_seeds_are_refused(frame: pd.DataFrame):
    some = frame[~((frame["model"] == "om2p+q_weight+3") & (frame["seed"] == 1))]
    with pytest.raises(ValueError, match=r"as many seeds for every q_weight of om2p on 3m, got 0.3: 2, 3: 1"):
        sensitivity(some)


def test_variants_are_held_against_the_configured_model(frame: pd.DataFrame):
    table = variants(frame[frame["main"]]).set_index("model")
    assert table.index.tolist() == ["vgm2p", "meanflow_bc", "vgm2p+label+sign", "vgm2p+credit+joint"]
    assert table["difference"].tolist() == pytest.approx([0.0, -0.9, -1.25, -0.05])
    # Welch by hand: means 1.45 and 1.5, variances .005 and 0 over two seeds each: t = -1 at 1 degree of freedom
    assert table.loc["vgm2p+credit+joint", "p"] == pytest.approx(0.5)
    assert np.isnan(table.loc["vgm2p", "p"])


def test_steps_are_held_against_one(frame: pd.DataFrame):
    table = steps_table(frame).set_index("model")
    assert table.index.tolist() == ["1", "4", "10"]
    assert table["difference"].tolist() == pytest.approx([0.0, 0.05, -1.4])


def test_verdicts_say_where_a_claim_holds(frame: pd.DataFrame):
    a, b, c, d = verdicts(frame)
    assert a.startswith("(a)") and "0.067 over guidance scales against om2p 0.545; holds" in a
    assert "worse: 10 (-1.40)" in b and "not told apart: 4 (+0.05)" in b
    assert "vgm2p+credit+joint (-0.05)" in c and "label" not in c
    assert "vgm2p+label+sign (-1.25)" in d and "credit" not in d
    worse = frame.copy()
    worse.loc[worse["policy"] == "policy, w = 1", "return"] = 0.1
    assert "does not hold: smaller for om2p" in verdicts(worse)[0]


def test_the_command_prints_tables(frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    frame.to_csv(tmp_path / "results.csv", index=False)
    main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| 3m | om2p | q_weight | 0.3 | 2 | 1.100 |" in printed
    assert "## Where the claims hold\n\n- (a) coefficient-insensitivity on 3m" in printed


def test_numbers_are_written_as_they_are_read():
    table = pd.DataFrame({"value": [0.3, 10.0], "mean": [1.23456, 3544.29], "p": [np.nan, 0.01], "seeds": [3, 3]})
    assert markdown(table).splitlines()[2:] == ["| 0.3 | 1.235 | – | 3 |", "| 10 | 3,544 | 0.010 | 3 |"]
