import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.episodes import (
    episode_bounds,
    episode_lengths,
    episode_returns,
    held_out_episodes,
    last_rows,
    window_rows,
)


def ends_of(lengths: list[int]) -> np.ndarray:
    ends = np.zeros(sum(lengths), dtype=bool)
    ends[np.cumsum(lengths) - 1] = True
    return ends


def test_the_picture_in_the_module_docstring() -> None:
    bounds = episode_bounds(ends_of([4, 3]))
    assert bounds.tolist() == [[0, 4], [4, 7]]
    assert episode_lengths(bounds).tolist() == [4, 3]
    last = last_rows(bounds)
    assert last.tolist() == [3, 3, 3, 3, 6, 6, 6]
    rows, valid = window_rows(torch.tensor([0, 2, 6]), torch.from_numpy(last), 3)
    assert rows.tolist() == [[0, 1, 2], [2, 3, 3], [6, 6, 6]]
    assert valid.tolist() == [[True, True, True], [True, True, False], [True, False, False]]


def test_episodes_of_length_one() -> None:
    bounds = episode_bounds(ends_of([1, 1, 2]))
    assert bounds.tolist() == [[0, 1], [1, 2], [2, 4]]
    rows, valid = window_rows(torch.arange(4), torch.from_numpy(last_rows(bounds)), 2)
    assert rows.tolist() == [[0, 0], [1, 1], [2, 3], [3, 3]]
    assert valid[:, 0].all()
    assert valid[:, 1].tolist() == [False, False, True, False]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 7))
def test_no_window_crosses_an_end_and_every_row_starts_one(lengths: list[int], window: int) -> None:
    bounds = episode_bounds(ends_of(lengths))
    episode = np.repeat(np.arange(len(lengths)), lengths)
    starts = torch.arange(sum(lengths))
    rows, valid = (x.numpy() for x in window_rows(starts, torch.from_numpy(last_rows(bounds)), window))
    assert (episode[rows] == episode[rows[:, :1]]).all()
    assert (rows[:, 0] == starts.numpy()).all()
    assert valid[:, 0].all()
    step = np.diff(rows, axis=1)
    assert (step[valid[:, 1:]] == 1).all()  # the row behind k is k + 1 ...
    assert (step[~valid[:, 1:]] == 0).all()  # ... or the last one again
    assert valid.sum() == sum(min(window, length - k) for length in lengths for k in range(length))


def test_returns_are_sums_over_each_episode() -> None:
    bounds = episode_bounds(ends_of([2, 1, 3]))
    rewards = np.array([1, 2, 10, 0.5, 0.25, -1], dtype=np.float32)
    assert episode_returns(rewards, bounds).tolist() == [3.0, 10.0, -0.25]


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (np.array([True, False]), "expected the last row of the stream, 1, to end an episode"),
        (np.zeros(0, dtype=bool), "non-empty stream"),
        (np.ones((2, 2), dtype=bool), r"got shape \(2, 2\)"),
    ],
)
def test_streams_without_episodes_are_refused(ends: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        episode_bounds(ends)


@pytest.mark.parametrize(
    ("n_episodes", "fraction", "count"), [(10, 0.0, 0), (10, 0.1, 1), (10, 0.25, 2), (3, 0.01, 1), (2, 0.99, 1)]
)
def test_the_share_of_held_out_episodes(n_episodes: int, fraction: float, count: int) -> None:
    assert held_out_episodes(n_episodes, fraction, seed=0).sum() == count


def test_the_split_depends_on_the_seed_only() -> None:
    first, again, other = (held_out_episodes(1000, 0.1, seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fractions_out_of_range_are_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"validation fraction in \[0, 1\)"):
        held_out_episodes(10, fraction, seed=0)


def test_one_episode_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="at least two episodes"):
        held_out_episodes(1, 0.5, seed=0)
