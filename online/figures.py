"""Records datasets with seed 0 and writes their figures into the catalogue: ``python -m online.figures --root vaults``.

The catalogue's file is ``datamodules/embedded_datasets.json``; figures of datasets that are not asked for stay. What
lies under the root already, recorded with seed 0 and as many episodes as usual, is not recorded again.
"""

import json
from dataclasses import asdict
from pathlib import Path

from jsonargparse import auto_cli

import datamodules.catalogue
from datamodules.catalogue import EMBEDDED_DATASETS, EMBEDDED_QUALITIES, RecordedDataset
from environments.recording import record
from environments.registry import make_vector_env, scenario_of
from whole_files import written_whole

FILE = Path(datamodules.catalogue.__file__).with_name("embedded_datasets.json")


def figures(dataset: str, quality: str, root: Path) -> RecordedDataset:
    """Record a dataset, unless it is there, and say what it holds.

    Args:
        dataset: For example "embedded/smax/3m".
        quality: For example "Good".
        root: Directory of all vaults.
    """
    told = json.loads((record(dataset, quality, root) / "recording.json").read_text())
    env = make_vector_env(scenario_of(dataset), 1)
    sizes = {name: getattr(env, name) for name in ("n_agents", "obs_dim", "state_dim", "action_dim", "discrete")}
    env.close()
    returns, counts = told["statistics"], {"steps": told["transitions"], "episodes": told["episodes"]}
    return RecordedDataset(dataset, quality, **sizes, **counts, **returns, won=told["win_rate"])


def measure(root: Path = Path("vaults"), datasets: tuple[str, ...] = (), file: Path = FILE) -> None:
    """Records all qualities of datasets and writes their figures into the catalogue.

    Args:
        root: Directory of all vaults.
        datasets: Which, for example embedded/smax/3m; by default those that have more qualities than one.
        file: The catalogue's file.
    """
    known = {(entry["dataset"], entry["quality"]): entry for entry in json.loads(file.read_text())}
    for dataset in datasets or [name for name in EMBEDDED_DATASETS if len(EMBEDDED_QUALITIES[name]) > 1]:
        for quality in EMBEDDED_QUALITIES[dataset]:
            known[dataset, quality] = asdict(figures(dataset, quality, root))
    order = [(dataset, quality) for dataset in EMBEDDED_DATASETS for quality in EMBEDDED_QUALITIES[dataset]]
    with written_whole(file) as draft:
        draft.write_text(json.dumps([known[name] for name in order if name in known], indent=1) + "\n")


if __name__ == "__main__":
    auto_cli(measure, as_positional=False)
