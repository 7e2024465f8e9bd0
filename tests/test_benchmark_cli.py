"""``lightning benchmark`` as a user meets it: a stub stands for the training, but for one real grid."""

import contextlib
import csv
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import benchmark_cli
from benchmark_cli import Resolve
from callbacks.code_version import versions
from grid import sessions
from tests.grid.stub import __file__ as stub
from vgm2p_cli import main, resolved

ROOT = Path(__file__).parents[1]
STUB = (sys.executable, stub)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("data.yaml", "bc.yaml"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture(autouse=True)
def light(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    if "real" not in request.node.name:  # the stub's checkpoints are text
        monkeypatch.setattr(sessions, "updates_of", lambda run: {"final": 40})


def write_grid(**changes: Any) -> None:
    grid: dict[str, Any] = {
        "name": "small",
        "seeds": [0, 1],
        "arguments": {"trainer.max_steps": 40},
        "datasets": {"d": {"config": "data.yaml"}},
        "models": {"vgm2p": None, "bc": {"config": "bc.yaml"}},
        "checkpoints": ["final"],
    }
    Path("grid.yaml").write_text(yaml.safe_dump(grid | changes, sort_keys=False))


def resolve(words: Sequence[str]) -> dict[str, Any]:
    """The configuration of a command line, as little as the stub needs."""
    options = dict(zip(words[1::2], words[2::2], strict=True))
    return {
        "seed_everything": 7,
        "trainer": {"max_steps": int(options["--trainer.max_steps"])},
        "model": {"class_path": f"lightning_modules.{options.get('--model', 'VGM2P')}", "init_args": {}},
    }


def benchmark(*words: str, resolve: Resolve = resolve, program: Sequence[str] = STUB) -> int:
    """Runs the command; its exit code."""
    with pytest.raises(SystemExit) as left, contextlib.ExitStack():
        benchmark_cli.run(["--config", "grid.yaml", *words], resolve, program)
        raise SystemExit(0)
    assert isinstance(left.value.code, int)
    return left.value.code


def fits(cell: str) -> int:
    """How many times a cell's training was begun."""
    path = Path("runs/benchmark/small") / cell / "calls.json"
    return len(path.read_text().splitlines()) if path.exists() else 0


CELLS = ["d/vgm2p/seed_0", "d/bc/seed_0", "d/vgm2p/seed_1", "d/bc/seed_1"]


def test_dry_run_prints_command_lines_to_paste(here: Path, capsys: pytest.CaptureFixture[str]):
    write_grid()
    assert benchmark("--dry_run", "--only", "*/bc") == 0
    line = "lightning fit --config data.yaml --model bc.yaml --trainer.max_steps 40 --seed_everything"
    assert capsys.readouterr().out == f"# 1: d/bc/seed_0\n{line} 0\n# 3: d/bc/seed_1\n{line} 1\n"
    assert not Path("runs").exists()


def test_a_grid_is_run_gathered_and_not_run_again(here: Path, capsys: pytest.CaptureFixture[str]):
    write_grid()
    assert benchmark("--jobs", "2") == 0
    printed = capsys.readouterr().out
    assert "4 of 4 cells: runs/benchmark/small/results.csv" in printed
    with Path("runs/benchmark/small/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["model"], row["seed"], row["return"]) for row in rows if row["main"] == "True"} == {
        *(("vgm2p", "0", "-1.0"), ("vgm2p", "1", "0.0"), ("bc", "0", "-1.0"), ("bc", "1", "0.0"))
    }, "the stub's first row of a policy returns its seed - 1"
    assert benchmark("--jobs", "2") == 0
    assert [fits(cell) for cell in CELLS] == [1, 1, 1, 1]


def test_what_a_grid_writes_down(here: Path):
    write_grid()
    benchmark("--jobs", "1", "--results", "elsewhere", "--only", "d/bc/seed_1")
    grid = json.loads(Path("elsewhere/grid.json").read_text())
    assert [cell["name"] for cell in grid["cells"]] == CELLS and grid["name"] == "small"
    assert grid["cells"][3]["command"].endswith("--model bc.yaml --trainer.max_steps 40 --seed_everything 1")
    call = grid["calls"][0]
    assert call["versions"] == versions() and call["jobs"] == 1 and call["hardware"]["processor"]
    assert set(call["code"]) == {"commit", "changed_files"} and call["threads_per_cell"] >= 1
    cell = Path("elsewhere/d/bc/seed_1")
    settings = json.loads((cell / "settings.json").read_text())
    assert settings["config"]["seed_everything"] == 1 and settings["config"]["trainer"] == {"max_steps": 40}
    done = json.loads((cell / "done.json").read_text())
    assert done["wall_seconds"] > 0 and done["versions"] == versions()
    benchmark("--results", "elsewhere", "--only", "d/bc/seed_1")
    assert len(json.loads(Path("elsewhere/grid.json").read_text())["calls"]) == 2


def test_a_failing_cell_is_reported_at_the_end(here: Path, capsys: pytest.CaptureFixture[str]):
    write_grid(models={"vgm2p": None, "bc": {"config": "bc.yaml", "arguments": {"stub.fail_at": 5}}})
    assert benchmark() == 1
    output = capsys.readouterr()
    assert "2 of 4 cells" in output.out
    assert re.search(r"failed: d/bc/seed_0: error: this one fails\n  .*/d/bc/seed_0/log.txt\n", output.err)
    assert [fits(cell) for cell in CELLS] == [1, 1, 1, 1]


def test_killed_cells_go_on(here: Path):
    write_grid(models={"bc": {"config": "bc.yaml", "arguments": {"stub.kill_at": 25}}})
    assert benchmark() == 1
    assert benchmark() == 0
    words = json.loads((Path("runs/benchmark/small/d/bc/seed_0/calls.json")).read_text().splitlines()[1])["words"]
    assert words[-2:] == ["--ckpt_path", "last"]


def test_changed_settings_are_refused_and_redone_when_asked(here: Path):
    write_grid()
    benchmark()
    write_grid(models={"vgm2p": None, "bc": {"config": "bc.yaml", "arguments": {"trainer.max_steps": 30}}})
    with pytest.raises(ValueError) as refused:
        benchmark()
    assert str(refused.value).splitlines()[:2] == [
        "2 cells were run with other settings than the grid has now:",
        "  d/bc/seed_0: trainer.max_steps 40 -> 30",
    ]
    assert "--redo deletes these cells" in str(refused.value)
    assert benchmark("--redo") == 0
    assert json.loads(Path("runs/benchmark/small/d/bc/seed_0/settings.json").read_text())["words"][6] == "30"
    assert [fits(cell) for cell in CELLS] == [1, 1, 1, 1], "those that did not change were not run again"


def test_cells_of_other_settings_are_not_gathered(here: Path, capsys: pytest.CaptureFixture[str]):
    write_grid()
    benchmark()
    write_grid(models={"vgm2p": None, "bc": {"config": "bc.yaml", "arguments": {"a.b": 1}}})
    assert benchmark("--gather") == 0
    output = capsys.readouterr()
    assert "left out, because they were run with other settings: d/bc/seed_0, d/bc/seed_1" in output.err
    assert "2 of 4 cells" in output.out


def brought_from_elsewhere(*cells: str) -> str:
    """A grid is run; then only results.csv and grid.json, without some cells, are left of it; returns results.csv."""
    benchmark()
    there, here = Path("runs/benchmark/small"), Path("runs/benchmark/brought")
    here.mkdir()
    (here / "grid.json").write_text((there / "grid.json").read_text())
    text = (there / "results.csv").read_text()
    without = [line for line in text.splitlines(keepends=True) if not any(cell in line for cell in cells)]
    (here / "results.csv").write_text("".join(without))
    return text


def numbers(text: str) -> list[dict[str, str]]:
    """Rows of a results.csv without times and commits, in the order of the cells."""
    changing = ("wall_seconds", "commit", "changed_files")
    rows = csv.DictReader(text.splitlines())
    return [{name: value for name, value in row.items() if name not in changing} for row in rows]


def test_results_whose_runs_are_elsewhere_are_kept_and_count(here: Path, capsys: pytest.CaptureFixture[str]):
    write_grid()
    whole = brought_from_elsewhere("d/bc/seed_1")
    assert benchmark("--results", "runs/benchmark/brought") == 0
    output = capsys.readouterr()
    assert "3 cells are known from 'runs/benchmark/brought/results.csv' only" in output.err
    assert "4 of 4 cells" in output.out
    brought = Path("runs/benchmark/brought")
    assert sorted(str(path.relative_to(brought).parent) for path in brought.rglob("done.json")) == ["d/bc/seed_1"]
    assert numbers((brought / "results.csv").read_text()) == numbers(whole)
    before = (brought / "results.csv").read_text()
    assert benchmark("--results", "runs/benchmark/brought", "--gather") == 0
    assert (brought / "results.csv").read_text() == before


def test_recorded_results_of_other_settings_are_refused_and_forgotten_when_asked(here: Path):
    write_grid()
    brought_from_elsewhere()
    write_grid(models={"vgm2p": None, "bc": {"config": "bc.yaml", "arguments": {"trainer.max_steps": 30}}})
    before = Path("runs/benchmark/brought/results.csv").read_text()
    for words in ([], ["--gather"]):
        with pytest.raises(ValueError, match=r"2 cells .* runs are not here: d/bc/seed_0, d/bc/seed_1; --redo forgets"):
            benchmark("--results", "runs/benchmark/brought", *words)
    assert Path("runs/benchmark/brought/results.csv").read_text() == before
    assert benchmark("--results", "runs/benchmark/brought", "--redo", "--only", "d/bc/seed_0") == 0
    rows = list(csv.DictReader(Path("runs/benchmark/brought/results.csv").read_text().splitlines()))
    assert {f"{row['model']}/{row['seed']}" for row in rows} == {"vgm2p/0", "vgm2p/1", "bc/0"}
    assert benchmark("--results", "runs/benchmark/brought") == 0
    assert (Path("runs/benchmark/brought/d/bc/seed_1") / "done.json").is_file(), "the forgotten one counts no more"


def test_one_cell_of_an_array_of_jobs(here: Path, capsys: pytest.CaptureFixture[str]):
    write_grid()
    assert benchmark("--cell", "2") == 0
    assert [fits(cell) for cell in CELLS] == [0, 0, 1, 0]
    assert not Path("runs/benchmark/small/results.csv").exists(), "several jobs would write it at once"
    assert benchmark("--gather") == 0
    assert "1 of 4 cells" in capsys.readouterr().out


def test_nothing_to_gather(here: Path, capsys: pytest.CaptureFixture[str]):
    write_grid()
    assert benchmark("--gather") == 0
    assert capsys.readouterr().out == "no cell is finished yet\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cell", "4"], "--cell: expected a number from 0 to 3, got 4"),
        (["--cell", "1", "--only", "d"], "--cell and --only: expected one of the two, got both"),
        (["--jobs", "0"], "--jobs: expected at least 1, got 0"),
        (["--only", "e"], "--only: expected .* got 'e'"),
    ],
)
def test_mistakes_in_options(words: list[str], message: str, here: Path):
    write_grid()
    with pytest.raises(ValueError, match=message):
        benchmark(*words)
    assert not Path("runs").exists()


