import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

from datamodules.catalogue import (
    EMBEDDED_CONTINUOUS,
    EMBEDDED_DATASETS,
    EMBEDDED_QUALITIES,
    HUB_REPOSITORY,
    archive,
    check_embedded,
    find,
    is_published,
    listing,
    local_qualities,
    nearest,
    published,
    published_as,
    qualities,
    recorded_as,
    scenario_directory,
    split_name,
    vault_directory,
)
from environments.behaviours import recipe, recorded_qualities
from environments.registry import SCENARIOS, make_vector_env, scenario_of

CARDS = Path(__file__).parents[3] / "shared/reference/og-marl-dataset-cards.json"

EMBEDDED = sum(map(len, EMBEDDED_QUALITIES.values()))  # lines of the catalogue


def make_vault(root: Path, dataset: str, quality: str) -> None:
    """What is_vault takes for one."""
    directory = vault_directory(root, dataset, quality)
    directory.mkdir(parents=True)
    (directory / "metadata.json").write_text("{}")
    (directory / "manifest.ocdbt").write_bytes(b"")


def test_names_and_directories() -> None:
    assert split_name("og_marl/smac_v1/3m") == ("og_marl", "smac_v1", "3m")
    directory = vault_directory(Path("vaults"), "embedded/smax/3m", "Mixed")
    assert directory == Path("vaults/embedded/smax/3m.vlt/Mixed")
    assert scenario_directory(Path("vaults"), "embedded/smax/3m") == directory.parent


@pytest.mark.parametrize("dataset", ["embedded/smax/3m", "embedded/mpe/simple_spread", "embedded/matrix/xor"])
def test_the_datasets_of_the_shipped_configurations_exist(dataset: str) -> None:
    check_embedded(dataset, "Mixed")


def test_the_embedded_datasets_are_those_that_can_be_recorded() -> None:
    recordable = {f"embedded/{scenario}": recorded_qualities(scenario) for scenario in SCENARIOS}
    assert {name: sorted(some) for name, some in EMBEDDED_QUALITIES.items()} == {
        name: sorted(some) for name, some in recordable.items() if some
    }
    assert qualities("embedded/smax/8m") == ("Mixed",)
    assert qualities("embedded/mpe/simple_spread") == ("Mixed", "Good", "Medium", "Poor", "Replay", "Expert")


def test_embedded_datasets_are_named_after_the_scenario_they_are_recorded_in() -> None:
    assert [scenario_of(name) for name in EMBEDDED_DATASETS] == [name.partition("/")[2] for name in EMBEDDED_DATASETS]


@pytest.mark.parametrize("scenario", ["matrix/xor", "matrix/landmarks", "mpe/simple_spread", "mamujoco/2halfcheetah"])
def test_embedded_datasets_are_discrete_where_their_environments_are(scenario: str) -> None:
    for family, package in (("mpe", "mpe2"), ("mamujoco", "gymnasium_robotics")):
        if scenario.startswith(family):
            pytest.importorskip(package)
    assert make_vector_env(scenario, 1).discrete == (f"embedded/{scenario}" not in EMBEDDED_CONTINUOUS)


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
    with pytest.raises(ValueError, match=r"'mixed' of embedded/smax/3m; choose one of: Mixed, Good, Medium, Poor, Re"):
        check_embedded("embedded/smax/3m", "mixed")
    with pytest.raises(ValueError, match=r"unknown quality 'Good' of embedded/smax/8m; choose one of: Mixed$"):
        check_embedded("embedded/smax/8m", "Good")
    assert nearest("zzz", ("a", "b")) == "choose one of: a, b"
    assert nearest("medium", ("Poor", "Medium", "Medium-Replay")).startswith("did you mean Medium ")


# The published ones


def test_there_are_84_of_five_sources() -> None:
    every = published()
    assert len(every) == 84
    assert len({(card.dataset, card.quality) for card in every}) == 84
    counts = Counter(card.source for card in every)
    assert counts == {"omiga": 24, "og_marl": 22, "cfcql": 16, "omar": 16, "alberdice": 6}
    assert sum(card.discrete for card in every) == 53
    assert len({card.dataset for card in every}) == 30
    # Steps of one copy, added up by hand from the cards: OMIGA's SMAC and MA-MuJoCo, OG-MARL, CFCQL, OMAR, AlberDICE
    steps = Counter({source: 0 for source in counts})
    for card in every:
        steps[card.source] += card.steps
    assert steps["alberdice"] == 6 * 500_000
    assert steps["omar"] == 12 * 1_000_000 + 97_500 + 62_500 + 80_000 + 460_000
    assert steps["omiga"] == 555_439 + (3 * 1_001_000 + 2_002_000) + (1_751_750 + 2_002_000 + 2 * 1_001_000) + (
        1_314_826 + 1_919_782 + 919_391 + 1_000_391
    )


