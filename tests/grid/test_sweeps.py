"""Sweeps of Weights & Biases: the same cells as the grid, and command lines that the grid understands."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.plan import read_plan, select

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sweep() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "configs/sweeps/embedded.yaml").read_text())
    return loaded


def test_the_sweep_has_the_cells_of_the_grid(sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    plan = read_plan(Path(sweep["command"][6]))
    assert sweep["parameters"]["only"]["values"] == [cell.name for cell in plan.cells]
    assert all(select(plan.cells, name)[0].name == name for name in sweep["parameters"]["only"]["values"])


def test_the_sweep_is_one_that_wandb_understands(sweep: dict[str, Any]):
    """Keys, method and metric as documented; all values of a grid's parameters are listed."""
    assert set(sweep) == {"program", "name", "method", "metric", "command", "parameters"}
    assert sweep["method"] == "grid" and sweep["metric"]["goal"] in ("maximize", "minimize")
    assert all(set(parameter) == {"values"} for parameter in sweep["parameters"].values())
    assert (ROOT / sweep["program"]).is_file()


def test_what_an_agent_runs(sweep: dict[str, Any]):
    """Wandb's own functions make the command line of a cell."""
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    chosen = {"only": {"value": sweep["parameters"]["only"]["values"][13]}}
    words, arguments = utils.make_launch_sweep_entrypoint(
        utils.create_sweep_command_args({"args": chosen}), list(sweep["command"])
    )
    assert [*words, *arguments][2:] == [
        *("-m", "vgm2p_cli", "benchmark", "--config", "configs/benchmark/embedded.yaml", "--only=3m-mixed/cfcql/seed_0")
    ]
    macros = {word for word in sweep["command"] if re.fullmatch(r"\$\{\w+\}", word)}
    assert macros == {"${env}", "${interpreter}", "${args}"}