def test_an_interruption_leaves_with_130(here: Path, monkeypatch: pytest.MonkeyPatch):
    write_grid()

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark_cli, "run_cells", interrupted)
    assert benchmark() == 130


def test_unknown_options_and_help(here: Path, capsys: pytest.CaptureFixture[str]):
    write_grid()
    assert benchmark("--jbos", "2") == 2
    assert "All options: lightning benchmark --help" in capsys.readouterr().err
    assert benchmark("--help") == 0
    assert "Only cells whose name fits" in " ".join(capsys.readouterr().out.split())


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(["benchmark", *words])
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_a_wrong_option_of_a_cell_is_told_before_anything_runs(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(ROOT)
    grid = here / "grid.yaml"

    def with_option(name: str, value: Any) -> str:
        content = {"name": "x", "seeds": [0], "datasets": {"xor": {"config": "configs/matrix.yaml"}}}
        grid.write_text(yaml.safe_dump({**content, "models": {"vgm2p": {"arguments": {name: value}}}}))
        return refused(["--config", str(grid), "--results", str(here / "results")], capsys)

    message = with_option("model.init_args.guidnace_scale", 3)
    assert (
        "Did you mean 'guidance_scale'" in message
        and "error: the command line of xor/vgm2p/seed_0 is refused" in message
    )
    message = with_option("trainer.max_steps", 100)
    assert "trainer.max_steps must be above 500, got 100" in message and "That is cell xor/vgm2p/seed_0" in message
    assert not (here / "results").exists()


def test_what_is_resolved_is_the_whole_configuration(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    words = ["fit", "--config", "configs/matrix.yaml", "--model", "configs/model/bc.yaml", "--trainer.max_steps", "7"]
    config = resolved(words)
    assert config["trainer"]["max_steps"] == 7 and config["model"]["class_path"] == "lightning_modules.BC"
    assert config["data"]["init_args"]["validation_fraction"] == 0.1, "defaults, too"


def test_cells_that_were_run_together_are_the_same_alone(here: Path, monkeypatch: pytest.MonkeyPatch):
    """With the real configurations, in which the seed of a cell seeds the data, too."""
    arguments = {"trainer.max_steps": 40, "data.init_args.root": str(here / "vaults")}
    datasets = {"xor": {"config": str(ROOT / "configs/matrix.yaml")}}
    models = {"bc": {"config": str(ROOT / "configs/model/bc.yaml")}}
    write_grid(arguments=arguments, datasets=datasets, models=models)
    for words in (["--jobs", "2"], ["--only", "xor/bc/seed_1"]):
        assert benchmark(*words, resolve=resolved) == 0
    assert [fits(f"xor/bc/seed_{seed}") for seed in (0, 1)] == [1, 1]
    settings = json.loads(Path("runs/benchmark/small/xor/bc/seed_1/settings.json").read_text())
    assert settings["config"]["seed_everything"] == 1


@pytest.mark.slow  # three new processes, each of which imports everything
def test_a_real_grid_in_real_processes(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The shipped example made tiny: recorded, trained, gathered, in the way that a user would do it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("matrix", "model/bc"):
        (here / "configs" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / f"configs/{name}.yaml").write_text((ROOT / f"configs/{name}.yaml").read_text())
    grid = yaml.safe_load((ROOT / "configs/benchmark/smoke.yaml").read_text())
    grid |= {"seeds": [3], "arguments": {"trainer.max_steps": 40, "trainer.enable_progress_bar": False}}
    grid["models"] = {"bc": grid["models"]["bc"]}
    (here / "grid.yaml").write_text(yaml.safe_dump(grid))
    main(["benchmark", "--config", "grid.yaml", "--results", "results"])
    assert "1 of 1 cells: results/results.csv" in capsys.readouterr().out
    with Path("results/results.csv").open(newline="") as file:
        rows = {row["policy"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"the data", "policy, sampled", "policy, mode"}
    row = rows["policy, sampled"]
    assert row["main"] == "True" and row["algorithm"] == "BC" and row["dataset"] == "embedded/matrix/xor"
    assert row["updates"] == "40" and row["seed"] == "3" and 0 <= float(row["return"]) <= 1
    assert float(row["policy_seconds_per_update"]) > 0 and float(row["wall_seconds"]) > 0
    assert (here / "vaults/embedded/matrix/xor.vlt/Mixed").is_dir(), "recorded where the command was run"
    assert (here / "results" / row["run"] / "checkpoints/last.ckpt").is_file()