def test_spot_checks() -> None:
    good = find("og_marl/smac_v1/3m", "Good")
    assert (good.n_agents, good.obs_dim, good.state_dim, good.action_dim) == (3, 30, 48, 9)
    assert (good.discrete, good.legal_actions, good.copies, good.steps, good.episodes) == (
        True,
        True,
        1,
        996_366,
        43_559,
    )
    assert good.return_mean == pytest.approx(16.4887, abs=1e-4)
    assert good.return_std == pytest.approx(5.9153, abs=1e-4)
    assert (good.return_min, good.return_max) == (0.0, pytest.approx(20.0, abs=1e-5))
    assert good.file == archive(good.dataset) == "core/smac_v1/3m.zip"
    assert good.transitions == good.steps
    replay = find("og_marl/smac_v2/terran_10_vs_10", "Replay")
    assert (replay.n_agents, replay.obs_dim, replay.action_dim, replay.steps) == (10, 162, 16, 749_850)
    spread = find("omar/mpe/simple_spread", "Expert")
    assert (spread.copies, spread.steps, spread.transitions) == (5, 1_000_000, 5_000_000)
    assert spread.file == "prior_work/omar/mpe/simple_spread.zip"


def test_shapes_of_the_unusual_ones() -> None:
    warehouse = find("alberdice/rware/tiny-4ag", "Expert").leaf_shapes
    assert warehouse["actions"] == (1, 500_000, 4, 1)
    assert warehouse["infos.legals"] == (1, 500_000, 4, 5)
    cheetah = find("omar/mamujoco/2halfcheetah", "Medium-Replay").leaf_shapes
    assert cheetah["infos.state"] == (5, 460_000, 2, 17)
    assert "infos.legals" not in cheetah
    own_cheetah = find("og_marl/mamujoco/2halfcheetah", "Good").leaf_shapes
    assert own_cheetah["actions"] == own_cheetah["infos.legals"] == (1, 1_000_000, 2, 3)
    assert find("cfcql/smac_v1/2s3z", "Mixed").leaf_shapes["actions"] == (1, 232_528, 5)


def test_every_address_follows_from_the_name() -> None:
    folder = {"og_marl": "core"} | {name: f"prior_work/{name}" for name in ("omiga", "omar", "cfcql", "alberdice")}
    for card in published():
        assert card.file == f"{folder[card.source]}/{card.environment}/{card.scenario}.zip"
    assert archive("og_marl/flatland/20_trains") == "core/flatland/20_trains.zip"  # has no card
    assert qualities("og_marl/flatland/20_trains") == ()
    assert is_published("og_marl/flatland/20_trains") and not is_published("embedded/smax/3m")


def test_actions_out_of_range_are_clipped_where_the_simulator_does_it() -> None:
    for card in published():
        assert card.out_of_range == ("clip" if card.environment == "mamujoco" else "error")


def test_unknown_published_names_get_the_nearest_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown dataset 'og_marl/smac_v1/3mm'; did you mean og_marl/smac_v1/3m "):
        find("og_marl/smac_v1/3mm", "Good")
    with pytest.raises(ValueError, match=r"unknown dataset 'embeded/smax/2s3z'; did you mean embedded/smax/2s3z "):
        find("embeded/smax/2s3z", "Mixed")
    with pytest.raises(ValueError, match=r"unknown quality 'Goood' of og_marl/smac_v1/3m; did you mean Good\?"):
        find("og_marl/smac_v1/3m", "Goood")
    with pytest.raises(ValueError, match=r"unknown quality 'x' of cfcql/.*choose one of: Mixed, Medium-Replay, Medium"):
        find("cfcql/smac_v1/2s3z", "x")
    with pytest.raises(ValueError, match="embedded/smax/3m is not published but recorded"):
        find("embedded/smax/3m", "Mixed")
    with pytest.raises(ValueError, match="nothing is published about og_marl/mamujoco/2ant but its address"):
        find("og_marl/mamujoco/2ant", "Good")
    with pytest.raises(ValueError, match="got 'zzz'; all names: lightning data list"):
        archive("zzz")
    assert published_as("og_marl/smac_v1/3m", "Gud") is None
    assert published_as("my/own/recording", "Good") is None


@pytest.mark.skipif(not CARDS.is_file(), reason="the cards that the figures were taken from are not on this machine")
def test_the_figures_are_those_of_the_cards() -> None:
    cards = json.loads(CARDS.read_text())
    seen = 0
    for card in published():
        told = cards[card.source][card.environment][card.scenario][card.quality]
        shapes = {name: tuple(shape) for name, shape in told["Structure"].items() if name != "infos"}
        shapes |= {f"infos.{name}": tuple(shape) for name, shape in told["Structure"]["infos"].items()}
        assert card.leaf_shapes == shapes
        assert told["Transitions"] == card.steps  # of one copy, also where there are five
        assert told["Trajectories"] == card.episodes
        assert told["Action space"] == ("Discrete" if card.discrete else "Continuous")
        assert told["Download link"].endswith(f"/datasets/{HUB_REPOSITORY}/resolve/main/{card.file}")
        figures = [told[name] for name in ("Mean episode return", "Standard deviation episode return")]
        figures += [told["Min return"], told["Max return"]]
        ours = [card.return_mean, card.return_std, card.return_min, card.return_max]
        assert ours == pytest.approx(figures, rel=1e-8)
        seen += 1
    assert seen == sum(len(q) for envs in cards.values() for scenarios in envs.values() for q in scenarios.values())


