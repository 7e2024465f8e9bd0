from pathlib import Path

import numpy as np
import pytest

from analysis.returns import histogram_figure, histogram_text


def test_a_histogram_in_characters_by_hand() -> None:
    text = histogram_text(np.array([0.0, 0.1, 0.2, 0.3, 1.0, 2.0]), bins=2, width=5)
    assert text.splitlines() == [
        "         0 to 1          █████ 4",
        "         1 to 2          ██▌   2",
    ]


def test_bars_are_eighths_of_a_character_and_empty_bins_have_none() -> None:
    lines = histogram_text(np.array([0.0] * 16 + [3.0]), bins=3, width=1).splitlines()
    assert [line[25:] for line in lines] == ["█ 16", "  0", "  1"]  # 1/16 of a character rounds to none
    assert histogram_text(np.array([0.0] * 8 + [3.0]), bins=3, width=1).splitlines()[-1][25:] == "▏ 1"


def test_returns_all_alike_fill_one_bin() -> None:
    assert sum(line.endswith(" 7") for line in histogram_text(np.full(7, 2.0)).splitlines()) == 1


@pytest.mark.parametrize("returns", [np.zeros(0), np.array([1.0, np.nan])])
def test_nothing_to_draw(returns: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one return, all finite"):
        histogram_text(returns)
    with pytest.raises(ValueError, match="at least one return, all finite"):
        histogram_figure(returns, "x", tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_a_figure_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    histogram_figure(np.arange(10.0), "title", tmp_path / "new" / "returns.png")
    assert (tmp_path / "new" / "returns.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["returns.png"]
    with pytest.raises(ValueError, match="Format 'xyz' is not supported"):
        histogram_figure(np.arange(10.0), "title", tmp_path / "new" / "returns.xyz")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["returns.png"]
