"""The compact table of a task, by hand."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.report.compact import compact, main, markdown
from analysis.report.sources import read_sources
from tests.analysis.report.grids import row, write


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """VGM2P trains for 60 seconds, the slower model for 120: there it is read half-way, between 0 and 1 (or 3)."""
    rows = [row("a", "vgm2p", seed, value, train_seconds=60.0, won=0.5) for seed, value in enumerate((5.0, 7.0))]
    rows += [row("a", "slow", seed, value, train_seconds=120.0) for seed, value in enumerate((1.0, 3.0))]
    rows += [row("a", "slow", seed, 4.0 + seed, policy="policy, mode", main=False) for seed in (0, 1)]
    rows += [row("a", "vgm2p", 0, 99.0, checkpoint="best"), row("b", "vgm2p", 0, 99.0)]
    write(tmp_path, rows)
    points = [("slow", seed, 1000, 0.0) for seed in (0, 1)]
    curves = [
        {"task": "a", "model": model, "seed": seed, "update": update, "metric": "eval/return_mean", "value": value}
        | {"run": f"a/{model}/seed_{seed}/runs/x/version_0"}
        for model, seed, update, value in points
    ]
    pd.DataFrame(curves).to_csv(tmp_path / "curves.csv", index=False)
    return tmp_path


def test_what_models_earn_and_cost(results: Path):
    table = compact(read_sources(results), "a").set_index("model")
    assert list(table.index) == ["vgm2p", "slow"]
    assert table["return"].tolist() == [6.0, 2.0] and table["seeds"].tolist() == [2, 2]
    assert table["std"].tolist() == pytest.approx([2**0.5, 2**0.5])
    assert table.loc["slow", "greedy"] == 4.5 and pd.isna(table.loc["vgm2p", "greedy"])
    assert table["updates_per_second"].tolist() == [50.0, 25.0]
    # 3,000 updates each; slow is read at 1,500: a quarter of the way from 0 at 1,000 to the final return
    assert table["equal_time"].tolist() == pytest.approx([6.0, (0.25 + 0.75) / 2])


def test_times_that_were_measured_replace_those_of_the_runs(results: Path, capsys: pytest.CaptureFixture[str]):
    """Medians of 60 and 240 seconds: slow is read at 750 of 3,000 updates, where its curve has not begun."""
    seconds = {"vgm2p": (50.0, 60.0, 90.0), "slow": (240.0,), "other": (1.0,)}
    rows = [{"task": "a", "model": model, "train_seconds": each} for model, some in seconds.items() for each in some]
    times = pd.DataFrame([*rows, {"task": "b", "model": "vgm2p", "train_seconds": 1.0}])
    table = compact(read_sources(results), "a", times).set_index("model")
    assert table["updates_per_second"].tolist() == [50.0, 12.5]
    assert table["equal_time"].tolist() == pytest.approx([6.0, (0.0 + 0.0) / 2])
    times[times["model"] != "slow"].to_csv(results / "times.csv", index=False)
    with pytest.raises(SystemExit):
        main([str(results), "a", "--times", str(results / "times.csv")])
    assert "expected times of all models on a, got none of slow; measure them, too" in capsys.readouterr().err


def test_it_is_written_as_markdown(results: Path, capsys: pytest.CaptureFixture[str]):
    main([str(results), "a"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "| model | return | without chance | won | in vgm2p's time | updates/s | calls | ms | parameters |"
    )
    assert lines[2] == "| **`vgm2p`** | **6.00 ± 1.41** |  | 50.0 % | 6.00 | 50 | – | 7.0 | – |"
    assert lines[3].startswith("| `slow` | 2.00 ± 1.41 * | 4.50 | – | 0.50 | 25 |")


def test_columns_that_tell_nothing_are_left_out(results: Path):
    """Of runs without curves, only what is known."""
    assert "vgm2p's time" not in markdown(compact(read_sources(results), "b")), "only the other task has curves"
    (results / "curves.csv").unlink()
    heads = markdown(compact(read_sources(results), "b")).splitlines()[0]
    assert heads == "| model | return | updates/s | calls | ms | parameters |"


def test_an_unknown_task_is_refused(results: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main([str(results), "c"])
    assert "one of a, b; got 'c'" in capsys.readouterr().err


def test_large_returns_are_rounded(tmp_path: Path):
    rows = [row("a", "vgm2p", seed, value) for seed, value in enumerate((3950.0, 4050.0))]
    rows += [row("a", "bc", seed, value) for seed, value in enumerate((-99.6, -100.9))]
    rows += [row("a", "bc", 0, 98.125, policy="policy, mode", main=False)]
    write(tmp_path, rows)
    lines = markdown(compact(read_sources(tmp_path), "a")).splitlines()
    assert lines[2].startswith("| **`vgm2p`** | **4,000 ± 71** |  |")
    assert lines[3].startswith("| `bc` | -100 ± 1 | 98.12 |")