# The listing


def test_the_listing_has_everything_once(tmp_path: Path) -> None:
    lines = listing(tmp_path)
    assert len(lines) == 84 + EMBEDDED + 9  # nine published without a card
    assert len({(line.dataset, line.quality) for line in lines}) == len(lines)
    assert not any(line.here for line in lines)
    assert next(line.dataset for line in lines if line.quality is None) == "og_marl/mamujoco/2ant"


def test_filters(tmp_path: Path) -> None:
    def names(**filters: str | bool) -> set[tuple[str, str | None]]:
        return {(line.dataset, line.quality) for line in listing(tmp_path, **filters)}  # type: ignore[arg-type]

    assert names(scenario="3m") == {
        *(("og_marl/smac_v1/3m", quality) for quality in ("Poor", "Medium", "Good")),
        *(("embedded/smax/3m", quality) for quality in ("Mixed", "Good", "Medium", "Poor", "Replay")),
    }
    assert names(source="omar", environment="mpe", quality="Expert", discrete=False) == {
        (f"omar/mpe/{scenario}", "Expert") for scenario in ("simple_spread", "simple_tag", "simple_world")
    }
    assert names(source="omar", discrete=True) == set()
    continuous = sum(len(EMBEDDED_QUALITIES[name]) for name in EMBEDDED_CONTINUOUS)
    assert len(listing(tmp_path, discrete=True)) == 53 + EMBEDDED - continuous
    assert len(listing(tmp_path, discrete=False)) == 31 + continuous
    with pytest.raises(ValueError, match=r"no dataset has the source 'omigo'; did you mean omiga"):
        listing(tmp_path, source="omigo")
    with pytest.raises(
        ValueError, match=r"no dataset of source 'omar' has the environment 'smac_v1'; choose one of: ma"
    ):
        listing(tmp_path, source="omar", environment="smac_v1")


def test_what_lies_under_the_root_is_marked(tmp_path: Path) -> None:
    make_vault(tmp_path, "og_marl/smac_v1/3m", "Good")
    make_vault(tmp_path, "embedded/matrix/xor", "Mixed")
    make_vault(tmp_path, "og_marl/flatland/20_trains", "Replay")
    make_vault(tmp_path, "my/own/recording", "Fine")
    make_vault(tmp_path, "og_marl/smac_v1/8m", ".Good.123")  # a leftover
    (tmp_path / "og_marl/smac_v1/8m.vlt/Good").mkdir()  # no vault
    here = [(line.dataset, line.quality) for line in listing(tmp_path, local=True)]
    assert here == [
        ("og_marl/smac_v1/3m", "Good"),
        ("embedded/matrix/xor", "Mixed"),
        ("my/own/recording", "Fine"),
        ("og_marl/flatland/20_trains", "Replay"),
    ]
    assert len(listing(tmp_path)) == 84 + EMBEDDED + 8 + 2
    assert local_qualities(tmp_path, "og_marl/smac_v1/3m") == ["Good"]
    assert listing(tmp_path, source="my")[0].card is None


# Our own recordings


@pytest.mark.parametrize("dataset", [name for name, some in EMBEDDED_QUALITIES.items() if len(some) > 1])
def test_datasets_of_several_qualities_have_figures(dataset: str, tmp_path: Path) -> None:
    cards = {quality: recorded_as(dataset, quality) for quality in qualities(dataset)}
    for quality, card in cards.items():
        assert card is not None and (card.dataset, card.quality) == (dataset, quality)
        assert card.episodes == recipe(scenario_of(dataset), quality).episodes <= card.steps
        assert card.return_min < card.return_mean < card.return_max
        assert card.discrete == (dataset not in EMBEDDED_CONTINUOUS)
        assert (card.won is not None) == dataset.startswith("embedded/smax")
        line = next(line for line in listing(tmp_path, "embedded", quality=quality) if line.dataset == dataset)
        assert line.card == card
    good, medium, poor = (cards[quality].return_mean for quality in ("Good", "Medium", "Poor"))  # type: ignore[union-attr]
    assert good > medium > poor


def test_datasets_that_nobody_has_measured_have_no_figures() -> None:
    assert recorded_as("embedded/smax/3m", "good") is None
    assert recorded_as("og_marl/smac_v1/3m", "Good") is None


def test_entries_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        published()[0].steps = 1  # type: ignore[misc]
