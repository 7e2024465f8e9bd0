"""From one long stream of steps to episodes, and from episodes to windows.

A recording is a flat stream; the last step of every episode is marked. With windows of length 3::

    row          0   1   2   3   4   5   6          two episodes: rows 0-3 and 4-6
    ends         .   .   .   X   .   .   X
    bounds       [0 ------------ 4)[4 ----- 7)      first row, first row behind
    last row     3   3   3   3   6   6   6

    window at 0  0   1   2                          valid  + + +
    window at 2          2   3   3                  valid  + + -     row 3 repeated, not row 4
    window at 6                          6   6   6  valid  + - -

A window starts at every row; the row behind ``k`` is ``k + 1`` or the window is padded with the last row.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def episode_bounds(ends: NDArray[np.bool_]) -> NDArray[np.int64]:
    """First row and first row behind, for every episode.

    Args:
        ends: True at the last row of each episode, shape (L,).

    Returns:
        Half-open intervals ``[start, stop)``, shape (E, 2) int64; they cover the stream without gap or overlap.

    Raises:
        ValueError: If the stream is empty, not one-dimensional, or its last row ends no episode.
    """
    if ends.ndim != 1 or len(ends) == 0:
        raise ValueError(f"expected a non-empty stream of end marks, shape (L,); got shape {ends.shape}")
    if not ends[-1]:
        raise ValueError(
            f"expected the last row of the stream, {len(ends) - 1}, to end an episode; mark it as truncated"
        )
    stops = np.flatnonzero(ends).astype(np.int64) + 1
    starts = np.concatenate([np.zeros(1, np.int64), stops[:-1]])
    return np.stack([starts, stops], axis=1)


def episode_lengths(bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of steps of each episode.

    Args:
        bounds: Half-open intervals, shape (E, 2).

    Returns:
        Lengths in steps, shape (E,).
    """
    return bounds[:, 1] - bounds[:, 0]


def last_rows(bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """For every row of the stream the last row of the episode it belongs to.

    Args:
        bounds: Half-open intervals that cover the stream, shape (E, 2).

    Returns:
        Row numbers, shape (L,).
    """
    return np.repeat(bounds[:, 1] - 1, episode_lengths(bounds))


def window_rows(starts: Tensor, last: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Rows of the windows that start at the given rows, and which of them are real.

    Args:
        starts: First row of each window, shape (B,) int64.
        last: Last row of the episode of each row of the stream, shape (L,) int64.
        window: Length T of a window, at least 1.

    Returns:
        Row numbers, shape (B, T) int64, the episode's last row repeated behind its end; and False on that padding, (B,
        T).
    """
    rows = starts.unsqueeze(1) + torch.arange(window, device=starts.device)  # (B, T)
    end = last.index_select(0, starts).unsqueeze(1)  # (B, 1)
    return torch.minimum(rows, end), rows <= end


def episode_returns(rewards: NDArray[np.float32], bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Undiscounted return of each episode: the sum of its team rewards over time.

    Args:
        rewards: Team reward of each row (mean over agents, unscaled), shape (L,).
        bounds: Half-open intervals that cover the stream, shape (E, 2).

    Returns:
        Returns in the unit of the rewards, shape (E,).
    """
    return np.add.reduceat(rewards.astype(np.float64), bounds[:, 0])


def held_out_episodes(n_episodes: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose whole episodes for validation.

    Whole episodes, because neighbouring steps of one episode are nearly copies of each other: a random split of steps
    would let a model that has memorised its training data look good on the rest.

    Args:
        n_episodes: Number of episodes E.
        fraction: Share to hold out, in [0, 1). Above 0 at least one episode is held out, and one always stays for
            training.
        seed: Not negative; the same seed holds out the same episodes.

    Returns:
        True where the episode is held out, shape (E,).

    Raises:
        ValueError: If ``fraction`` is outside [0, 1), or above 0 with a single episode.
    """
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"expected a validation fraction in [0, 1), got {fraction}")
    if fraction > 0.0 and n_episodes < 2:
        raise ValueError(
            f"expected at least two episodes to hold out a fraction of {fraction}, got {n_episodes}; "
            "set the validation fraction to 0"
        )
    count = min(max(round(fraction * n_episodes), 1), n_episodes - 1) if fraction > 0.0 else 0
    # A spawn key of its own keeps the split independent of the order of the batches, which uses the same seed.
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    held_out = np.zeros(n_episodes, dtype=bool)
    held_out[generator.permutation(n_episodes)[:count]] = True
    return held_out
