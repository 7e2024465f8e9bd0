"""Batches of windows one after the other, in an order that survives an interruption."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from datamodules.sampling import Batches
from datamodules.window_dataset import WindowDataset

logger = logging.getLogger(__name__)


class TrainingLoader:
    """One endless stream of shuffled training batches that continues after an interruption with exactly the next batch.

    The order depends on nothing but the number of batches trained on, which is all that a checkpoint has to remember.
    A pass of the training loop takes ``len(loader)`` batches; the next pass goes on where this one stopped, also when
    ``limit_train_batches`` cut it short. Not a ``torch.utils.data.DataLoader``, because that draws from the global
    random generator whenever it is iterated, so a resumed run would differ from an uninterrupted one.

    With several processes (``world_size`` above 1) each takes every ``world_size``-th batch of the same stream, so
    shuffled rows are trained on once in an epoch.

    Args:
        dataset: Where the windows come from.
        batches: Which rows to train on, in which order.
        trained: Number of batches that the training loop has finished, for example Lightning's own counter. With it a
            checkpoint that is written between fetching a batch and training on it, say by an exception, serves that
            batch again. Without it (None, or returning None) every batch handed out counts as trained on.
        rank: Number of this process, from 0.
        world_size: Number of processes.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        batches: Batches,
        trained: Callable[[], int | None] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._dataset = dataset
        self._batches = batches
        self._trained = trained or (lambda: None)
        self._rank = rank
        self._world_size = world_size
        self._position = 0  # of the next batch, among those of this process
        self._pass_began: tuple[int, int] | None = None  # position and trained() before the pass's first batch

    def __len__(self) -> int:
        """Batches in a pass: those of one epoch, divided among the processes."""
        return max(self._batches.per_epoch // self._world_size, 1)

    def __iter__(self) -> Iterator[TeamBatch]:
        """The next ``len(self)`` batches. Nothing happens until the first one is asked for."""
        for number in range(len(self)):
            if number == 0:
                finished = self._trained()
                self._pass_began = None if finished is None else (self._position, finished)
            starts = self._batches[self._position * self._world_size + self._rank]
            self._position += 1
            batch = self._dataset[starts]
            # Not across passes: looking ahead would draw the next epoch's order twice
            if number + 1 < len(self):
                self._dataset.expect(self._batches[self._position * self._world_size + self._rank])
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where to go on: the number of batches trained on, and what their order depends on."""
        return {"position": self._trained_position(), "per_epoch": len(self), "seed": self._batches.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the batches that the state's run has trained on.

        If seed, batch size or data have changed the order is another one; the run then goes on at the same share of an
        epoch, and the log says so.

        Args:
            state_dict: What ``state_dict`` returned.
        """
        position, per_epoch, seed = (int(state_dict[key]) for key in ("position", "per_epoch", "seed"))
        self._pass_began = None
        self._position = position
        if (per_epoch, seed) != (len(self), self._batches.seed):
            self._position = position * len(self) // per_epoch
            logger.warning(
                "resuming with %d batches per epoch and seed %d, but the checkpoint had %d and %d: "
                "the order of the batches is not that of an uninterrupted run",
                len(self),
                self._batches.seed,
                per_epoch,
                seed,
            )

    def _trained_position(self) -> int:
        """Position behind the last batch that was trained on rather than only fetched."""
        finished = self._trained()
        if self._pass_began is None or finished is None:
            return self._position
        position, before = self._pass_began
        return min(position + finished - before, self._position)


class OrderedLoader:
    """The windows that start at the given rows, in the given order, from the first one on every time it is iterated.

    Args:
        dataset: Where the windows come from.
        starts: Rows, shape (K,) int64.
        batch_size: Number of windows in a batch, at least 1; the last batch may be smaller.
        window: Length of the windows; by default the dataset's.

    Raises:
        ValueError: If ``batch_size`` is below 1.
    """

    def __init__(self, dataset: WindowDataset, starts: Tensor, batch_size: int, window: int | None = None) -> None:
        if batch_size < 1:
            raise ValueError(f"expected a batch_size of at least 1, got {batch_size}")
        self._dataset = dataset
        self._pieces = torch.split(starts, batch_size) if len(starts) else ()
        self._window = dataset.window if window is None else window

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._pieces)

    def __iter__(self) -> Iterator[TeamBatch]:
        """All batches in order; while one is worked on, a recording on the disk reads the next."""
        for number, starts in enumerate(self._pieces):
            batch = self._dataset.windows(starts, self._window)
            if number + 1 < len(self._pieces):
                self._dataset.expect(self._pieces[number + 1], self._window)
            yield batch
