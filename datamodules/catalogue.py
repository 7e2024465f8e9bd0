"""Which datasets there are, what their names mean, what is known about them and where their vaults lie.

A dataset is named ``<source>/<environment>/<scenario>`` and has one vault for each *quality* (how well the recorded
teams play). The source "embedded" is this project's own: those datasets are recorded by playing, on first use. All
others are published by OG-MARL in the Hugging Face dataset ``InstaDeepAI/og-marl``: its own recordings (``og_marl``)
and those of the OMIGA, OMAR, CFCQL and AlberDICE papers, converted by OG-MARL. What ``og_marl_datasets.json`` says
about them was taken from OG-MARL's dataset cards; nine datasets are published without a card (Flatland is one), so only
their address is known.

Sources: https://github.com/instadeepai/og-marl, files ``docs/dataset_cards/datacard_info.json`` (figures) and
``og_marl/vault_utils/download_vault.py`` (addresses).

Continuous actions outside [-1, 1] (``out_of_range``) are clipped where that changes nothing: MuJoCo itself moves every
control to the limits of its motor, which are -1 and 1 in HalfCheetah, Hopper and Ant (openai/gym,
``gym/envs/mujoco/assets/*.xml``, ``ctrllimited``), and OG-MARL clips them too ("clip for omiga datasets",
``og_marl/baselines/tf2_systems/offline/maddpg_cql.py``). MPE carries out whatever it is given, so that there such an
action is an error; OMAR, whose datasets these are, clamps before it acts (ling-pan/OMAR, ``utils/agents.py``).
"""

import difflib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.vaults import OutOfRange, is_vault

EMBEDDED = "embedded"  # the source of the datasets that this project records itself
HUB_REPOSITORY = "InstaDeepAI/og-marl"  # a dataset repository on Hugging Face; ``file`` below is a path in it

SMAX_SCENARIOS = (
    "3m",
    "8m",
    "25m",
    "2s3z",
    "3s5z",
    "5m_vs_6m",
    "10m_vs_11m",
    "27m_vs_30m",
    "3s5z_vs_3s6z",
    "3s_vs_5z",
    "6h_vs_8z",
    "smacv2_5_units",
    "smacv2_10_units",
    "smacv2_20_units",
)

_OF_A_TRAINING = ("Mixed", "Good", "Medium", "Poor", "Replay")
#: The qualities of every dataset that this project records itself, as ``environments/behaviours.py`` knows them.
EMBEDDED_QUALITIES = {
    **{f"{EMBEDDED}/smax/{scenario}": ("Mixed",) for scenario in SMAX_SCENARIOS},
    **{f"{EMBEDDED}/smax/{scenario}": _OF_A_TRAINING for scenario in ("3m", "2s3z", "5m_vs_6m")},
    f"{EMBEDDED}/mpe/simple_spread": (*_OF_A_TRAINING, "Expert"),
    f"{EMBEDDED}/mamujoco/2halfcheetah": _OF_A_TRAINING,
    f"{EMBEDDED}/matrix/xor": ("Mixed",),
    f"{EMBEDDED}/matrix/landmarks": ("Mixed",),
}
EMBEDDED_DATASETS = tuple(EMBEDDED_QUALITIES)
EMBEDDED_CONTINUOUS = tuple(
    f"{EMBEDDED}/{scenario}" for scenario in ("mpe/simple_spread", "mamujoco/2halfcheetah", "matrix/landmarks")
)


