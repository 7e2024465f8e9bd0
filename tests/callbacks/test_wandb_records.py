"""What a run leaves in Weights & Biases besides its curves, read back from the file of an offline run."""

import csv
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger

from callbacks.run_metadata import AXIS
from callbacks.wandb_records import log_films, log_final, log_histogram
from tests.wandb_files import Logged

pytestmark = pytest.mark.filterwarnings("ignore")


def test_advantages_are_described_once_after_the_critic(logged_runs: Mapping[str, Logged]):
    (row,) = (row for row in logged_runs["VGM2P"].history if "value/stored_advantage/values" in row)
    assert row["value/stored_advantage/_type"] == "histogram" and row[AXIS] == 3, "the critic's last update"
    counts, edges = row["value/stored_advantage/values"], row["value/stored_advantage/bins"]
    assert sum(counts) == 100 and len(edges) == len(counts) + 1, "each recorded step"
    last = logged_runs["VGM2P"].summary
    middles = np.convolve(edges, [0.5, 0.5], "valid")
    width = edges[1] - edges[0]
    assert np.average(middles, weights=counts) == pytest.approx(last["value/stored_advantage_mean"], abs=width)
    assert 0 <= last["value/stored_advantage_positive_share"] <= 1
    assert not [key for key in logged_runs["BC"].summary if key.startswith("value/stored")], "it has no critic"


def test_the_final_table_is_that_of_the_run(logged_runs: Mapping[str, Logged]):
    for algorithm, main in (("VGM2P", "policy, w = 2"), ("BC", "policy, sampled")):
        run = logged_runs[algorithm]
        with (run.file.parents[3] / "runs" / algorithm / "version_0/evaluation.csv").open(newline="") as file:
            expected = list(csv.reader(file))
        table = json.loads((run.file.parent / "files" / run.summary["final/table/path"]).read_text())
        shown = [["" if value is None else str(value) for value in row] for row in table["data"]]
        assert [table["columns"], *shown] == expected
        row = dict(zip(table["columns"], next(row for row in table["data"] if row[0] == main), strict=True))
        last = run.summary
        assert last["final/return_mean"] == row["return"] == last[f"eval/{main}/return_mean"]
        assert last["final/ms_per_decision"] == row["ms per decision"] and last["final/win_rate"] == row["won"]
        seconds = {key: value for key, value in last.items() if key.endswith("_seconds_per_update")}
        assert min(seconds.values()) <= last["final/seconds_per_update"] <= max(seconds.values())
        assert last["final/training_seconds"] == pytest.approx(24 * last["final/seconds_per_update"])


def test_long_runs_stay_small(logged_runs: Mapping[str, Logged]):
    for run in logged_runs.values():
        kinds = [row[key] for row in run.history for key in row if key.endswith("/_type")]
        assert sorted(kinds) == sorted(["histogram"] * (2 if run.name.startswith("VGM2P") else 0) + ["table-file"])


def test_seconds_per_update_by_hand():
    sent: list[dict[str, Any]] = []
    import lightning.pytorch.loggers as loggers

    class Logger(loggers.WandbLogger):
        def __init__(self) -> None:
            pass

        def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
            sent.append({**metrics, "step": step})

        def log_table(self, key: str, columns: Any = None, data: Any = None, dataframe: Any = None, step: Any = None):
            sent.append({key: (columns, data), "step": step})

    trainer: Any = SimpleNamespace(loggers=[Logger()], is_global_zero=True, global_step=40)
    rows = [{"policy": "the data", "return": 1.0, "score": None}, {"policy": "policy", "return": 2.0, "score": None}]
    log_final(trainer, rows, {"return_mean": 2.0}, {"critic": 3.0, "policy": 5.0}, {"critic": 10, "policy": 30})
    numbers = {"final/return_mean": 2.0, "final/training_seconds": 8.0, "final/seconds_per_update": 0.2, "step": 39}
    assert sent == [
        numbers,
        {"final/table": (["policy", "return"], [["the data", 1.0], ["policy", 2.0]]), "step": 39},
    ]


def test_without_a_wandb_logger_nothing_happens():
    other = MagicMock(spec=CSVLogger)
    trainer: Any = SimpleNamespace(loggers=[other], is_global_zero=True, global_step=4)
    log_histogram(trainer, "a", np.zeros(3, np.float32))
    log_films(trainer, "a", [], [])
    log_final(trainer, [{"policy": "the data"}], {}, {}, {})
    assert other.mock_calls == []
