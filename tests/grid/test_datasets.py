"""The datasets of a grid: each once, made before the first cell."""

from pathlib import Path

import pytest

from grid.datasets import Needed, needed, provide
from tests.grid.cells import STUB


def config(dataset: str, quality: str = "Mixed", **options: object) -> dict[str, object]:
    return {"data": {"init_args": {"dataset": dataset, "quality": quality, **options}}}


def test_every_vault_once():
    configs = [
        config("embedded/smax/3m"),
        config("embedded/smax/3m", root="elsewhere"),
        config("embedded/smax/3m", combine_with=["og_marl/smac_v1/3m/Poor"]),
        {},
    ]
    assert needed(configs) == [
        Needed(Path("vaults"), "embedded/smax/3m", "Mixed"),
        Needed(Path("elsewhere"), "embedded/smax/3m", "Mixed"),
        Needed(Path("vaults"), "og_marl/smac_v1/3m", "Poor"),
    ]


def test_what_is_missing_is_recorded_or_downloaded(tmp_path: Path):
    there = tmp_path / "embedded/matrix/xor.vlt/Mixed"
    there.mkdir(parents=True)
    for file in ("metadata.json", "manifest.ocdbt"):
        (there / file).touch()
    names = [
        ("embedded/matrix/xor", "Mixed"),
        ("embedded/smax/3m", "Good"),
        ("og_marl/smac_v1/3m", "Good"),
        ("my/a/b", "C"),
    ]
    provide([Needed(tmp_path, *name) for name in names], STUB)
    made = (tmp_path / "made").read_text().splitlines()
    assert made == ["record embedded/smax/3m Good", "fetch og_marl/smac_v1/3m Good"]


def test_a_dataset_that_cannot_be_had_ends_the_grid(tmp_path: Path):
    with pytest.raises(
        RuntimeError, match=r"expected 'lightning data record embedded/smax/3m Broken --root .*' to end well"
    ):
        provide([Needed(tmp_path, "embedded/smax/3m", "Broken")], STUB)
