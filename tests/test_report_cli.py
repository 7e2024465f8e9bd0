"""``lightning report`` as a user meets it."""

from pathlib import Path

import pytest

from tests.analysis.report.grids import row, write
from vgm2p_cli import main


def test_a_report_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write(tmp_path, [row("a", "x", 0, 1.0)])
    main(["report", str(tmp_path), "--out", str(tmp_path / "out"), "--title", "A title"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "report.html")
    assert "<h1>A title</h1>" in (tmp_path / "out" / "report.html").read_text()


def test_no_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(["report", str(tmp_path)])
    error = capsys.readouterr().err
    assert left.value.code == 2 and "error: expected the results.csv of a grid" in error and "Traceback" not in error


def test_unknown_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(["report", str(tmp_path), "--checkpoint", "middle"])
    assert left.value.code == 2 and "middle" in capsys.readouterr().err
