"""Settings of many runs in few lines."""

from pathlib import Path

import pandas as pd

from analysis.report.configurations import read_settings, summarised


def rows(frame: pd.DataFrame) -> set[tuple[str, ...]]:
    return set(frame[["task", "model", "setting", "value"]].itertuples(index=False, name=None))


def test_each_setting_is_said_as_rarely_as_possible():
    known = {
        ("a", "x"): {"all": "1", "task": "a", "model": "x", "pair": "1", "own": "7"},
        ("b", "x"): {"all": "1", "task": "b", "model": "x", "pair": "2", "own": "7"},
        ("a", "y"): {"all": "1", "task": "a", "model": "y", "pair": "3"},
        ("b", "y"): {"all": "1", "task": "b", "model": "y", "pair": "3"},
    }
    assert rows(summarised(known)) == {
        ("", "", "all", "1"),
        *{("a", "", "task", "a"), ("b", "", "task", "b")},
        *{("", "x", "model", "x"), ("", "y", "model", "y"), ("", "x", "own", "7")},
        *{("a", "x", "pair", "1"), ("b", "x", "pair", "2"), ("", "y", "pair", "3")},
    }


def test_settings_of_a_run(tmp_path: Path):
    text = (
        "seed_everything: 3\n"
        "trainer: {max_steps: 10, logger: [{class_path: A}], callbacks: [{class_path: B}]}\n"
        "data: {init_args: {root: vaults, window: 9, seed: 3}}\n"
        "model: {init_args: {hidden_dims: [8, 8], n_agents: 2}}\n"
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(text)
    found = read_settings(pd.DataFrame([{"task": "a", "model": "x", "run": "run"}]), tmp_path)
    assert dict(zip(found["setting"], found["value"], strict=True)) == {
        "trainer.max_steps": "10",
        "trainer.callbacks.0.class_path": "B",
        "data.init_args.window": "9",
        "model.init_args.hidden_dims": "[8, 8]",
    }
