"""Where stages end, from small configurations."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from analysis.stages import Span, stages, within_stages


def run(directory: Path, max_steps: int = 100, **options: Any) -> Path:
    config = {"trainer": {"max_steps": max_steps}, "model": {"class_path": "m", "init_args": options}}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    return directory


def test_three_stages_with_local_credit(tmp_path: Path):
    spans = stages(run(tmp_path, critic_updates=30, credit_updates=20, credit="local"))
    assert spans == [Span("critic", 1, 30), Span("credit", 31, 50), Span("policy", 51, 100)]


def test_two_stages_without(tmp_path: Path):
    expected = [Span("critic", 1, 30), Span("policy", 31, 100)]
    assert stages(run(tmp_path, critic_updates=30, credit_updates=20, credit="joint")) == expected
    assert stages(run(tmp_path, critic_updates=30)) == expected


def test_one_stage_of_an_algorithm_without_a_global_critic(tmp_path: Path):
    assert stages(run(tmp_path, learning_rate=0.1)) == [Span("train", 1, 100)]


def test_not_a_run(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="expected the directory of a run, such as runs/matrix/version_0"):
        stages(tmp_path)


def test_losses_end_with_their_stage():
    spans = [Span("critic", 1, 30), Span("credit", 31, 50), Span("policy", 51, 100)]
    metrics = {
        "train/value_loss": [10, 30],
        "val/q_loss": [10, 30],
        "train/credit_baseline_loss": [50],
        "train/policy_loss": [60, 100],
        "value/held_out_error": [10, 30, 50, 60, 100],
    }
    rows = [{"metric": name, "update": update, "value": 0.0} for name in metrics for update in (10, 30, 50, 60, 100)]
    kept = within_stages(pd.DataFrame(rows), spans)
    assert {str(name): list(some["update"]) for name, some in kept.groupby("metric")} == metrics
    alone = within_stages(pd.DataFrame(rows), [Span("train", 1, 100)])
    assert len(alone) == len(rows), "nothing ends where there are no stages"
