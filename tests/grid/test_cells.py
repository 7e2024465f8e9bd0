"""The directory of a cell: what comes next, what has changed, and who may work there."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from grid.cells import Place, begin, claimed, clear_unusable, command, difference, flat, next_step, take_over
from tests.grid.cells import place

RUN = "runs/stub/version_0"


def touch(cell: Place, *files: str) -> None:
    for file in files:
        path = cell.directory / RUN / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"


@pytest.mark.parametrize(
    ("files", "trained", "expected"),
    [
        ([], False, "fit"),
        (["config.yaml"], False, "fit"),  # killed before the first checkpoint
        ([LAST], False, "fit last"),
        ([LAST], True, "test last"),  # it was killed between its last update and its table
        ([], True, None),  # nothing that could be played
        ([LAST, BEST, "evaluation.csv"], False, "test best"),
        ([LAST, "evaluation.csv"], False, None),  # no rollout was better than none
        ([LAST, BEST, "evaluation.csv", "evaluation_best.csv"], False, None),
    ],
)
def test_what_comes_next(files: list[str], trained: bool, expected: str | None, tmp_path: Path):
    cell = place(tmp_path)
    touch(cell, *files)
    words = next_step(cell, ("final", "best"), trained)
    found = None if words is None else f"{words[0]} {words[-1] if words[-2] == '--ckpt_path' else ''}".strip()
    assert found == expected


def test_best_weights_are_played_only_where_they_are_asked_for(tmp_path: Path):
    cell = place(tmp_path)
    touch(cell, LAST, BEST, "evaluation.csv")
    assert next_step(cell, ("final",)) is None


def test_tables_go_where_the_cell_keeps_them(tmp_path: Path):
    cell = place(tmp_path)
    touch(cell, "test/evaluation.csv")
    take_over(cell, ["test", "--ckpt_path", "best"])
    assert [path.name for path in (cell.directory / RUN).glob("*.csv")] == ["evaluation_best.csv"]
    touch(cell, "test/evaluation.csv")
    take_over(cell, ["test", "--ckpt_path", "last"])
    assert (cell.directory / RUN / "evaluation.csv").is_file()


def test_a_command_has_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").touch()
    cell = place(tmp_path, config={"data": {"init_args": {"root": "elsewhere/vaults", "cache_dir": "fast"}}})
    words = " ".join(command(cell, "test", "best"))
    assert words == (
        f"test --config {tmp_path}/x.yaml --trainer.max_steps 40 --seed_everything 0 --data.init_args.root "
        f"{tmp_path}/elsewhere/vaults --data.init_args.cache_dir {tmp_path}/fast --ckpt_path best"
    )
    unknown = command(replace(cell, config={}), "fit")
    assert unknown[-2:] == ["--data.init_args.root", f"{tmp_path}/vaults"]


def test_a_run_without_checkpoint_is_removed(tmp_path: Path):
    cell = place(tmp_path)
    touch(cell, "config.yaml")
    clear_unusable(cell)
    assert cell.run is None
    touch(cell, LAST)
    clear_unusable(cell)
    assert cell.run == cell.directory / RUN


CONFIG = {"model": {"init_args": {"rate": 0.1, "dims": [8, 8]}}, "data": {"init_args": {"root": "a"}}}


def test_equal_settings_are_no_difference_wherever_the_data_lies(tmp_path: Path):
    cell = place(tmp_path, config=CONFIG)
    assert difference(cell) is None, "never begun"
    begin(cell)
    assert difference(cell) is None
    assert difference(replace(cell, config={**CONFIG, "data": {"init_args": {"root": "b"}}})) is None
    new_option = {**CONFIG, "model": {"init_args": {"rate": 0.1, "dims": [8, 8], "new": 3}}}
    assert difference(replace(cell, config=new_option)) is None, "an option that came with a newer version"


def test_changed_settings_are_named(tmp_path: Path):
    begin(place(tmp_path, config=CONFIG))
    longer = place(tmp_path, config=CONFIG, trainer__max_steps=50)
    assert difference(longer) == "trainer.max_steps 40 -> 50"
    other_file = {**CONFIG, "model": {"init_args": {"rate": 0.2, "dims": [8]}}}
    assert difference(place(tmp_path, config=other_file)) == (
        "model.init_args.dims [8, 8] -> [8], model.init_args.rate 0.1 -> 0.2"
    )
    assert difference(place(tmp_path, config=CONFIG, model__x=1)) == "model.x None -> 1"


def test_settings_are_written_once(tmp_path: Path):
    cell = place(tmp_path, config=CONFIG)
    begin(cell)
    begin(replace(cell, config={}))
    assert json.loads((cell.directory / "settings.json").read_text())["config"]["model"] == CONFIG["model"]


def test_flat():
    nested = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 2}, {"e": 3}], "f": None}
    assert flat(nested) == {"a.b": 1, "a.c": [1, 2], "d.0.e": 2, "d.1.e": 3, "f": None}


def test_one_process_at_a_time_and_its_children_keep_the_right(tmp_path: Path):
    with claimed(tmp_path / "cell") as ours:
        assert ours is not None
        with claimed(tmp_path / "cell") as second:
            assert second is None
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(ours,))
    with claimed(tmp_path / "cell") as while_the_child_lives:
        assert while_the_child_lives is None
    child.communicate(b"\n")
    with claimed(tmp_path / "cell") as again:
        assert again is not None
