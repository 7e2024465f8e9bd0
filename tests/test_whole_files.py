from pathlib import Path

import pytest

from whole_files import written_whole


def test_the_new_content_appears_only_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "new" / "table.csv"
    with written_whole(path) as unfinished:
        unfinished.write_text("first")
        assert not path.exists() and unfinished.suffix == ".csv"
    assert path.read_text() == "first"
    with pytest.raises(KeyboardInterrupt), written_whole(path) as unfinished:
        unfinished.write_text("second, but")
        raise KeyboardInterrupt
    assert path.read_text() == "first"
    with written_whole(path) as unfinished, unfinished.open("wb") as file:
        file.write(b"third")
    assert path.read_text() == "third"
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]


def test_a_written_file_can_be_read_by_others(tmp_path: Path):
    """Vaults and runs are shared; a new file has the usual permissions."""
    usual, path = tmp_path / "usual", tmp_path / "a.json"
    usual.touch()
    with written_whole(path) as unfinished:
        unfinished.write_text("1")
    assert path.stat().st_mode == usual.stat().st_mode
