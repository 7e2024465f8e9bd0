"""Every notebook runs on small recordings and runs of its own; what it computes is right, and git holds no outputs."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from nbclient import NotebookClient

from datamodules import OfflineDataModule
from datamodules.advantages import save_advantages
from tests.analysis.frames import results
from tests.datamodules.recordings import make_leaves, write_vault

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 300_000  # bytes of a rendered copy with its pictures

pytestmark = pytest.mark.filterwarnings("ignore")


class Run:
    """Runs notebooks in a directory of the test, with the settings of a test's kernel."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.monkeypatch = directory, monkeypatch
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def __call__(self, name: str, asked: str, **variables: object) -> tuple[Any, Any]:
        """The value of an expression after the last cell, as JSON has it, and the notebook with its outputs."""
        for variable, value in variables.items():
            self.monkeypatch.setenv(f"VGM2P_{variable}", str(value))
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell(f"import json; print(json.dumps({asked}))"))
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(self.directory)}}).execute()
        return json.loads(notebook.cells[-1].outputs[-1].text), notebook


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch)


def pictures(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def printed(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


def test_these_are_the_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["baselines", "dataset", "guidance", "training_curves"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_git_holds_no_outputs(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, "run: nbstripout notebooks/*.ipynb"
            assert len(cell.source.splitlines()) <= 30, "cells are short"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_small_rendered_copy_is_in_the_docs(path: Path):
    folder = ROOT / "docs/notebooks"
    text = (folder / f"{path.stem}.md").read_text()
    drawn = sorted((folder / f"{path.stem}_files").glob("*.png"))
    assert drawn and all(f"{path.stem}_files/{picture.name}" in text for picture in drawn)
    assert len(text) + sum(picture.stat().st_size for picture in drawn) < LARGEST
    first = nbformat.read(path, as_version=4).cells[0].source
    assert first in text, f"the copy is of another notebook: python docs/notebooks/render.py {path.stem}"


def recorded_results(directory: Path) -> Path:
    """Three models of which one was not run on the second task; curves end where the returns are."""
    scores = {
        ("a", "x"): [10, 30],
        ("b", "x"): [50, 70],
        ("a", "y"): [0, 20],
        ("b", "y"): [40, 60],
        ("a", "z"): [99, 99],
    }
    same = {"dataset": "embedded/matrix/xor", "quality": "Mixed", "policy": "policy", "updates": 200, "episodes": 32}
    frame = results(scores, **same, ms_per_decision=2.0)
    frame["return"] = frame["score"] / 10
    frame["run"] = [f"{row.task}/{row.model}/{row.seed}" for row in frame.itertuples()]
    for row in frame.itertuples():
        (directory / str(row.run)).mkdir(parents=True)
        curve = pd.DataFrame({"step": [99, 199], "eval/return_mean": [0.0, row.score / 10]})
        curve.to_csv(directory / str(row.run) / "metrics.csv", index=False)
    frame.drop(columns="origin").to_csv(directory / "results.csv", index=False)
    return directory


def test_baselines(run: Run, tmp_path: Path):
    asked = """{
        "iqm": dict(zip(iqm["model"], iqm["estimate"])),
        "left out": left_out,
        "improvement": improvement[["model", "estimate"]].values.tolist(),
        "ends": curves.groupby(["task", "model"])["estimate"].last()["a"].to_dict(),
        "best": by_task.loc[by_task["best"], ["task", "model", "mean"]].values.tolist(),
    }"""
    values, notebook = run("baselines", asked, RESULTS=recorded_results(tmp_path / "results"), MODEL="x")
    assert values["iqm"] == {"x": 40.0, "y": 30.0}, "the middle two of 10, 30, 50, 70 and of 0, 20, 40, 60"
    assert values["left out"] == ["z"]
    assert values["improvement"] == [["y", 0.75]], "three of the four pairs of each task"
    assert values["ends"] == {"x": 2.0, "y": 1.0, "z": 9.9}
    assert values["best"] == [["a", "z", pytest.approx(9.9)], ["b", "x", 6.0]]
    assert pictures(notebook) == 5
    assert "2 seed(s) tell nothing about spread" in printed(notebook)
    assert "2 seeds, 32 episodes per evaluation, 200 updates, final weights" in printed(notebook)
    assert "embedded datasets are recordings of our own" in printed(notebook), "nothing published about XOR"


def test_dataset(run: Run, tmp_path: Path):
    leaves = make_leaves((5, 3, 7))
    write_vault(tmp_path, "my/games/harvest", "Good", leaves)
    data = OfflineDataModule("my/games/harvest", "Good", root=tmp_path)
    save_advantages(data.derived_dir, f"ValueCritic-{'0' * 16}-{data.key}", np.arange(15.0))
    asked = """{
        "returns": returns.tolist(), "lengths": lengths.tolist(), "legal": legal.tolist(), "chosen": chosen.tolist(),
        "episode": episode["reward"].tolist(), "sum": float(episode["return so far"].iloc[-1]),
        "advantages": advantages[steps].tolist(),
    }"""
    values, notebook = run("dataset", asked, VAULTS=tmp_path, DATASET="my/games/harvest", QUALITY="Good")
    rewards = leaves["rewards"][0].mean(axis=1)
    starts = np.array([0, 5, 8, 15])
    returns = [rewards[first:behind].sum() for first, behind in pairwise(starts)]
    assert values["returns"] == pytest.approx(returns, abs=1e-6) and values["lengths"] == [5, 3, 7]
    best = int(np.argmax(returns))
    assert values["episode"] == pytest.approx(rewards[starts[best] : starts[best + 1]], abs=1e-6)
    assert values["sum"] == pytest.approx(returns[best], abs=1e-6)
    assert values["advantages"] == list(range(starts[best], starts[best + 1]))
    assert values["legal"] == pytest.approx(leaves["infos"]["legals"].mean(axis=(0, 1, 2)), abs=1e-6)
    assert values["chosen"] == pytest.approx([(leaves["actions"] == k).mean() for k in range(3)], abs=1e-6)
    assert pictures(notebook) == 4 and "1 critics have labelled" in printed(notebook)


def small_grid(directory: Path) -> Path:
    """configs/benchmark/guidance.yaml with few updates, and its recordings in a directory of the test."""
    grid = yaml.safe_load((ROOT / "configs/benchmark/guidance.yaml").read_text())
    grid["arguments"] |= {
        "data.init_args.root": str(directory / "vaults"),
        "trainer.val_check_interval": 50,
        "trainer.log_every_n_steps": 10,
        "trainer.enable_progress_bar": False,
    }
    few = {"xor": (150, 50), "landmarks": (40, 20)}
    for name, (updates, critic) in few.items():
        OfflineDataModule(f"embedded/matrix/{name}", root=directory / "vaults").prepare_data()
        counts = {"trainer.max_steps": updates, "model.init_args.critic_updates": critic}
        grid["datasets"][name]["arguments"] |= counts
    (directory / "grid.yaml").write_text(yaml.safe_dump(grid))
    return directory / "grid.yaml"


@pytest.mark.slow
def test_guidance_and_training_curves(run: Run, tmp_path: Path):
    """One makes the runs that it needs by the product's own command; the other looks at one of them."""
    results_here = tmp_path / "results"
    asked = """{
        "scales": by_scale["xor won"].to_dict(), "calls": by_steps["network calls"].tolist(),
        "noise": by_noise["xor won"].to_dict(), "shared": shares.tolist(),
        "own": joint_shares(play("xor", shared_noise=False).actions, 2).tolist(),
        "costs": costs["calls_per_decision"].tolist(),
    }"""
    values, notebook = run("guidance", asked, RESULTS=results_here, GRID=small_grid(tmp_path), GAMES=1000)
    assert list(values["scales"]) == ["w = 0", "w = 1", "w = 2", "w = 4", "w = 8"]
    assert values["calls"] == [1, 2, 4, 10] and values["costs"] == [1, 4, 1, 4]
    own = np.array(values["own"])
    independent = np.outer(own.sum(axis=1), own.sum(axis=0))
    assert own == pytest.approx(independent, abs=0.06), "own noise: the product of what each agent does"
    assert values["noise"]["own noise"] == pytest.approx(own[0, 1] + own[1, 0])
    assert values["noise"]["shared noise"] == values["scales"]["w = 1"], "the same policy, the same draws"
    shares = np.array(values["shared"])
    assert shares.sum() == pytest.approx(1)
    assert shares[0, 1] + shares[1, 0] == pytest.approx(values["noise"]["shared noise"]), "won where choices differ"
    assert pictures(notebook) == 3

    asked = """{
        "spans": spans, "gap": float(advantages[data.rewards > 0].min() - advantages[data.rewards == 0].max()),
        "mean reward": float(data.rewards.mean()),
        "policy": curves.loc[curves["metric"] == "train/policy_loss", "update"].tolist(),
        "critic": curves.loc[curves["metric"] == "train/value_loss", "update"].tolist(),
        "data": float(recorded.iloc[0]), "rows": evaluation["policy"].tolist(),
    }"""
    made = results_here / "xor/vgm2p/seed_0/runs/matrix/version_0"
    values, notebook = run("training_curves", asked, RUN=made)
    assert values["spans"] == [["critic", 1, 50], ["policy", 51, 150]]
    assert values["critic"] == [10, 20, 30, 40, 50] and values["policy"] == list(range(60, 151, 10))
    assert values["gap"] == pytest.approx(1.0, abs=1e-5), (
        "r - V, with one V: what was won is 1 better than what was lost"
    )
    assert values["data"] == pytest.approx(values["mean reward"])
    assert values["rows"][:2] == ["the data", "cloning (null condition)"]
    assert pictures(notebook) == 3
