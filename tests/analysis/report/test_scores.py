"""The table of all tasks, by hand."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.report.scores import main, markdown, scores
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


def test_without_two_models_there_is_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write(tmp_path, [row("a", "bc", 0, 1.0, score=1.0)])
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "expected scores of two models on the same task, got none" in capsys.readouterr().err
    assert "| model |" in markdown(scores(pd.DataFrame(rows()), repetitions=1))
