"""Which datasets there are, what their names mean and where their vaults lie."""

import difflib
from pathlib import Path

EMBEDDED = "embedded"  # the source of the datasets that this project records itself

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

EMBEDDED_DATASETS = (
    *(f"{EMBEDDED}/smax/{scenario}" for scenario in SMAX_SCENARIOS),
    f"{EMBEDDED}/mpe/simple_spread",
    f"{EMBEDDED}/matrix/xor",
)

EMBEDDED_QUALITIES = ("Mixed",)


def nearest(name: str, names: tuple[str, ...]) -> str:
    """Words that suggest the names most like a misspelt one.

    Args:
        name: What was asked for.
        names: What there is.

    Returns:
        "did you mean ...?" with up to three names, or "choose one of: ..." with all of them where none is alike.
    """
    similar = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
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
            f"expected a dataset named <source>/<environment>/<scenario>, got {dataset!r}; "
            f"{nearest(dataset, EMBEDDED_DATASETS)}"
        )
    source, environment, scenario = parts
    return source, environment, scenario


def check_embedded(dataset: str, quality: str) -> None:
    """Make sure that a dataset can be recorded here.

    Args:
        dataset: Name with the source "embedded".
        quality: How well the recorded teams play.

    Raises:
        ValueError: If there is no such dataset or quality, with the nearest names.
    """
    if dataset not in EMBEDDED_DATASETS:
        raise ValueError(f"unknown dataset {dataset!r}; {nearest(dataset, EMBEDDED_DATASETS)}")
    if quality not in EMBEDDED_QUALITIES:
        raise ValueError(f"unknown quality {quality!r} of {dataset}; {nearest(quality, EMBEDDED_QUALITIES)}")


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
    source, environment, scenario = split_name(dataset)
    if quality in ("", ".", "..") or "/" in quality or "\\" in quality:
        raise ValueError(f"expected a quality that names one directory, got {quality!r}; for example 'Mixed'")
    return root / source / environment / f"{scenario}.vlt" / quality
