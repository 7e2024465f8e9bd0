"""Memory and speed while a recording that is larger than memory is decoded and trained from.

    python benchmarks/streaming.py --gigabytes 20

Writes a vault of the given decoded size in flashbax's format, by repeating random steps in 2s3z's shapes, decodes it
into the disk cache, draws training batches for some time, and reads the resident memory of the process (VmRSS and its
parts, from /proc) all along. Needs about 1.2 times that size on the disk; the files are removed at the end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import tensorstore as ts
import torch

from datamodules import OfflineDataModule

DATASET, N_AGENTS, OBS_DIM, STATE_DIM, N_ACTIONS, EPISODE = "random/benchmark/large", 5, 127, 120, 10, 60
BLOCK = 6_000  # steps that are repeated
TOGETHER = 20  # blocks written at once
DECODED_STEP = N_AGENTS * (4 * OBS_DIM + 8 + N_ACTIONS) + 4 * STATE_DIM + 6  # bytes


def write_vault(directory: Path, steps: int) -> None:
    """A vault that repeats a block of random steps; each block's observations are shifted so that none are equal."""
    generator = np.random.default_rng(0)
    shape = (1, BLOCK, N_AGENTS)
    legals = generator.random((*shape, N_ACTIONS)) < 0.5
    actions = generator.integers(0, N_ACTIONS, shape).astype(np.int32)
    np.put_along_axis(legals, actions[..., None], True, axis=-1)
    ends = np.broadcast_to((np.arange(1, BLOCK + 1) % EPISODE == 0)[:, None], shape)
    leaves = {
        # Few different numbers, so that the vault compresses and the disk has room for its decoded copy
        "observations": generator.integers(0, 50, (*shape, OBS_DIM)).astype(np.float32),
        "actions": actions,
        "rewards": generator.standard_normal(shape, dtype=np.float32),
        "terminals": ends,
        "truncations": np.zeros_like(ends),
        "infos.legals": legals,
        "infos.state": generator.standard_normal((1, BLOCK, STATE_DIM), dtype=np.float32),
    }
    structure: dict[str, object] = {name: "" for name in leaves if "." not in name}
    structure["infos"] = {"legals": "", "state": ""}
    directory.mkdir(parents=True)
    (directory / "metadata.json").write_text(json.dumps({"version": 1.2, "structure_shape": structure}))

    def opened(name: str, shape: tuple[int, ...], dtype: str, chunk: tuple[int, ...]) -> ts.TensorStore:
        store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{directory}/"}, "path": name}
        metadata = {
            "compressor": {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 1},
            "shape": shape,
            "chunks": chunk,
            "dtype": dtype,
        }
        return ts.open({"driver": "zarr", "kvstore": store, "metadata": metadata, "create": True}).result()

    stores = {
        name: opened(f"{name}.", (1, steps, *leaf.shape[2:]), leaf.dtype.str, (1, BLOCK // 4, *leaf.shape[2:]))
        for name, leaf in leaves.items()
    }
    for first in range(0, steps // BLOCK, TOGETHER):
        with ts.Transaction() as transaction:
            for number in range(first, min(first + TOGETHER, steps // BLOCK)):
                for name, leaf in leaves.items():
                    shifted = leaf + np.float32(number) if name == "observations" else leaf
                    stores[name].with_transaction(transaction)[:, number * BLOCK : (number + 1) * BLOCK] = shifted
    opened("vault_index", (1,), "<i4", (1,))[:] = np.array([steps], np.int32)


def resident() -> dict[str, float]:
    """Resident memory in GB: all, of which anonymous, of which file pages."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "Rss"))}
    return {name: kilobytes[name] / 2**20 for name in ("VmRSS", "RssAnon", "RssFile")}


def measure(root: Path, windows: int, length: int, seconds: float) -> None:
    """Opens the recording, which decodes it the first time, draws batches and prints a row for both."""
    torch.set_num_threads(1)

    def row(name: str, speed: str) -> None:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        values = " | ".join(f"{value:.2f}" for value in (most, *resident().values()))
        print(f"| {name} | {speed} | {values} |", flush=True)

    data = OfflineDataModule(
        DATASET, "Random", root, batch_size=windows, window=length, cache="disk", validation_fraction=0.01
    )
    began = time.perf_counter()
    data.setup("fit")
    row("opening", f"{time.perf_counter() - began:.1f} s")
    batches, drawn = chain.from_iterable(repeat(data.train_dataloader())), 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        drawn += len(next(batches).rewards) * length
    row(f"drawing {windows} x {length}", f"{drawn / (time.perf_counter() - began) / 1e6:.2f} million rows/s")


def in_a_process(work: Callable[..., None], *arguments: object) -> None:
    """Runs something in a process of its own, so that its memory is its own."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} failed with exit code {process.exitcode}; its message is above")


def main() -> None:
    """Prints a table: what a process does, how fast, and how much memory it takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20.0, help="decoded size of the recording, in GB")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long batches are drawn, for each size")
    parser.add_argument("--directory", type=Path, help="where to write; by default the system's temporary directory")
    options = parser.parse_args()
    steps = int(options.gigabytes * 2**30 / DECODED_STEP) // BLOCK * BLOCK
    directory = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        source, environment, scenario = DATASET.split("/")
        place = directory / source / environment / f"{scenario}.vlt" / "Random"
        in_a_process(write_vault, place, steps)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / 2**30
        print(f"`python benchmarks/streaming.py --gigabytes {options.gigabytes:g} --seconds {options.seconds:g}`\n")
        print(f"{steps:,} steps, {steps * DECODED_STEP / 2**30:.1f} GB decoded, a vault of {size:.1f} GB\n")
        print("| | speed | resident at most, GB | now | of which anonymous | of which file pages |")
        print("|---|--:|--:|--:|--:|--:|", flush=True)
        for windows, length in ((64, 9), (64, 20), (256, 2)):
            in_a_process(measure, directory, windows, length, options.seconds)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
