"""Speed of drawing batches from a vault: this project against flashbax, from the same files in one run.

    python benchmarks/sampling.py

A random recording is written with flashbax for each of three observation sizes. Then four ways of drawing a batch take
turns: flashbax's jitted ``sample`` on what ``Vault.read()`` returns, with the buffer that OG-MARL makes of it (windows
anywhere, also across the ends of episodes), and our training loader from memory and mapped from disk, the latter with
the files in the system's cache and with our giving mapped pages back. All serve the same fields, ours also advantages,
credits and masks. Decoding is timed once each: ``Vault.read()`` against our reading into memory and onto disk.
"""

from __future__ import annotations

import tempfile
import time
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
from timing import Quartiles, Work, arguments, ratios, table, take_turns

from datamodules import OfflineDataModule

DATASET, STEPS, EPISODE, N_AGENTS, N_ACTIONS, STATE_DIM = "random/benchmark/steps", 100_000, 50, 3, 9, 48
OBS_DIMS = (30, 80, 480)
SIZES = ((64, 20), (256, 2))  # windows per batch and their length
BATCHES_PER_TURN = 20


def random_leaves(obs_dim: int) -> dict[str, Any]:
    """Steps of episodes of equal length, in OG-MARL's structure; one of half of the actions is legal."""
    generator = np.random.default_rng(0)
    shape = (1, STEPS, N_AGENTS)
    legals = generator.random((*shape, N_ACTIONS)) < 0.5
    actions = generator.integers(0, N_ACTIONS, shape)
    np.put_along_axis(legals, actions[..., None], True, axis=-1)
    ends = np.broadcast_to((np.arange(1, STEPS + 1) % EPISODE == 0)[:, None], shape)
    return {
        "observations": generator.standard_normal((*shape, obs_dim), dtype=np.float32),
        "actions": actions,
        "rewards": generator.standard_normal(shape, dtype=np.float32),
        "terminals": ends,
        "truncations": np.zeros_like(ends),
        "infos": {"state": generator.standard_normal((1, STEPS, STATE_DIM), dtype=np.float32), "legals": legals},
    }


def write(root: Path, quality: str, leaves: dict[str, Any]) -> None:
    """A vault by flashbax itself."""
    import jax
    from flashbax.buffers.trajectory_buffer import TrajectoryBufferState
    from flashbax.vault import Vault

    experience = jax.tree.map(jax.numpy.asarray, leaves)
    source, environment, scenario = DATASET.split("/")
    vault = Vault(f"{scenario}.vlt", experience, rel_dir=str(root / source / environment), vault_uid=quality)
    count, full = jax.numpy.asarray(STEPS), jax.numpy.asarray(False)
    vault.write(TrajectoryBufferState(experience=experience, current_index=count, is_full=full))


def by_flashbax(root: Path, quality: str, windows: int, length: int) -> tuple[Work, float]:
    """Drawing a batch, and the seconds that reading took."""
    import flashbax
    import jax
    from flashbax.vault import Vault

    source, environment, scenario = DATASET.split("/")
    began = time.perf_counter()
    state = Vault(f"{scenario}.vlt", rel_dir=str(root / source / environment), vault_uid=quality).read()
    jax.block_until_ready(state)
    seconds = time.perf_counter() - began
    buffer = flashbax.make_trajectory_buffer(
        add_batch_size=1,
        sample_batch_size=windows,
        sample_sequence_length=length,
        period=1,
        min_length_time_axis=1,
        max_size=length,
    )
    sample, key = jax.jit(buffer.sample), jax.random.PRNGKey(0)

    def draw() -> None:
        nonlocal key
        key, now = jax.random.split(key)
        jax.block_until_ready(sample(state, now).experience)

    draw()  # compiles
    return draw, seconds


def by_us(root: Path, quality: str, windows: int, length: int, cache: Any) -> tuple[Work, float]:
    """Drawing a batch, and the seconds that decoding took."""
    data = OfflineDataModule(
        DATASET, quality, root, batch_size=windows, window=length, validation_fraction=0.0, cache=cache
    )
    began = time.perf_counter()
    data.setup("fit")
    seconds = time.perf_counter() - began
    batches = chain.from_iterable(repeat(data.train_dataloader()))
    return lambda: next(batches), seconds


def main() -> None:
    """Prints two tables: drawing and decoding."""
    options = arguments("Speed of drawing batches, against flashbax.", repeats=15)
    drawing, decoding = [], []
    for obs_dim in OBS_DIMS:
        with tempfile.TemporaryDirectory() as directory:
            root, leaves = Path(directory), random_leaves(obs_dim)
            write(root, "Random", leaves)
            megabytes = sum(leaf.nbytes for leaf in [*list(leaves.values())[:5], *leaves["infos"].values()]) / 1e6
            for windows, length in SIZES:
                made = {
                    "flashbax": by_flashbax(root, "Random", windows, length),
                    "memory": by_us(root, "Random", windows, length, "memory"),
                    "disk": by_us(root, "Random", windows, length, "disk"),
                }
                seconds = take_turns(
                    {name: work for name, (work, _) in made.items()}, options.repeats, BATCHES_PER_TURN, options.clock
                )
                rows = windows * length
                speeds = (Quartiles.of(rows / value for value in seconds[name]).text(2, 1e-6) for name in made)
                times = (ratios(seconds, "flashbax", name).text(1) for name in ("memory", "disk"))
                drawing.append((f"{obs_dim}", f"{windows} x {length}", *speeds, *times))
                if (windows, length) == SIZES[0]:
                    speed = (f"{megabytes / taken:.0f}" for _, taken in made.values())
                    decoding.append((f"{obs_dim}", f"{megabytes:.0f}", *speed))
    head = ("O", "batch", "flashbax", "memory", "disk", "memory : flashbax", "disk : flashbax")
    table("Drawing batches, million rows/s; a row is one joint step of all agents", head, drawing)
    table("Decoding a vault, MB/s", ("O", "MB", "flashbax Vault.read()", "into memory", "onto disk"), decoding)


if __name__ == "__main__":
    main()
