"""The table of all tasks, by hand."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.report.scores import main, markdown, scores, without_chance
from tests.analysis.report.grids import row, write


def rows() -> list[dict[str, object]]:
    """Four runs of each model; its IQM is the mean of the middle two."""
    runs = {"vgm2p": {"a": (10.0, 20.0), "b": (40.0, 90.0)}, "bc": {"a": (50.0, 60.0), "b": (0.0, 20.0)}}
    found = [
        row(task, model, seed, value / 10, score=value)
        for model, tasks in runs.items()
        for task, values in tasks.items()
        for seed, value in enumerate(values)
    ]
    return [*found, row("a", "planner", 0, 9.0, score=99.0)]  # one seed, one task: not comparable


def test_scores_of_all_tasks_beside_their_iqm():
    table = scores(pd.DataFrame(rows()), repetitions=200).set_index("model")
    assert list(table.index) == ["bc", "vgm2p"], "35 and 30"
    assert table["IQM"].tolist() == [35.0, 30.0]
    assert table.loc["vgm2p", ["a", "b"]].tolist() == [15.0, 65.0]
    # Seeds are drawn anew within each task: the middle two lie between (10, 40) and (20, 90) at most
    assert 25.0 <= table.loc["vgm2p", "low"] < 30.0 < table.loc["vgm2p", "high"] <= 55.0


def test_it_is_written_as_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write(tmp_path, rows())
    main([str(tmp_path)])
    head, rule, first, second = capsys.readouterr().out.splitlines()
    assert (head, rule) == ("| model | IQM | a | b |", "|---|--:|--:|--:|")
    assert first.startswith("| `bc` | **35.0** [") and first.endswith("] | **55.0** | 10.0 |")
    assert second.startswith("| **`vgm2p`** | 30.0 [") and second.endswith("] | 15.0 | **65.0** |")


def test_policies_without_chance_count_where_they_were_played(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    some = rows()[:8]
    modes = [row("b", "bc", seed, 0.0, policy="policy, mode", main=False, score=70.0 + seed) for seed in (0, 1)]
    modes += [row("a", "bc", 0, 0.0, policy="policy, mode", main=False, score=99.0, checkpoint="best")]
    others = [row("a", "bc", seed, 0.0, policy="policy, 4 steps", main=False, score=98.0) for seed in (0, 1)]
    frame = pd.DataFrame([*some, *modes, *others])
    assert sorted(without_chance(frame).query("model == 'bc'")["score"]) == [50.0, 60.0, 70.0, 71.0]
    assert sorted(without_chance(frame).query("model == 'vgm2p'")["score"]) == [10.0, 20.0, 40.0, 90.0]
    write(tmp_path, [*some, *modes, *others])
    main([str(tmp_path), "--without_chance"])
    assert "| **55.0** | **70.5** |" in capsys.readouterr().out


def test_without_two_models_there_is_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write(tmp_path, [row("a", "bc", 0, 1.0, score=1.0)])
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "expected scores of two models on the same task, got none" in capsys.readouterr().err
    assert "| model |" in markdown(scores(pd.DataFrame(rows()), repetitions=1))
