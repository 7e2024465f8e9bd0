import os
from pathlib import Path

import numpy as np
import pytest

from datamodules.advantages import advantages_path, load_advantages, save_advantages


def test_the_column_has_its_place_and_comes_back(tmp_path: Path) -> None:
    vault = tmp_path / "3m" / "Mixed"
    assert load_advantages(vault, "critic-1") is None
    path = save_advantages(vault, "critic-1", np.array([0.5, -1.0, 2.0]))
    assert path == tmp_path / "3m" / "Mixed" / "advantages" / "critic-1.npy"
    values = load_advantages(vault, "critic-1", length=3)
    assert values is not None
    assert values.dtype == np.float32
    assert values.tolist() == [0.5, -1.0, 2.0]
    assert load_advantages(vault, "critic-2") is None
    save_advantages(vault, "critic-1", np.zeros(3))
    assert [file.name for file in path.parent.iterdir()] == ["critic-1.npy"]


def test_an_interruption_leaves_the_old_column_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = tmp_path / "Mixed"
    path = save_advantages(vault, "key", np.ones(2))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_advantages(vault, "key", np.zeros(2))
    assert [file.name for file in path.parent.iterdir()] == ["key.npy"]
    values = load_advantages(vault, "key")
    assert values is not None
    assert values.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.array([0.0, np.nan]), np.array([np.inf])])
def test_only_finite_columns_are_written(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one finite advantage per recorded step"):
        save_advantages(tmp_path / "Mixed", "key", values)


@pytest.mark.parametrize("key", ["", "../x", "a/b", ".hidden"])
def test_keys_are_plain_names(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="expected a key of letters"):
        advantages_path(tmp_path / "Mixed", key)


def test_a_column_of_another_length_is_refused(tmp_path: Path) -> None:
    save_advantages(tmp_path / "Mixed", "key", np.zeros(3))
    with pytest.raises(ValueError, match="hold 3 steps, but the vault 4: the vault has changed"):
        load_advantages(tmp_path / "Mixed", "key", length=4)


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_column_is_refused(tmp_path: Path, content: bytes) -> None:
    path = save_advantages(tmp_path / "Mixed", "key", np.zeros(3))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        load_advantages(tmp_path / "Mixed", "key")


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((3, 1), np.float32), np.array([np.nan], np.float32)])
def test_a_foreign_array_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    path = save_advantages(tmp_path / "Mixed", "key", np.zeros(3))
    np.save(path, values)
    with pytest.raises(ValueError, match="expected finite float32 advantages"):
        load_advantages(tmp_path / "Mixed", "key")
