"""Grids from YAML: expansion, command lines and mistakes, compared with what was written down by hand."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.plan import plan_of, read_plan, select

CONFIGS = Path("configs")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_clone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)


def grid(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": "small",
        "seeds": [0, 5],
        "datasets": {"3m": {"config": "configs/smac.yaml"}, "xor": {"config": "configs/matrix.yaml"}},
        "models": {"bc": {"config": "configs/model/bc.yaml"}, "vgm2p": None},
    }
    return {**content, **changes}


def test_cells_are_models_times_datasets_times_seeds_seed_by_seed():
    names = [cell.name for cell in plan_of(grid()).cells]
    one = ["3m/bc", "3m/vgm2p", "xor/bc", "xor/vgm2p"]
    assert names == [f"{pair}/seed_{seed}" for seed in (0, 5) for pair in one]


def test_a_command_line_word_for_word():
    content = grid(arguments={"trainer.max_steps": 4000, "trainer.enable_progress_bar": False})
    content["datasets"]["3m"]["arguments"] = {"data.init_args.batch_size": 16}
    content["models"]["bc"] |= {
        "arguments": {"model.init_args.learning_rate": 0.001},
        "by_dataset": {"3m": {"model.init_args.hidden_dims": [64, 64]}},
    }
    cells = {cell.name: " ".join(cell.words) for cell in plan_of(content).cells}
    common = "--trainer.max_steps 4000 --trainer.enable_progress_bar false"
    assert cells["3m/bc/seed_0"] == (
        "fit --config configs/smac.yaml --model configs/model/bc.yaml --model.init_args.learning_rate 0.001 "
        f"--model.init_args.hidden_dims [64, 64] --data.init_args.batch_size 16 {common} --seed_everything 0"
    )
    assert cells["xor/vgm2p/seed_5"] == f"fit --config configs/matrix.yaml {common} --seed_everything 5"


def test_the_more_special_option_counts_and_is_said_once():
    """X is said for all, for the dataset, for the model and for the model on the dataset: 1, 2, 3, 4."""
    content = grid(seeds=[0], arguments={"a.x": 1, "a.only_common": 9})
    content["datasets"]["3m"]["arguments"] = {"a.x": 2}
    content["models"]["bc"] |= {"arguments": {"a.x": 3}, "by_dataset": {"3m": {"a.x": 4}}}
    words = {cell.name: cell.words for cell in plan_of(content).cells}
    value = {name: line[line.index("--a.x") + 1] for name, line in words.items()}
    expected = {"3m/bc": "4", "3m/vgm2p": "2", "xor/bc": "3", "xor/vgm2p": "1"}
    assert value == {f"{pair}/seed_0": number for pair, number in expected.items()}
    assert all(line.count("--a.x") == 1 and "--a.only_common" in line for line in words.values())


def test_excluded_pairs_are_left_out():
    names = {cell.name for cell in plan_of(grid(seeds=[0], exclude=["3m/bc", "x*/vgm2p"])).cells}
    assert names == {"3m/vgm2p/seed_0", "xor/bc/seed_0"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("3m", ["3m/bc/seed_0", "3m/vgm2p/seed_0"]),
        ("3m/bc", ["3m/bc/seed_0"]),
        ("*/bc", ["3m/bc/seed_0", "xor/bc/seed_0"]),
        ("xor/vgm2p/seed_0", ["xor/vgm2p/seed_0"]),
        (None, ["3m/bc/seed_0", "3m/vgm2p/seed_0", "xor/bc/seed_0", "xor/vgm2p/seed_0"]),
    ],
)
def test_only(pattern: str | None, expected: list[str]):
    assert [cell.name for cell in select(plan_of(grid(seeds=[0])).cells, pattern)] == expected


def test_only_something_that_is_not_there():
    with pytest.raises(ValueError, match=r"--only: expected .* got '3n', which fits none of 8 cells; --dry_run"):
        select(plan_of(grid()).cells, "3n")


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"modles": {}}, "the grid: unknown key 'modles'; did you mean 'models'"),
    ({"models": None}, "the grid: expected the key 'models', got only: name, seeds, datasets"),
    ({"seeds": 3}, r"seeds: expected a list of different numbers such as \[0, 1, 2\], got 3"),
    ({"seeds": [0, 0]}, r"seeds: expected a list of different .*, got \[0, 0\]"),
    ({"seeds": [True]}, r"seeds: expected .* got \[True\]"),
    ({"seeds": []}, "expected at least one cell, got none"),
    ({"name": "a/b"}, "name: expected a name of letters, digits .* got 'a/b'"),
    ({"datasets": {"3m": {}}}, "datasets.3m: expected the key 'config', got only: none"),
    ({"datasets": {"3m": {"config": "configs/no.yaml"}}}, "datasets.3m.config: expected .* no file 'configs/no.yaml'"),
    ({"models": {"bc": {"config": "bc"}}}, "models.bc.config: expected a configuration file, found no file 'bc'"),
    ({"models": {"bc": {"on": {}}}}, "models.bc: unknown key 'on'"),
    (
        {"models": {"bc": {"by_dataset": {"3n": {}}}}},
        "models.bc.by_dataset: unknown dataset '3n'; choose one of: 3m, xor",
    ),
    ({"models": {"bc": [1]}}, r"models.bc: expected 'key: value' pairs, got \[1\]"),
    ({"arguments": {"--trainer.max_steps": 3}}, "arguments: expected options .* without dashes, .* got '--trainer"),
    ({"arguments": {"seed_everything": 3}}, "arguments: 'seed_everything' is decided by the grid"),
    ({"exclude": ["3m/omar"]}, "exclude: expected <dataset>/<model> of this grid, got '3m/omar', which is none"),
    ({"exclude": ["*"]}, "expected at least one cell, got none"),
    ({"checkpoints": ["last"]}, "checkpoints: unknown checkpoint 'last'; choose one of: final, best"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[str(change)[:40] for change, _ in MISTAKES])
def test_mistakes_say_where_and_what(change: dict[str, Any], message: str, tmp_path: Path):
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(grid(**change), sort_keys=False))
    with pytest.raises((ValueError, FileNotFoundError), match=f"{re.escape(str(file))}: {message}"):
        read_plan(file)


def test_files_that_are_no_grids(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"--config: expected the YAML file of a grid, found no file 'no.yaml'"):
        read_plan(Path("no.yaml"))
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match=r"broken.yaml: expected YAML, got while parsing a flow sequence .* line 1"):
        read_plan(tmp_path / "broken.yaml")
    (tmp_path / "text.yaml").write_text("fit everything")
    with pytest.raises(ValueError, match="the grid: expected 'key: value' pairs, got 'fit everything'"):
        read_plan(tmp_path / "text.yaml")


# Shipped grids


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "3m-mixed/vgm2p/seed_0",
            "fit --config configs/smac.yaml {both} --model.init_args.critic_updates 900 "
            "--model.init_args.credit_updates 500 --trainer.max_steps 3000 --data.init_args.batch_size 16 {all} 0",
        ),
        (
            "spread-mixed/ma_cql/seed_1",
            "fit --config configs/mpe.yaml --model configs/model/ma_cql.yaml {policy} "
            "--model.init_args.penalty_steps 16 --model.init_args.learning_rate 0.001 --model.init_args.discount 0.95 "
            "--model.init_args.penalty_weight 1.0 --trainer.max_steps 5000 "
            "--data.init_args.batch_size 64 {all} 1",
        ),
        (
            "2s3z-medium/bc/seed_2",
            "fit --config configs/smac.yaml --model configs/model/bc.yaml {policy} --trainer.max_steps 2000 "
            "--data.init_args.batch_size 8 --data.init_args.dataset embedded/smax/2s3z "
            "--model.init_args.standardise true --data.init_args.quality Medium {few} {all} 2",
        ),
        (
            "2halfcheetah-replay/omar/seed_0",
            "fit --config configs/mamujoco.yaml --model configs/model/omar.yaml {both} "
            "--model.init_args.proposal_steps 16 --trainer.max_steps 4000 --trainer.val_check_interval 1000 "
            "--model.init_args.learning_rate 0.001 --model.init_args.standardise true --data.init_args.batch_size 32 "
            "--data.init_args.dataset embedded/mamujoco/2halfcheetah --data.init_args.quality Replay {fewest} {all} 0",
        ),
    ],
)
def test_cells_of_the_embedded_grid_are_these_command_lines(name: str, line: str):
    policy = "--model.init_args.hidden_dims [128, 128]"
    both = f"{policy} --model.init_args.critic_hidden_dims [128, 128]"
    few = _callbacks(every_n_updates=0, final_episodes=64)
    fewest = _callbacks(episodes=32, every_n_updates=0, final_episodes=32, final_policies="without_chance")
    common = {"policy": policy, "both": both, "all": "--trainer.limit_val_batches 10 --seed_everything"}
    expected = line.format(few=few, fewest=fewest, **common)
    cells = {cell.name: " ".join(cell.words) for cell in read_plan(CONFIGS / "benchmark/embedded.yaml").cells}
    assert _options(cells[name]) == _options(expected)


def _callbacks(**rollouts: Any) -> str:
    others = ("ValueDiagnostics", "RunMetadata", "LastCheckpoint", "UpdateProgressBar")
    kinds = ("StageSwitch", "RolloutEvaluation", *others)
    callbacks: list[dict[str, Any]] = [{"class_path": f"callbacks.{kind}"} for kind in kinds]
    callbacks[1]["init_args"] = rollouts
    return f"--trainer.callbacks {json.dumps(callbacks)}"


def _options(line: str) -> set[str]:
    return set(re.split(r" (?=--)", line))


def test_the_embedded_grid_has_every_algorithm_on_every_task_three_times():
    """All files in configs/model, but for OMAR where actions are choices, and IQL+CQL where they are not."""
    cells = read_plan(CONFIGS / "benchmark/embedded.yaml").cells
    tasks = [f"{name}-{quality}" for name in ("3m", "2s3z", "spread") for quality in ("mixed", "medium")]
    tasks += ["2halfcheetah-replay", "2halfcheetah-medium"]
    models = {path.stem for path in (CONFIGS / "model").glob("*.yaml")}
    expected = {
        f"{task}/{model}/seed_{seed}"
        for task in tasks
        for model in models
        for seed in (0, 1, 2)
        if model != ("iql_cql" if task.startswith(("spread", "2halfcheetah")) else "omar")
    }
    assert {cell.name for cell in cells} == expected
    assert len(cells) == 3 * (8 * 25 - 4 - 4)


def test_the_claims_name_what_they_change():
    """A model called <algorithm>+<option>+<value> has that value; excluded are those that change nothing."""
    plan = read_plan(CONFIGS / "benchmark/claims.yaml")
    assert len(plan.cells) == 3 * (2 * 31 - 4)
    for cell in plan.cells:
        if "+" in cell.model:
            algorithm, option, value = cell.model.split("+")
            given = dict(zip(cell.words[1::2], cell.words[2::2], strict=True))
            told = given[f"--model.init_args.{option}"]
            assert told == value or float(told) == float(value), cell.name
            expected = "vgm2p" if "--model" not in given else Path(given["--model"]).stem
            assert algorithm == expected, cell.name


@pytest.mark.parametrize("path", sorted((ROOT / "configs/benchmark").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_grid_is_named_after_its_file(path: Path):
    assert read_plan(path).name == path.stem


def test_the_slurm_script_has_as_many_jobs_as_the_grid_has_cells():
    text = (ROOT / "docs/slurm.md").read_text()
    last = int(re.findall(r"--array=0-(\d+)", text)[0])
    assert last + 1 == len(read_plan(CONFIGS / "benchmark/embedded.yaml").cells)
    assert f"{last + 1}, from 0 to {last}" in text
