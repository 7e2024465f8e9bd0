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
