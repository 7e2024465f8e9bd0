"""Equal time, and the claims, as a reader gets them."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.report import write_report
from analysis.report.figures import coefficients
from analysis.report.style import looks
from tests.analysis.report.grids import row, write


def test_slower_models_are_shown_where_the_reference_ends(tmp_path: Path):
    """The other takes twice the time: at 1,500 of 3,000 updates, between 1 at update 1,000 and 2 at 2,000."""
    rows = [row("a", "vgm2p", 0, 3.0, train_seconds=50.0), row("a", "slow", 0, 4.0, train_seconds=100.0)]
    write(tmp_path, rows)
    points = [{"update": 1000, "value": 1.0}, {"update": 2000, "value": 2.0}]
    same = [{name: each[name] for name in ("task", "model", "seed", "run")} for each in rows]
    curves = pd.DataFrame([{**one, **point} for one in same for point in points]).assign(metric="eval/return_mean")
    curves.to_csv(tmp_path / "curves.csv", index=False)
    write_report(tmp_path, repetitions=5)
    table = pd.read_csv(tmp_path / "report/tables/time-a.csv").set_index("model")
    assert table.loc["slow", ["at_equal_time", "time", "update"]].tolist() == [1.5, 2.0, 1500.0]
    assert table.loc["vgm2p", ["at_equal_time", "time", "update"]].tolist() == [3.0, 1.0, 3000.0]
    text = (tmp_path / "report/report.md").read_text()
    assert "a: in the training time of vgm2p" in text and "where 50 seconds of training end" in text


def test_without_times_there_is_no_such_section(tmp_path: Path):
    write(tmp_path, [row("a", "vgm2p", 0, 3.0), row("a", "slow", 0, 4.0)])
    write_report(tmp_path, repetitions=5)
    assert not (tmp_path / "report/tables/time-a.csv").exists()


def claims(directory: Path, *more: dict[str, Any]) -> str:
    """The report of a small grid of claims."""
    played = {"policy, w = 1": 1.4, "policy, w = 2": 1.5, "policy, 4 steps": 1.6}
    rows = [row("a", "vgm2p", 0, value, policy=name, main=name.endswith("2")) for name, value in played.items()]
    rows += [row("a", "om2p+q_weight+1", 0, 1.0), row("a", "om2p+q_weight+3", 0, 0.5), row("a", "meanflow_bc", 0, 0.5)]
    write(directory, [*rows, *more])
    write_report(directory, repetitions=5)
    return (directory / "report/report.md").read_text()


def test_the_report_says_where_claims_hold(tmp_path: Path):
    text = claims(tmp_path)
    assert "range/best 0.067 over guidance scales against om2p 0.500; holds" in text
    table = pd.read_csv(tmp_path / "report/tables/claims-What-a-wrong-coefficient-costs.csv").set_index("family")
    assert table.loc["om2p", "estimate"] == pytest.approx(0.5)


def test_claims_that_cannot_be_judged_say_why(tmp_path: Path):
    text = claims(tmp_path, row("a", "om2p+q_weight+1", 1, 1.0))
    assert "The claims cannot be judged yet: expected as many seeds for every q_weight of om2p on a" in text


def test_coefficients_are_drawn_over_their_values(tmp_path: Path):
    claims(tmp_path)
    assert (tmp_path / "report/figures/coefficients-a.svg").is_file()
    table = pd.DataFrame(
        [
            {"family": "vgm2p", "option": "guidance_scale", "value": 8.0, "estimate": 1.5, "low": 1.4, "high": 1.7},
            {"family": "vgm2p", "option": "guidance_scale", "value": 1.0, "estimate": 1.2, "low": 1.1, "high": 1.3},
            {"family": "om2p", "option": "q_weight", "value": 0.1, "estimate": 0.5, "low": 0.5, "high": 0.5},
        ]
    )
    axes = coefficients(table, 0.25, looks(["vgm2p", "om2p"])).axes[0]
    ours, other = axes.containers
    line, _, (bars,) = ours
    assert line.get_xydata().tolist() == [[1.0, 1.2], [8.0, 1.5]]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [
        pytest.approx([1.1, 1.3]),
        pytest.approx([1.4, 1.7]),
    ]
    assert (ours.get_label(), other.get_label()) == ("vgm2p, guidance scale", "om2p, q weight")
    assert axes.lines[0].get_ydata() == [0.25, 0.25] and axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.1", "0.2", "0.5", "1", "2", "5", "10"]