@dataclass(frozen=True)
class PublishedDataset:
    """One quality of a published dataset, as its card describes it.

    The figures describe the *first* of the copies only (``steps`` is the card's "Transitions"; in every card it equals
    the length of one copy) and returns are sums of the *first agent's* rewards, without discount, over the episodes
    that end: an unfinished one at the end of the recording does not count. So OG-MARL computed them
    (``og_marl/vault_utils/analyse_vault.py``); where agents are rewarded differently, the mean over agents, which this
    project learns from, has other returns. The standard deviation is that of the population (divided by the number).

    Attributes:
        source: Who recorded it: "og_marl", "omiga", "omar", "cfcql" or "alberdice".
        environment: For example "smac_v1".
        scenario: For example "3m".
        quality: For example "Good".
        file: Path of the zip archive in ``HUB_REPOSITORY``; it holds all qualities of the scenario.
        n_agents: Number of agents N.
        obs_dim: Length O of one agent's observation.
        state_dim: Length S of the state.
        state_per_agent: True where the vault holds a state (T, N, S) for every agent, not one (T, S).
        action_dim: Number of choices if discrete, else the length of an action.
        discrete: Whether an action is one of several choices.
        action_axis: True where discrete actions are stored with a last axis of length 1.
        legal_actions: Whether the vault says which actions were legal.
        out_of_range: How continuous actions outside [-1, 1] are to be handled.
        copies: Recordings side by side in the vault, its first axis.
        steps: Steps of each copy, its second axis.
        episodes: Episodes of the first copy.
        return_mean: Mean return of an episode.
        return_std: Standard deviation of the return.
        return_min: Smallest return.
        return_max: Largest return.
    """

    source: str
    environment: str
    scenario: str
    quality: str
    file: str
    n_agents: int
    obs_dim: int
    state_dim: int
    state_per_agent: bool
    action_dim: int
    discrete: bool
    action_axis: bool
    legal_actions: bool
    out_of_range: OutOfRange
    copies: int
    steps: int
    episodes: int
    return_mean: float
    return_std: float
    return_min: float
    return_max: float

    @property
    def dataset(self) -> str:
        """The dataset's name, for example "og_marl/smac_v1/3m"."""
        return f"{self.source}/{self.environment}/{self.scenario}"

    @property
    def transitions(self) -> int:
        """Steps of all copies together."""
        return self.copies * self.steps

    @property
    def leaf_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every leaf of the vault, by its name in ``datamodules.vaults``."""
        per_agent = (self.copies, self.steps, self.n_agents)
        vector = not self.discrete or self.action_axis
        shapes = {
            "observations": (*per_agent, self.obs_dim),
            "actions": (*per_agent, 1 if self.discrete else self.action_dim) if vector else per_agent,
            "rewards": per_agent,
            "terminals": per_agent,
            "truncations": per_agent,
            "infos.state": (*(per_agent if self.state_per_agent else per_agent[:2]), self.state_dim),
        }
        return shapes | {"infos.legals": (*per_agent, self.action_dim)} if self.legal_actions else shapes


@dataclass(frozen=True)
class RecordedDataset:
    """One quality of a dataset that this project records itself: figures of the recording with seed 0.

    They stand in ``embedded_datasets.json``, where ``python -m online.figures`` puts them. On another machine, or with
    other versions of the simulators, they come out a little different.

    Attributes:
        dataset: For example "embedded/smax/3m".
        quality: For example "Good".
        n_agents: Number of agents N.
        obs_dim: Length O of one agent's observation.
        state_dim: Length S of the state.
        action_dim: Number of choices if discrete, else the length of an action.
        discrete: Whether an action is one of several choices.
        steps: Steps of all episodes.
        episodes: Number of episodes.
        return_mean: Mean return of an episode: sum of the team's rewards.
        return_std: Standard deviation of the return, that of the population.
        return_min: Smallest return.
        return_max: Largest return.
        won: Share of episodes won; None where there is nothing to win.
        state_per_agent: There is one state for all agents.
        copies: There is one recording in each vault.
    """

    dataset: str
    quality: str
    n_agents: int
    obs_dim: int
    state_dim: int
    action_dim: int
    discrete: bool
    steps: int
    episodes: int
    return_mean: float
    return_std: float
    return_min: float
    return_max: float
    won: float | None
    state_per_agent: bool = False
    copies: int = 1


@dataclass(frozen=True)
class Listed:
    """One line of the catalogue.

    Attributes:
        dataset: Name of the dataset.
        quality: Its quality, or None where the qualities are not known before the dataset is here.
        discrete: Whether actions are choices, or None where that is not known.
        here: Whether the vault lies under the root.
        card: What is published about it, or was measured when it was recorded, if anything.
    """

    dataset: str
    quality: str | None
    discrete: bool | None
    here: bool
    card: PublishedDataset | RecordedDataset | None = None


def published() -> tuple[PublishedDataset, ...]:
    """Every published quality of every dataset that has a card: 84 of them."""
    return tuple(_by_name().values())


def published_as(dataset: str, quality: str) -> PublishedDataset | None:
    """What is published about a vault.

    Args:
        dataset: Name of the dataset, published or not.
        quality: Its quality.

    Returns:
        The card's figures, or None where there is no card: embedded datasets, the user's own, and a few published ones.
    """
    return _by_name().get((dataset, quality))


def find(dataset: str, quality: str) -> PublishedDataset:
    """The published dataset of a name.

    Args:
        dataset: For example "og_marl/smac_v1/3m".
        quality: For example "Good".

    Returns:
        The card's figures.

    Raises:
        ValueError: If there is no such dataset or quality, with the nearest names, or nothing is published about it.
    """
    archive(dataset)  # raises on unknown names
    known = qualities(dataset)
    if not known:
        raise ValueError(f"nothing is published about {dataset} but its address; to have it: {fetch_command(dataset)}")
    if quality not in known:
        raise ValueError(f"unknown quality {quality!r} of {dataset}; {nearest(quality, known)}")
    return _by_name()[dataset, quality]


def archive(dataset: str) -> str:
    """Where a dataset is published.

    Args:
        dataset: For example "og_marl/smac_v1/3m".

    Returns:
        The path of its zip archive in ``HUB_REPOSITORY``, for example "core/smac_v1/3m.zip".

    Raises:
        ValueError: If there is no such dataset, with the nearest names, or if it is not published but recorded.
    """
    split_name(dataset)
    if dataset in EMBEDDED_DATASETS:
        raise ValueError(
            f"{dataset} is not published but recorded, on first use or by: "
            f"lightning data record {dataset} {EMBEDDED_QUALITIES[dataset][0]}"
        )
    if dataset not in _entries():
        raise ValueError(f"unknown dataset {dataset!r}; {_nearest_dataset(dataset)}")
    return str(_entries()[dataset]["file"])


def qualities(dataset: str) -> tuple[str, ...]:
    """The known qualities of a dataset.

    Args:
        dataset: Name of a dataset.

    Returns:
        Their names; empty for unknown datasets and those without a card.
    """
    if dataset in EMBEDDED_QUALITIES:
        return EMBEDDED_QUALITIES[dataset]
    return tuple(_entries().get(dataset, {}).get("qualities", ()))


def recorded_as(dataset: str, quality: str) -> RecordedDataset | None:
    """Figures of a dataset that this project records itself.

    Args:
        dataset: Name of the dataset.
        quality: Its quality.

    Returns:
        The figures, or None where nobody has measured any.
    """
    return _recorded().get((dataset, quality))


def is_published(dataset: str) -> bool:
    """Whether a dataset can be downloaded, with or without a card."""
    return dataset in _entries()


def sources() -> tuple[str, ...]:
    """Whose datasets are published, and "embedded"; every other source is the user's own."""
    return (EMBEDDED, *dict.fromkeys(split_name(dataset)[0] for dataset in _entries()))


