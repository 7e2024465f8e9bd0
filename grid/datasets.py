"""The datasets of a grid, recorded or downloaded once, before the first cell needs them."""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.catalogue import EMBEDDED, is_published, vault_directory
from datamodules.vaults import is_vault


class Needed(NamedTuple):
    """A vault that cells learn from."""

    root: Path
    dataset: str
    quality: str


def needed(configs: Iterable[Mapping[str, Any]]) -> list[Needed]:
    """The vaults that configurations name, each once.

    Args:
        configs: Whole configurations of ``lightning fit``; an empty one needs nothing.
    """
    found: dict[Needed, None] = {}
    for config in configs:
        data = ((config.get("data") or {}).get("init_args")) or {}
        if "dataset" not in data:
            continue
        root = Path(str(data.get("root") or "vaults"))
        found[Needed(root, data["dataset"], data["quality"])] = None
        for name in data.get("combine_with") or ():
            dataset, _, quality = str(name).rpartition("/")
            found[Needed(root, dataset, quality)] = None
    return list(found)


def provide(vaults: Iterable[Needed], program: Sequence[str]) -> None:
    """Records or downloads the vaults that are not there, in a process of its own.

    Args:
        vaults: What is needed. Vaults that can be neither recorded nor downloaded are left to the cells, which say so.
        program: What stands before ``data`` on a command line.

    Raises:
        RuntimeError: If that fails.
    """
    for root, dataset, quality in vaults:
        if is_vault(vault_directory(root, dataset, quality)):
            continue
        if dataset.startswith(f"{EMBEDDED}/"):
            verb = "record"
        elif is_published(dataset):
            verb = "fetch"
        else:
            continue
        words = ["data", verb, dataset, quality, "--root", str(root)]
        print(f"{verb}: {dataset} {quality}", flush=True)
        done = subprocess.run([*program, *words], stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise RuntimeError(
                f"expected 'lightning {' '.join(words)}' to end well, got exit code {done.returncode}; its message is "
                "above, and no cell was begun"
            )
