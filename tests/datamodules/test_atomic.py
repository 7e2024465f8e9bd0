from pathlib import Path

import pytest

from datamodules.atomic import replacing


def test_the_new_content_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    with replacing(path) as file:
        file.write(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"second, but")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"first"
    with replacing(path) as file:
        file.write(b"third")
    assert path.read_bytes() == b"third"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_a_written_file_can_be_read_by_others(tmp_path):
    """Vaults are shared; a new file has the usual permissions."""
    usual, path = tmp_path / "usual", tmp_path / "a.json"
    usual.touch()
    with replacing(path) as file:
        file.write(b"1")
    assert path.stat().st_mode == usual.stat().st_mode