def fetch_command(dataset: str) -> str:
    """The words that download a dataset."""
    return f"lightning data fetch {dataset}"


def listing(
    root: Path,
    source: str | None = None,
    environment: str | None = None,
    scenario: str | None = None,
    quality: str | None = None,
    discrete: bool | None = None,
    local: bool = False,
) -> list[Listed]:
    """The catalogue: published datasets, embedded ones, and whatever else lies under the root.

    Args:
        root: Directory of all vaults.
        source: Only this source.
        environment: Only this environment.
        scenario: Only this scenario.
        quality: Only this quality.
        discrete: Only discrete (True) or only continuous actions (False); vaults of which it is not known are left out.
        local: Only vaults that lie under the root.

    Returns:
        One entry for each quality, in the order of the catalogue, other vaults last.

    Raises:
        ValueError: If there is no such source, environment, scenario or quality at all, with the nearest names.
    """
    listed = list(_everything(root))
    given = ""
    wanted = {"source": source, "environment": environment, "scenario": scenario, "quality": quality}
    for field, value in wanted.items():
        if value is not None:
            values = tuple(dict.fromkeys(known for line in listed if (known := _fields(line)[field]) is not None))
            if value not in values:
                among = nearest(value, values) if values else "there is nothing to choose from"
                raise ValueError(f"no dataset{given} has the {field} {value!r}; {among}")
            listed = [line for line in listed if _fields(line)[field] == value]
            given += f" of {field} {value!r}"
    return [line for line in listed if discrete in (None, line.discrete) and (line.here or not local)]


def local_qualities(root: Path, dataset: str) -> list[str]:
    """Qualities of a dataset whose vaults lie under the root.

    Args:
        root: Directory of all vaults.
        dataset: Name of any dataset.

    Returns:
        Their names, sorted.
    """
    directories = sorted(scenario_directory(root, dataset).glob("[!.]*"))
    return [path.name for path in directories if is_vault(path)]


