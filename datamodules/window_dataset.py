"""Windows of a recording, gathered a whole batch at a time."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import TeamBatch
from datamodules.cache import MappedColumns, read_only
from datamodules.episodes import episode_bounds, episode_lengths, episode_returns, last_rows, window_rows
from datamodules.vaults import Stream

# What is small lies side by side, because each place in memory that a row is gathered from costs a cache miss
REWARD, RETURN, TERMINAL, TRUNCATION, ADVANTAGE, CREDITS = 0, 1, 2, 3, 4, slice(5, None)
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
        returns = np.repeat(episode_returns(self.rewards, self.bounds), episode_lengths(self.bounds))
        self._numbers = self._side_by_side(CREDITS.start + stream.n_agents)
        self._numbers[:, REWARD], self._numbers[:, RETURN] = read_only(self.rewards), torch.from_numpy(returns)
        self._numbers[:, TERMINAL] = read_only(stream.terminals[chosen])
        self._numbers[:, TRUNCATION] = read_only(stream.truncations[chosen])
        self._numbers[:, REWARD : RETURN + 1] *= reward_scale
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
            returns=numbers[..., RETURN],
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

    def expect(self, starts: Tensor, window: int | None = None) -> None:
        """Tell which windows will be asked for next, so that a mapped recording is read from the disk meanwhile.

        Args:
            starts: Row numbers, shape (B,) int64, at least one.
            window: Length of the windows; by default the dataset's.
        """
        if self._mapped is not None:
            steps = starts if self._steps is None else self._steps.index_select(0, starts)
            self._mapped.expect(steps.numpy(), self.window if window is None else window)

    def to(self, device: torch.device) -> None:
        """Keep everything on a device from now on.

        Args:
            device: Where batches shall be gathered.

        Raises:
            ValueError: If the device has not enough free memory.
        """
        if device == self._device:
            return
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
