"""Where a dataset comes from: it is there already, or is recorded or downloaded."""

from pathlib import Path

from datamodules.catalogue import (
    EMBEDDED,
    check_embedded,
    find,
    is_published,
    published_as,
    qualities,
    vault_directory,
)
from datamodules.download import fetch
from datamodules.vaults import OutOfRange, is_vault


def check_available(root: Path, dataset: str, quality: str) -> None:
    """Refuse, before anything runs, a vault that is not there and that can be neither recorded nor downloaded.

    Args:
        root: Directory of all vaults.
        dataset: Name of the dataset.
        quality: How well the recorded teams play.

    Raises:
        ValueError: If there is no such dataset or quality, with the nearest names.
    """
    if is_vault(vault_directory(root, dataset, quality)):
        return
    if dataset.startswith(f"{EMBEDDED}/"):
        check_embedded(dataset, quality)
    elif is_published(dataset) and qualities(dataset):
        find(dataset, quality)


def obtain(root: Path, dataset: str, quality: str, download: bool = True) -> Path:
    """Find a vault, or record or download it.

    Args:
        root: Directory of all vaults.
        dataset: Name of the dataset.
        quality: How well the recorded teams play.
        download: Whether a published dataset may be downloaded.

    Returns:
        The vault's directory.

    Raises:
        FileNotFoundError: If it is not there and can be neither recorded nor downloaded.
    """
    directory = vault_directory(root, dataset, quality)
    if is_vault(directory):
        return directory
    if dataset.startswith(f"{EMBEDDED}/"):
        from environments.recording import record  # only here: everything else works without a simulator

        record(dataset, quality, root)
        return directory
    if download and is_published(dataset):
        return fetch(dataset, quality, root)
    vaults = (path.parent.relative_to(root) for path in root.glob("*/*/*.vlt/[!.]*/metadata.json"))
    raise FileNotFoundError(
        f"expected the vault of {dataset} ({quality}) in '{directory}', found none; "
        f"put it there, choose one of those in '{root}' ({', '.join(sorted(map(str, vaults))) or 'none'})"
        ", a published one (lightning data list), or an embedded dataset, for example embedded/smax/3m, which is "
        "recorded on first use"
    )


def out_of_range_rule(dataset: str, quality: str) -> OutOfRange:
    """How the catalogue says that continuous actions outside [-1, 1] are to be handled.

    Args:
        dataset: Name of the dataset.
        quality: Its quality.

    Returns:
        "error" for datasets of which nothing is published.
    """
    card = published_as(dataset, quality)
    return "error" if card is None else card.out_of_range
