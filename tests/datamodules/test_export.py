import os
from pathlib import Path

import numpy as np
import pytest

from datamodules import OfflineDataModule, save_advantages
from datamodules.export import export, stored_critics
from tests.datamodules.recordings import make_leaves, write_vault

DATASET = "made_up/game/map"


@pytest.fixture
def data(tmp_path: Path) -> OfflineDataModule:
    write_vault(tmp_path, DATASET, "Mixed", make_leaves((3, 1, 4)))
    return OfflineDataModule(DATASET, root=tmp_path)


def test_everything_is_in_the_file(data: OfflineDataModule, tmp_path: Path) -> None:
    assert export(data, tmp_path / "out" / "x.npz") is None
    for number in (1, 2):
        path = save_advantages(data.derived_dir, f"Critic-{number}-{data.key}", np.arange(8.0) + number)
        os.utime(path, (number, number))
    save_advantages(data.derived_dir, "Critic-3-otherdata", np.zeros(5))
    assert stored_critics(data) == [f"Critic-2-{data.key}", f"Critic-1-{data.key}"]
    assert export(data, tmp_path / "out" / "x.npz") == f"Critic-2-{data.key}"
    with np.load(tmp_path / "out" / "x.npz", allow_pickle=False) as file:
        for name in ("obs", "state", "actions", "rewards", "terminals", "truncations", "legal_actions"):
            np.testing.assert_array_equal(file[name], getattr(data.stream, name))
        assert file["episode_bounds"].tolist() == [[0, 3], [3, 4], [4, 8]]
        assert file["advantages"].tolist() == list(range(2, 10))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.npz"]
    export(data, tmp_path / "y.npz", f"Critic-1-{data.key}")
    with np.load(tmp_path / "y.npz", allow_pickle=False) as file:
        assert file["advantages"].tolist() == list(range(1, 9))


def test_an_interruption_leaves_the_old_file(
    data: OfflineDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(data, tmp_path / "x.npz")
    before = (tmp_path / "x.npz").read_bytes()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(data, tmp_path / "x.npz")
    assert (tmp_path / "x.npz").read_bytes() == before
    assert not list(tmp_path.glob(".x*"))


def test_impossible_exports(data: OfflineDataModule, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ending in .npz to export to, got"):
        export(data, tmp_path / "x.csv")
    with pytest.raises(ValueError, match="one of the critics that labelled made_up/game/map, got 'nobody': none"):
        export(data, tmp_path / "x.npz", "nobody")
