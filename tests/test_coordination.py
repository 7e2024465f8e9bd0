"""benchmarks/coordination.py: what it trains, it can also play by name."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def coordination(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    spec = importlib.util.spec_from_file_location("coordination", ROOT / "benchmarks/coordination.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "coordination", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_trained_and_named(coordination: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A training, then its directory as an argument: the same table."""
    pytest.importorskip("matplotlib")
    usual = ["coordination.py", "--runs", str(tmp_path / "runs"), "--episodes", "400"]
    trains = ["--train", "flow_bc", "--games", "xor", "--updates", "3", "--root", str(tmp_path / "vaults")]
    monkeypatch.setattr(sys, "argv", [*usual, *trains, "--out", str(tmp_path / "trained")])
    coordination.main()
    run = tmp_path / "runs/xor/flow_bc/seed_0"
    monkeypatch.setattr(sys, "argv", [*usual, str(run), "--out", str(tmp_path / "named")])
    coordination.main()

    table = (tmp_path / "named.md").read_text()
    assert table == (tmp_path / "trained.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    by_noise = {row[1]: row for row in rows if row[0] == "flow_bc"}
    assert set(by_noise) == {"own", "shared"} and by_noise["own"][2] == "10"
    assert all(0 <= float(row[3]) <= 1 and row[3] == row[4] for row in by_noise.values()), "who wins is paid 1"
    assert (tmp_path / "named.png").stat().st_size > 10_000


def test_names_that_are_no_run(coordination: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["coordination.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="expected a checkpoint, or a directory with a finished run"):
        coordination.main()
