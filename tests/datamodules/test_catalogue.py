from pathlib import Path

import pytest

from datamodules.catalogue import EMBEDDED_DATASETS, check_embedded, nearest, split_name, vault_directory
from environments.registry import SCENARIOS


def test_names_and_directories() -> None:
    assert split_name("og_marl/smac_v1/3m") == ("og_marl", "smac_v1", "3m")
    directory = vault_directory(Path("vaults"), "embedded/smax/3m", "Mixed")
    assert directory == Path("vaults/embedded/smax/3m.vlt/Mixed")


@pytest.mark.parametrize("dataset", ["embedded/smax/3m", "embedded/mpe/simple_spread", "embedded/matrix/xor"])
def test_the_datasets_of_the_shipped_configurations_exist(dataset: str) -> None:
    check_embedded(dataset, "Mixed")


def test_every_environment_has_its_dataset() -> None:
    assert sorted(EMBEDDED_DATASETS) == sorted(f"embedded/{scenario}" for scenario in SCENARIOS)


@pytest.mark.parametrize("name", ["3m", "smax/3m", "embedded/smax/", "embedded/../3m", "a/b/c/d"])
def test_names_without_three_plain_parts_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="<source>/<environment>/<scenario>, got"):
        vault_directory(Path("vaults"), name, "Mixed")


@pytest.mark.parametrize("quality", ["", "..", "a/b"])
def test_qualities_that_are_no_directory_are_refused(quality: str) -> None:
    with pytest.raises(ValueError, match="quality that names one directory"):
        vault_directory(Path("vaults"), "embedded/smax/3m", quality)


def test_misspelt_names_get_the_nearest_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown dataset 'embedded/smax/3mm'; did you mean embedded/smax/3m "):
        check_embedded("embedded/smax/3mm", "Mixed")
    with pytest.raises(ValueError, match=r"unknown quality 'mixed' of embedded/smax/3m; did you mean Mixed\?"):
        check_embedded("embedded/smax/3m", "mixed")
    assert nearest("zzz", ("a", "b")) == "choose one of: a, b"
