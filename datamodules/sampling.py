"""Which episodes are used, and which of their steps come in which order: subsets of a recording, and batches."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Batches(Protocol):
    """An endless sequence of batches of starts, in which batch ``k`` depends on ``(seed, k)`` alone."""

    seed: int
    per_epoch: int

    def __getitem__(self, number: int) -> Tensor:
        """Starts of batch ``number``, shape (B,) int64."""
        ...


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


class EpisodeBatches:
    """Batches in which each start is drawn by first drawing an episode, then one of its steps evenly.

    Unlike an epoch of ``ShuffledBatches`` this draws with replacement. An epoch is as many draws as there are steps.

    Args:
        bounds: First row and first row behind of each episode to draw from, shape (E, 2), at least one.
        weights: How often each episode is drawn, relative to the others, shape (E,): not negative, not all 0.
        batch_size: Number of starts in a batch, at least 1.
        seed: Not negative.

    Raises:
        ValueError: If there is no episode, the weights cannot be used, ``batch_size`` is below 1 or ``seed`` negative.
    """

    def __init__(self, bounds: NDArray[np.int64], weights: NDArray[np.float64], batch_size: int, seed: int) -> None:
        if len(bounds) == 0:
            raise ValueError("expected at least one episode to train on, got none; hold out fewer episodes")
        if (
            weights.shape != (len(bounds),)
            or not np.isfinite(weights).all()
            or (weights < 0).any()
            or not weights.any()
        ):
            raise ValueError(
                f"expected a finite weight of at least 0 for each of {len(bounds)} episodes, and one above 0, got "
                f"{weights}; is return_temperature too small?"
            )
        check_batches(batch_size, seed)
        steps = int((bounds[:, 1] - bounds[:, 0]).sum())
        self.seed = seed
        self.per_epoch = -(-steps // batch_size)
        self._bounds, self._batch_size = bounds, batch_size
        self._cumulative = np.cumsum(weights / weights.sum())

    def __getitem__(self, number: int) -> Tensor:
        """Starts of batch ``number``, shape (B,) int64."""
        generator = np.random.default_rng([self.seed, number])
        episode = np.searchsorted(self._cumulative, generator.random(self._batch_size), side="right")
        first, behind = self._bounds[np.minimum(episode, len(self._bounds) - 1)].T
        return torch.from_numpy(generator.integers(first, behind))


def check_batches(batch_size: int, seed: int) -> None:
    """Refuse batches that cannot be drawn.

    Args:
        batch_size: Number of starts in a batch.
        seed: Decides the draws.

    Raises:
        ValueError: If ``batch_size`` is below 1 or ``seed`` negative.
    """
    if batch_size < 1:
        raise ValueError(f"expected a batch_size of at least 1, got {batch_size}")
    if seed < 0:
        raise ValueError(f"expected a seed of at least 0, got {seed}")


def return_weights(returns: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Weights that favour episodes with high returns.

    w = exp((R - max R) / (temperature · std R)): at temperature 1 an episode one standard deviation better is drawn e
    times as often. Returns all alike give equal weights.

    Args:
        returns: Return R of each episode, shape (E,), at least one.
        temperature: Above 0; small draws the best episodes only, large all alike.

    Returns:
        Weights in [0, 1], the best episode's is 1, shape (E,).

    Raises:
        ValueError: If ``temperature`` is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"expected a return_temperature above 0, got {temperature}; 1 is moderate")
    spread = returns.std()
    weights: NDArray[np.float64] = np.exp((returns - returns.max()) / (temperature * (spread if spread > 0 else 1.0)))
    return weights


def choose_episodes(
    returns: NDArray[np.float64], first: int | None, fraction: float, top: float, seed: int
) -> NDArray[np.bool_]:
    """A subset of whole episodes: the first ones, of these a random share, of these the best.

    Args:
        returns: Return of each episode, shape (E,), at least one.
        first: How many episodes from the beginning; None for all.
        fraction: Share to draw at random, in (0, 1]; at least one episode stays.
        top: Share with the highest returns to keep, in (0, 1]; at least one stays. Of equal returns the earlier counts
            as higher.
        seed: Decides the random share; not negative.

    Returns:
        True where the episode is chosen, shape (E,).

    Raises:
        ValueError: If ``first`` is below 1, or a share outside (0, 1].
    """
    check_subset(first, fraction, top)
    episodes = np.arange(len(returns))[:first]
    if fraction < 1.0:
        # A spawn key of its own keeps the choice independent of the other uses of the seed.
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
        episodes = np.sort(generator.permutation(episodes)[: max(round(fraction * len(episodes)), 1)])
    if top < 1.0:
        best = np.argsort(-returns[episodes], kind="stable")
        episodes = episodes[best[: max(round(top * len(episodes)), 1)]]
    chosen = np.zeros(len(returns), dtype=bool)
    chosen[episodes] = True
    return chosen


def check_subset(first: int | None, fraction: float, top: float) -> None:
    """Refuse subsets that cannot be chosen.

    Args:
        first: How many episodes from the beginning; None for all.
        fraction: Share to draw at random.
        top: Share with the highest returns to keep.

    Raises:
        ValueError: If ``first`` is below 1, or a share outside (0, 1].
    """
    if first is not None and first < 1:
        raise ValueError(f"expected first_episodes of at least 1, got {first}; null takes all")
    for name, share in (("episode_fraction", fraction), ("top_return_fraction", top)):
        if not 0.0 < share <= 1.0:
            raise ValueError(f"expected {name} in (0, 1], got {share}; 1 takes all")