def nearest(name: str, names: tuple[str, ...]) -> str:
    """Words that suggest the names most like a misspelt one.

    Args:
        name: What was asked for.
        names: What there is.

    Returns:
        "did you mean ...?" with up to three names, or "choose one of: ..." with all of them where none is alike.
    """
    folded = {other.casefold(): other for other in reversed(names)}
    similar = [folded[other] for other in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
    return f"did you mean {' or '.join(similar)}?" if similar else f"choose one of: {', '.join(names)}"


def split_name(dataset: str) -> tuple[str, str, str]:
    """Source, environment and scenario of a dataset.

    Args:
        dataset: For example "embedded/smax/3m" or "og_marl/smac_v1/3m".

    Returns:
        The three parts, for example ("embedded", "smax", "3m").

    Raises:
        ValueError: If the name has not exactly three plain parts.
    """
    parts = dataset.split("/")
    if len(parts) != 3 or any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise ValueError(
            f"expected a dataset named <source>/<environment>/<scenario>, got {dataset!r}; {_nearest_dataset(dataset)}"
        )
    source, environment, scenario = parts
    return source, environment, scenario


def check_embedded(dataset: str, quality: str) -> None:
    """Make sure that a dataset can be recorded here.

    Args:
        dataset: Name with the source "embedded".
        quality: How well the recorded teams play.

    Raises:
        ValueError: If there is no such dataset, with the nearest names, or no such quality, with all that there are.
    """
    if dataset not in EMBEDDED_DATASETS:
        raise ValueError(f"unknown dataset {dataset!r}; {nearest(dataset, EMBEDDED_DATASETS)}")
    if quality not in EMBEDDED_QUALITIES[dataset]:
        there_are = ", ".join(EMBEDDED_QUALITIES[dataset])
        raise ValueError(f"unknown quality {quality!r} of {dataset}; choose one of: {there_are}")


def scenario_directory(root: Path, dataset: str) -> Path:
    """Where the vaults of all qualities of a dataset lie, in OG-MARL's layout.

    Args:
        root: Directory of all vaults.
        dataset: Name of the dataset.

    Returns:
        ``<root>/<source>/<environment>/<scenario>.vlt``, whether or not it exists.

    Raises:
        ValueError: If the name has not three plain parts.
    """
    source, environment, scenario = split_name(dataset)
    return root / source / environment / f"{scenario}.vlt"


def vault_directory(root: Path, dataset: str, quality: str) -> Path:
    """Where the vault of a dataset lies, in OG-MARL's layout.

    Args:
        root: Directory of all vaults.
        dataset: Name of the dataset.
        quality: How well the recorded teams play.

    Returns:
        ``<root>/<source>/<environment>/<scenario>.vlt/<quality>``, whether or not it exists.

    Raises:
        ValueError: If the name has not three plain parts or the quality is not one.
    """
    directory = scenario_directory(root, dataset)
    if quality in ("", ".", "..") or "/" in quality or "\\" in quality:
        raise ValueError(f"expected a quality that names one directory, got {quality!r}; for example 'Mixed'")
    return directory / quality


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    """The file beside this one: dataset -> what all its qualities share, and ``qualities``."""
    entries: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("og_marl_datasets.json").read_text())
    return entries


@functools.cache
def _by_name() -> dict[tuple[str, str], PublishedDataset]:
    """Every card, by dataset and quality."""
    found = {}
    for dataset, entry in _entries().items():
        source, environment, scenario = split_name(dataset)
        shared = {key: value for key, value in entry.items() if key != "qualities"}
        for quality, figures in entry.get("qualities", {}).items():
            found[dataset, quality] = PublishedDataset(source, environment, scenario, quality, **shared, **figures)
    return found


@functools.cache
def _recorded() -> dict[tuple[str, str], RecordedDataset]:
    """Figures of our own recordings, by dataset and quality."""
    entries = json.loads(Path(__file__).with_name("embedded_datasets.json").read_text())
    cards = [RecordedDataset(**entry) for entry in entries]
    return {(card.dataset, card.quality): card for card in cards}


def _everything(root: Path) -> Iterator[Listed]:
    """All lines of the catalogue."""
    here = {(dataset, quality) for dataset in _datasets_under(root) for quality in local_qualities(root, dataset)}
    for (dataset, quality), card in _by_name().items():
        yield Listed(dataset, quality, card.discrete, (dataset, quality) in here, card)
    for dataset in EMBEDDED_DATASETS:
        for quality in EMBEDDED_QUALITIES[dataset]:
            name = (dataset, quality)
            yield Listed(*name, dataset not in EMBEDDED_CONTINUOUS, name in here, recorded_as(*name))
    others = sorted((dataset, quality) for dataset, quality in here if quality not in qualities(dataset))
    for dataset in (name for name in _entries() if not qualities(name)):
        if not any(name == dataset for name, _ in others):
            yield Listed(dataset, None, None, False)
    for dataset, quality in others:
        yield Listed(dataset, quality, None, True)


def _datasets_under(root: Path) -> list[str]:
    """Names of all datasets that have a directory under the root."""
    directories = sorted(root.glob("[!.]*/[!.]*/[!.]*.vlt"))
    return [path.relative_to(root).as_posix().removesuffix(".vlt") for path in directories]


def _fields(line: Listed) -> dict[str, str | None]:
    """What a line can be filtered by."""
    source, environment, scenario = split_name(line.dataset)
    return {"source": source, "environment": environment, "scenario": scenario, "quality": line.quality}


def _nearest_dataset(name: str) -> str:
    """Words that suggest the datasets most like a misspelt name."""
    hint = nearest(name, (*_entries(), *EMBEDDED_DATASETS))
    return hint if hint.startswith("did you mean") else "all names: lightning data list"
