"""Windows of a recording, whole batches at a time, in an order that survives an interruption."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import TeamBatch
from datamodules.cache import MappedColumns, read_only
from datamodules.episodes import episode_bounds, episode_lengths, last_rows, window_rows
from datamodules.sampling import Batches, check_batches
from datamodules.vaults import Stream

logger = logging.getLogger(__name__)

# What is small lies side by side, because each place in memory that a row is gathered from costs a cache miss
REWARD, TERMINAL, TRUNCATION, ADVANTAGE, CREDITS = 0, 1, 2, 3, slice(4, None)
DEVICE_MARGIN = 1.5  # memory of a device that must be free for each byte kept there: networks need some, too
RESIDENT_BYTES = 2**28  # of mapped pages before they are given back


class WindowDataset(Dataset[TeamBatch]):
    """All windows of one recording, served a whole batch at a time.

    Indexing takes the first rows of all windows of a batch and gathers each field in one call, so that no Python runs
    per sample. The fields share their memory with the stream, or lie on a device.

    Rows are counted among the chosen episodes: with all of them, row ``k`` is step ``k`` of the stream.

    Args:
        stream: The recording.
        window: Length T of a window, at least 1; 2 serves transitions, 20 sequences for recurrent networks.
        reward_scale: Factor on the rewards that are served; the stream's own stay as they are.
        episodes: Which episodes to serve, True where chosen, shape (E,); by default all.
        mapped: Where the stream's arrays live if they are mapped from disk; their pages are given back now and then.

    Attributes:
        bounds: First row and first row behind of each chosen episode, shape (E', 2).
        rewards: Team reward of each row, unscaled, shape (L,).
        ends: True at the last row of each episode, shape (L,).

    Raises:
        ValueError: If ``window`` is below 1, ``reward_scale`` is not a finite number other than 0, or no episode is
            chosen.
    """

    def __init__(
        self,
        stream: Stream,
        window: int = 2,
        reward_scale: float = 1.0,
        episodes: NDArray[np.bool_] | None = None,
        mapped: MappedColumns | None = None,
    ) -> None:
        if window < 1:
            raise ValueError(f"expected a window of at least 1 step, got {window}; use 2 for transitions")
        check_reward_scale(reward_scale)
        self.window = window
        self.discrete = stream.discrete
        self._mapped = mapped
        self._device = torch.device("cpu")
        steps = _steps_of(stream.ends, episodes)
        chosen = slice(None) if steps is None else steps
        self.ends: NDArray[np.bool_] = stream.ends[chosen]
        self.rewards: NDArray[np.float32] = stream.rewards[chosen]
        self.bounds = episode_bounds(self.ends)
        self._numbers = self._side_by_side(4 + stream.n_agents)
        for column, values in enumerate((self.rewards, stream.terminals[chosen], stream.truncations[chosen])):
            self._numbers[:, column] = read_only(values)
        self._numbers[:, REWARD] *= reward_scale
        self._steps = None if steps is None else torch.from_numpy(steps)
        self._last = torch.from_numpy(last_rows(self.bounds))
        self._obs = read_only(stream.obs)
        self._state = None if stream.state_is_concatenated else read_only(stream.state)
        self._actions = read_only(stream.actions)
        legal_actions = stream.legal_actions
        self._same_legality = legal_actions.strides[0] == 0  # one entry for all steps, as NumPy's broadcasting makes it
        self._legal_actions = read_only(legal_actions[0] if self._same_legality else legal_actions)

    @property
    def advantages(self) -> Tensor:
        """Advantage of each row, NaN until they are set, shape (L,)."""
        return self._numbers[:, ADVANTAGE]

    @property
    def credits(self) -> Tensor:
        """Credit of each row and agent, NaN until they are set, shape (L, N)."""
        return self._numbers[:, CREDITS]

    def __len__(self) -> int:
        """Number of windows, one for each row."""
        return len(self.rewards)

    def __getitem__(self, starts: Tensor) -> TeamBatch:
        """The windows that start at the given rows.

        Args:
            starts: Row numbers, shape (B,) int64, in any order, repeated or not.

        Returns:
            The batch; position 0 of window ``b`` is row ``starts[b]``.
        """
        return self.windows(starts, self.window)

    def windows(self, starts: Tensor, window: int) -> TeamBatch:
        """The windows of any length that start at the given rows.

        Args:
            starts: Row numbers, shape (B,) int64.
            window: Length T of the windows, at least 1.

        Returns:
            The batch; position 0 of window ``b`` is row ``starts[b]``.
        """
        rows, valid = window_rows(starts.to(self._device), self._last, window)  # (B, T)
        row = rows.flatten()
        step = row if self._steps is None else self._steps.index_select(0, row)

        def gather(field: Tensor, index: Tensor = step) -> Tensor:
            # Rows of two axes, because torch copies those at twice the speed of rows of three
            return field.view(len(field), -1).index_select(0, index).view(*rows.shape, *field.shape[1:])  # (B, T, ...)

        obs, numbers = gather(self._obs), gather(self._numbers, row)
        batch = TeamBatch(
            obs=obs,
            state=obs.flatten(2) if self._state is None else gather(self._state),
            actions=gather(self._actions),
            rewards=numbers[..., REWARD],
            terminals=numbers[..., TERMINAL] > 0,
            truncations=numbers[..., TRUNCATION] > 0,
            legal_actions=self._legal_actions.expand(*rows.shape, -1, -1)
            if self._same_legality
            else gather(self._legal_actions),
            advantages=numbers[..., ADVANTAGE],
            credits=numbers[..., CREDITS],
            valid=valid,
        )
        if self._mapped is not None:
            self._mapped.release(above=RESIDENT_BYTES)
        return batch

    def expect(self, starts: Tensor) -> None:
        """Tell which windows will be asked for next, so that a mapped recording is read from the disk meanwhile.

        Args:
            starts: Row numbers, shape (B,) int64.
        """
        if self._mapped is not None:
            steps = starts if self._steps is None else self._steps.index_select(0, starts)
            self._mapped.expect(steps.numpy(), self.window)

    def to(self, device: torch.device) -> None:
        """Keep everything on a device from now on.

        Args:
            device: Where batches shall be gathered.

        Raises:
            ValueError: If the device has not enough free memory.
        """
        fields = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        needed = sum(field.nbytes for field in fields.values())
        if device.type == "cuda" and (free := torch.cuda.mem_get_info(device)[0]) < needed * DEVICE_MARGIN:
            raise ValueError(
                f"expected {needed * DEVICE_MARGIN / 2**30:.1f} GB of free memory on {device} to keep the recording "
                f"there, found {free / 2**30:.1f} GB; set data.init_args.cache to memory or disk"
            )
        for name, field in fields.items():
            setattr(self, name, field.to(device))
        self._device, self._mapped = device, None

    def _side_by_side(self, columns: int) -> Tensor:
        """NaN for each row and column; in a file without a name where the recording is mapped."""
        shape = (len(self.rewards), columns)
        if self._mapped is None:
            return torch.full(shape, torch.nan)
        numbers = torch.from_numpy(self._mapped.scratch(shape))
        return numbers.fill_(torch.nan)

    def set_advantages(self, values: Tensor) -> None:
        """Serve these advantages from now on, also in loaders that are already running.

        Args:
            values: One finite number per row of the stream, shape (L,).

        Raises:
            ValueError: If the shape differs from (L,) or an entry is not finite.
        """
        _fill(self.advantages, values, "advantages")

    def set_credits(self, values: Tensor) -> None:
        """Serve these credits from now on, also in loaders that are already running.

        Args:
            values: One finite number per row of the stream and agent, shape (L, N).

        Raises:
            ValueError: If the shape differs from (L, N) or an entry is not finite.
        """
        _fill(self.credits, values, "credits")


def _steps_of(ends: NDArray[np.bool_], episodes: NDArray[np.bool_] | None) -> NDArray[np.int64] | None:
    """Steps of the chosen episodes in order, or None for all."""
    if episodes is None or episodes.all():
        return None
    if not episodes.any():
        raise ValueError(f"expected at least one of {len(episodes)} episodes to be chosen, got none")
    return np.flatnonzero(np.repeat(episodes, episode_lengths(episode_bounds(ends)))).astype(np.int64)


def _fill(column: Tensor, values: Tensor, name: str) -> None:
    """Replaces a column that batches are gathered from."""
    if values.shape != column.shape:
        raise ValueError(
            f"expected {name} of shape {tuple(column.shape)}, one for every recorded step, "
            f"got {tuple(values.shape)}; were they computed on another dataset?"
        )
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        row = bad[0].tolist()
        raise ValueError(
            f"expected finite {name}, got {values[tuple(row)].item()} at row {row[0]} ({len(bad)} such entries); "
            "has the critic diverged?"
        )
    column.copy_(values)


def check_reward_scale(reward_scale: float) -> None:
    """Refuse factors that would erase the rewards.

    Args:
        reward_scale: Factor on the rewards.

    Raises:
        ValueError: If it is 0 or not a finite number.
    """
    if not np.isfinite(reward_scale) or reward_scale == 0:
        raise ValueError(
            f"expected a finite reward_scale other than 0, got {reward_scale}; 1 leaves rewards as they are"
        )


class ShuffledBatches:
    """An endless sequence of batches of starts, in which batch ``k`` depends on ``(seed, k)`` alone.

    Epoch ``e`` is a random permutation of the starts, drawn from ``(seed, e)``, cut into equal pieces: they differ in
    size by at most one, none is larger than ``batch_size``, and every start is served exactly once per epoch. Where an
    epoch has no room for another full batch it is not topped up by a tiny one, whose gradient would be mostly noise.

    Args:
        starts: Rows to draw from, shape (K,) int64, at least one.
        batch_size: Largest number of starts in a batch, at least 1.
        seed: Not negative.

    Raises:
        ValueError: If there are no starts, ``batch_size`` is below 1 or ``seed`` negative.
    """

    def __init__(self, starts: Tensor, batch_size: int, seed: int) -> None:
        if len(starts) == 0:
            raise ValueError("expected at least one window to train on, got none; hold out fewer episodes")
        check_batches(batch_size, seed)
        self.seed = seed
        self.per_epoch = -(-len(starts) // batch_size)
        self._starts = starts
        self._epoch = -1
        self._order = starts

    def __getitem__(self, number: int) -> Tensor:
        """Starts of batch ``number``, counted from the beginning of epoch 0, shape (B,) int64."""
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self._starts))
            self._order = self._starts[torch.from_numpy(order)]
            self._epoch = epoch
        first, behind = (len(self._order) * i // self.per_epoch for i in (place, place + 1))
        return self._order[first:behind]


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
        """All batches in order."""
        return (self._dataset.windows(starts, self._window) for starts in self._pieces)
