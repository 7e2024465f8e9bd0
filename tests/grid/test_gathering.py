"""results.csv and the summary, from cells that the stub has run."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from grid import sessions
from grid.cells import Place
from grid.gathering import COLUMNS, gather, seconds_per_update, summary, train_seconds, write_results
from grid.plan import Plan
from grid.runner import run_cells
from tests.grid.cells import STUB, place

CONFIG: dict[str, Any] = {
    "model": {"class_path": "lightning_modules.VGM2P", "init_args": {"guidance_scale": 2.0}},
    "data": {"init_args": {"dataset": "embedded/smax/3m", "quality": "Mixed"}},
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """Two finished cells, one that has failed."""
    monkeypatch.setattr(sessions, "updates_of", lambda run: {"final": 40, "best": 10})
    monkeypatch.setattr(sessions, "code_version", lambda: {"commit": "0123456789abcdef", "changed_files": True})
    cells = [place(tmp_path, "3m/vgm2p", seed, CONFIG) for seed in (0, 3)]
    cells.append(place(tmp_path, "3m/bad", 0, CONFIG, stub__fail_at=1))
    run_cells(cells, ("final", "best"), 3, lambda _: None, STUB, pause=0.01)
    metrics = cells[0].directory / "runs/stub/version_0/metrics.csv"
    metrics.write_text(
        "step,train/critic_seconds_per_update,train/policy_seconds_per_update,train/policy_loss\n3,,,1\n39,0.25,0.5,\n"
    )
    return cells


def plan(places: list[Place], **changes: Any) -> Plan:
    return replace(Plan("small", tuple(place.cell for place in places), ("final", "best")), **changes)


def test_a_row_for_every_cell_checkpoint_and_policy(places: list[Place], tmp_path: Path):
    rows, others = gather(plan(places), tmp_path)
    assert others == [] and len(rows) == 2 * 2 * 3
    with write_results(rows, tmp_path).open(newline="") as file:
        written = list(csv.DictReader(file))
    assert tuple(written[0]) == COLUMNS
    done = json.loads((places[0].directory / "done.json").read_text())
    assert written[2] == {
        "task": "3m",
        "dataset": "embedded/smax/3m",
        "quality": "Mixed",
        "model": "vgm2p",
        "algorithm": "VGM2P",
        "policy": "policy, w = 2",
        "main": "True",
        "seed": "0",
        "checkpoint": "final",
        "return": "0.0",
        "return_error": "0.1",
        "return_std": "",
        "return_iqm": "0.2",
        "score": "",
        "won": "0.3",
        "length": "10.0",
        "ms_per_decision": "1.5",
        "calls_per_decision": "1",
        "parameters": "99",
        "lost": "",
        "episodes": "256",
        "updates": "40",
        "critic_seconds_per_update": "0.25",
        "credit_seconds_per_update": "",
        "policy_seconds_per_update": "0.5",
        "train_seconds": "",
        "wall_seconds": str(done["wall_seconds"]),
        "commit": "0123456789ab",
        "changed_files": "True",
        "run": "3m/vgm2p/seed_0/runs/stub/version_0",
    }
    best = [row for row in written if row["checkpoint"] == "best" and row["main"] == "True"]
    assert [(row["seed"], row["return"], row["updates"]) for row in best] == [
        ("0", "100.0", "10"),
        ("3", "100.0", "10"),
    ]
    assert (tmp_path / written[2]["run"] / "evaluation.csv").is_file(), "every number leads to its run"


def test_checkpoints_that_the_grid_does_not_ask_for_are_left_out(places: list[Place], tmp_path: Path):
    rows, _ = gather(plan(places, checkpoints=("best",)), tmp_path)
    assert {row["checkpoint"] for row in rows} == {"best"}


def test_cells_of_other_settings_are_left_out_and_named(places: list[Place], tmp_path: Path):
    changed = replace(places[0].cell, words=(*places[0].cell.words, "--a.b", "1"))
    rows, others = gather(plan(places, cells=(changed, places[1].cell)), tmp_path)
    assert others == ["3m/vgm2p/seed_0"] and {row["seed"] for row in rows} == {3}


def test_the_policy_that_the_grid_names_stands_for_the_model(places: list[Place], tmp_path: Path):
    named = tuple(replace(place.cell, policy="policy, w = 1") for place in places)
    rows, _ = gather(plan(places, cells=named), tmp_path)
    assert {row["policy"] for row in rows if row["main"]} == {"policy, w = 1"}


def test_the_summary_is_a_mean_over_seeds(places: list[Place], tmp_path: Path):
    """Returns 0 and 3: mean 1.5, standard error 2.1213 / sqrt(2) = 1.5."""
    console = Console(file=io.StringIO(), width=200)
    console.print(summary(gather(plan(places), tmp_path)[0], "small"))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "small: mean ± standard error over seeds" in lines[0]
    final = next(line for line in lines if "final" in line).split()
    assert final[:9] == ["3m", "vgm2p", "policy,", "w", "=", "2", "final", "2", "1.500"] and final[9:11] == [
        "±",
        "1.500",
    ]


def test_a_run_of_one_stage_has_trained_its_policy_only(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text("step,train/train_seconds_per_update\n9,0.125\n")
    assert seconds_per_update(tmp_path / "metrics.csv") == {
        "critic_seconds_per_update": None,
        "credit_seconds_per_update": None,
        "policy_seconds_per_update": 0.125,
    }
    assert set(seconds_per_update(tmp_path / "none.csv").values()) == {None}


def test_time_of_all_updates_is_that_of_the_stages():
    """10 updates of .25, 6 of 1, and 24 of .5 seconds."""
    speed = {"critic_seconds_per_update": 0.25, "credit_seconds_per_update": 1.0, "policy_seconds_per_update": 0.5}
    settings = {"model.init_args.critic_updates": 10, "model.init_args.credit_updates": 6}
    assert train_seconds(speed, settings, 40) == 2.5 + 6 + 12
    assert train_seconds({**speed, "credit_seconds_per_update": None}, settings, 40) == 2.5 + 15
    assert train_seconds(dict.fromkeys(speed) | {"policy_seconds_per_update": 0.5}, settings, 40) == 20
    assert train_seconds(speed, settings, 8) == 2.0, "ended within the critic's stage"
    assert train_seconds(speed, {}, 40) is None and train_seconds(speed, settings, None) is None
    assert train_seconds(dict.fromkeys(speed), settings, 40) is None
