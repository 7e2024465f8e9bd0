"""Runs on disk as frames."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from analysis.runs import COLUMNS, CURVE_COLUMNS, main_rows, read_curves, read_results, read_run
from grid.gathering import COLUMNS as WRITTEN
from grid.gathering import write_results

TABLE = """policy,return,± s.e.,std,IQM,won,length,ms per decision,calls per decision,parameters,lost,episodes
the data,0.6,0.01,0.5,0.4,0.1,12.4,,,,,4000
"policy, w = 1",1.25,0.03,0.4,1.1,0.5,12.0,2.0,1,900,0,256
"policy, w = 2",1.5,0.04,0.6,1.3,0.6,13.0,2.5,1,900,0,256
"""


def row(**changes: object) -> dict[str, object]:
    empty = dict.fromkeys(WRITTEN)
    known = {
        "task": "3m",
        "model": "bc",
        "policy": "policy",
        "main": True,
        "seed": 0,
        "checkpoint": "final",
        "run": "r",
    }
    return {**empty, **known, "return": "1.5", **changes}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config = {
        "seed_everything": 7,
        "trainer": {"max_steps": 4000},
        "model": {"class_path": "lightning_modules.VGM2P", "init_args": {"guidance_scale": 2.0}},
        "data": {"class_path": "x", "init_args": {"dataset": "embedded/smax/3m", "quality": "Mixed"}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "evaluation.csv").write_text(TABLE)
    (tmp_path / "metrics.csv").write_text("step,eval/return_mean,train/policy_loss\n49,,0.5\n99,0.75,\n199,1.25,0.25\n")
    return tmp_path


def test_what_a_grid_writes_is_read(tmp_path: Path):
    write_results([row(), row(main=False, policy="the data", **{"return": "0.5"}), row(seed=1, score="40")], tmp_path)
    frame = read_results(tmp_path)
    assert tuple(frame.columns) == COLUMNS
    assert frame["return"].tolist() == [1.5, 0.5, 1.5] and frame["main"].tolist() == [True, False, True]
    assert frame["seed"].tolist() == [0, 0, 1] and set(frame["origin"]) == {"ours"}
    assert frame["score"].isna().tolist() == [True, True, False]
    assert main_rows(frame)["seed"].tolist() == [0, 1]


def test_tables_that_are_none(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"expected the results.csv of a grid, found no file .*--gather"):
        read_results(tmp_path)
    (tmp_path / "results.csv").write_text("task,model\n3m,bc\n")
    with pytest.raises(ValueError, match="got a table without dataset, quality, algorithm"):
        read_results(tmp_path / "results.csv")


def test_weights_that_were_not_evaluated(tmp_path: Path):
    write_results([row()], tmp_path)
    with pytest.raises(
        ValueError, match=r"expected results with the checkpoint 'best', got those with \['final'\] only"
    ):
        main_rows(read_results(tmp_path), "best")


def test_a_single_run(run: Path):
    frame = read_run(run).set_index("policy")
    assert frame.index.tolist() == ["the data", "policy, w = 1", "policy, w = 2"]
    main = frame.loc["policy, w = 2"]
    assert frame["main"].tolist() == [False, False, True]
    assert (main["return"], main["return_error"], main["return_iqm"], main["won"]) == (1.5, 0.04, 1.3, 0.6)
    assert (main["ms_per_decision"], main["calls_per_decision"], main["parameters"]) == (2.5, 1, 900)
    assert (main["task"], main["algorithm"], main["seed"]) == ("embedded/smax/3m Mixed", "VGM2P", 7)
    assert main["updates"] == 4000 and main["run"] == str(run)


def test_a_directory_that_is_no_run(tmp_path: Path):
    with pytest.raises(
        FileNotFoundError, match=r"expected the directory of a finished run, .* found no '.*evaluation.csv'"
    ):
        read_run(tmp_path)


def test_curves_count_updates_from_one(run: Path):
    curves = read_curves(read_run(run), metrics=("eval/return_mean", "train/policy_loss", "nothing"))
    assert tuple(curves.columns) == CURVE_COLUMNS
    assert curves[["update", "metric", "value"]].to_numpy().tolist() == [
        [100, "eval/return_mean", 0.75],
        [200, "eval/return_mean", 1.25],
        [50, "train/policy_loss", 0.5],
        [200, "train/policy_loss", 0.25],
    ], "each run is read once, though it has three rows"


def test_curves_lie_where_the_results_say(run: Path, tmp_path: Path):
    frame = read_run(run).assign(run=run.name)
    assert len(read_curves(frame, results=run.parent)) == 2
    assert read_curves(frame[:0]).columns.tolist() == list(CURVE_COLUMNS)
    with pytest.raises(FileNotFoundError, match=r"metrics\.csv"):
        read_curves(frame, results=tmp_path / "elsewhere")


def test_frames_keep_their_types_without_values():
    assert pd.api.types.is_float_dtype(read_frame_of_nothing()["score"])


def read_frame_of_nothing() -> pd.DataFrame:
    from analysis.runs import tidy

    return tidy(pd.DataFrame({"task": ["a"], "main": [True]}))
