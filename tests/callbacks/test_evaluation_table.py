"""The table of an evaluation, in full and narrow."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from callbacks.episodes import Episodes
from callbacks.evaluation_metrics import evaluation_metrics
from callbacks.evaluation_table import COLUMNS, data_row, policy_row, show, write
from tests.callbacks.test_episodes import Constant

RESULT = Episodes(np.array([0.0, 1.0, 1.0, 1.0]), np.array([0, 1, 1, 1], bool), np.array([1, 1, 1, 1]), 0.25, 2)


def rows(scenario: str, can_be_won: bool, result: Episodes = RESULT) -> list[dict[str, Any]]:
    statistics = {"length_mean": 1.0} | ({"win_rate": 0.5} if can_be_won else {})
    data: Any = SimpleNamespace(statistics=statistics, episode_returns=np.array([0.0, 1.0, 0.0, 1.0, 0.5]))
    metrics = evaluation_metrics(result, Constant(0), scenario, can_be_won)
    return [data_row(data, scenario), policy_row("policy", result, metrics)]


def test_the_file_has_every_number(tmp_path: Path):
    write(rows("matrix/xor", can_be_won=True), tmp_path / "evaluation.csv")
    with (tmp_path / "evaluation.csv").open(newline="") as file:
        data, policy = csv.DictReader(file)
    assert list(policy) == ["policy", *COLUMNS]
    assert policy == {
        "policy": "policy",
        "return": "0.75",
        "± s.e.": "0.25",
        "std": repr(np.sqrt(0.1875).item()),
        "IQM": "1.0",
        "score": "50.0",
        "won": "0.75",
        "length": "1.0",
        "ms per decision": "0.25",
        "calls per decision": "2",
        "parameters": "0",
        "lost": "0",
        "episodes": "4",
    }
    assert data["return"] == "0.5" and data["won"] == "0.5" and data["episodes"] == "5"
    assert float(data["± s.e."]) == pytest.approx(np.std([0, 1, 0, 1, 0.5], ddof=1) / np.sqrt(5))
    assert data["ms per decision"] == data["parameters"] == ""


def test_what_nobody_has_is_no_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = rows("mpe/simple_tag", can_be_won=False)
    write(table, tmp_path / "evaluation.csv")
    header = (tmp_path / "evaluation.csv").read_text().partition("\n")[0].strip().split(",")
    assert header == ["policy", *(column for column in COLUMNS if column not in ("score", "won"))]
    show(table, {}, "title")
    assert "won" not in (printed := capsys.readouterr().out) and "score" not in printed


def test_the_printed_table_fits_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("COLUMNS", "120")
    long = Episodes(RESULT.returns - 12345.678, RESULT.won, np.full(4, 1000), 123.4, 40)
    table = rows("matrix/xor", True, long)
    table[1]["policy"] = "cloning (null condition)"
    show(table, {"policy": 0.0123}, "title")
    printed = capsys.readouterr().out
    assert "…" not in printed and max(map(len, printed.splitlines())) <= 120
    cells = [cell.strip() for line in printed.splitlines() if "cloning" in line for cell in line.split("│")]
    assert cells[1:-1] == [
        "cloning (null condition)", "-12344.928", "0.250", "-12344.678", "-2469085.6", "75%", "1000.0", "123.40", "40",
    ]  # fmt: skip
    assert "policy: 0.0123 s per update" in printed
