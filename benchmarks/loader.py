"""Speed of the training loader from memory, and its share of a training step.

    python benchmarks/loader.py

The loader is what ``OfflineDataModule.train_dataloader`` returns, here over a random recording in the shape of a map's.
Batches of 64 windows of 9 steps feed the critic of the shipped configurations, batches of 256 transitions everything
without a memory. The steps that it is compared with are one update each, on the same batch: of the policy (256 joint
steps of it) and of the default critic. Loading and both updates take turns.
"""

from __future__ import annotations

from itertools import chain, repeat

import torch
from synthetic import SHAPES, Shape, labelled_windows, policy_stage, random_batch
from timing import Quartiles, Work, arguments, ratios, table, take_turns

from datamodules.batch import TeamBatch
from datamodules.loaders import TrainingLoader
from datamodules.sampling import ShuffledBatches
from datamodules.window_dataset import WindowDataset
from lightning_modules.advantage_module import Stage
from lightning_modules.networks.targets import polyak_update

EPISODES = 1000
SIZES = ((64, 9), (256, 2))  # windows per batch and their length
BATCHES_PER_TURN = 5


def loading(dataset: WindowDataset, batch_size: int) -> Work:
    """One batch of the endless stream, the reshuffling at the end of an epoch included."""
    loader = TrainingLoader(dataset, ShuffledBatches(torch.arange(len(dataset)), batch_size, seed=0))
    batches = chain.from_iterable(repeat(loader))
    return lambda: next(batches)


def training_step(shape: Shape, dataset: WindowDataset, batch: TeamBatch, stage: Stage) -> Work:
    """One update of a stage on a batch that is there."""
    module = policy_stage(shape, dataset)
    module.stage = stage
    optimizer = module.configure_optimizers()

    def update() -> None:
        optimizer.zero_grad()
        losses = module.losses(batch, torch.Generator().manual_seed(0))
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        for source, target, rate in module.target_pairs():
            polyak_update(source, target, rate)

    return update


def main() -> None:
    """Prints one table for all scenarios and sizes of batches."""
    options = arguments("Speed of the training loader and its share of a step.", repeats=15)
    rows = []
    for shape in SHAPES:
        for windows, length in SIZES:
            dataset = labelled_windows(shape, length, EPISODES)
            batch = random_batch(dataset, windows)
            variants = {
                "load": loading(dataset, windows),
                "policy": training_step(shape, dataset, batch, Stage.POLICY),
                "critic": training_step(shape, dataset, batch, Stage.CRITIC),
            }
            seconds = take_turns(variants, options.repeats, BATCHES_PER_TURN, options.clock)
            speed = Quartiles.of(windows * length / value for value in seconds["load"])
            shares = (share(ratios(seconds, "load", update)).text(1, 100) for update in ("policy", "critic"))
            name = f"{shape.name}, {windows} x {length}"
            rows.append((name, Quartiles.of(seconds["load"]).text(3, 1e3), speed.text(2, 1e-6), *shares))
    head = ("recording, batch", "ms per batch", "million rows/s", "% of a policy step", "% of a critic step")
    table("Training loader; a row is one joint step of all agents", head, rows)


def share(ratio: Quartiles) -> Quartiles:
    """Share of loading in loading plus update, from the ratio of the two."""
    return Quartiles(*(value / (1 + value) for value in ratio))


if __name__ == "__main__":
    main()
