import numpy as np
import pytest
import torch

from datamodules.sampling import EpisodeBatches, ShuffledBatches, choose_episodes, return_weights

BOUNDS = np.array([[0, 2], [2, 12], [20, 21]])  # episodes of 2, 10 and 1 steps


def draw(batches: EpisodeBatches, count: int) -> np.ndarray:
    return torch.cat([batches[number] for number in range(count)]).numpy()


def test_episodes_are_drawn_by_weight_and_their_steps_evenly() -> None:
    starts = draw(EpisodeBatches(BOUNDS, np.array([1.0, 2.0, 1.0]), batch_size=500, seed=0), 80)
    episode = np.searchsorted(BOUNDS[:, 1], starts, side="right")
    shares = np.bincount(episode) / len(starts)
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.01)  # 40,000 draws: four deviations are .01
    steps = np.bincount(starts[episode == 1] - 2, minlength=10) / (episode == 1).sum()
    np.testing.assert_allclose(steps, 0.1, atol=0.009)
    assert set(starts) == {0, 1, *range(2, 12), 20}


def test_a_batch_of_episodes_depends_on_its_number_and_the_seed_only() -> None:
    def batches(seed: int = 3) -> EpisodeBatches:
        return EpisodeBatches(BOUNDS, np.ones(3), 6, seed)

    one, other = batches(), batches()
    assert torch.equal(other[5], one[5])
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one[0], batches(4)[0])
    assert one.per_epoch == 3  # 13 steps in batches of at most 6
    assert len(one[0]) == 6


def test_an_episode_of_weight_0_is_never_drawn() -> None:
    starts = draw(EpisodeBatches(BOUNDS, np.array([0.0, 0.0, 5.0]), 100, 0), 3)
    assert set(starts) == {20}


@pytest.mark.parametrize("weights", [[1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [np.nan, 1.0, 1.0], [1.0]])
def test_unusable_weights(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="expected a finite weight of at least 0 for each of 3 episodes"):
        EpisodeBatches(BOUNDS, np.array(weights), 6, 0)


def test_unusable_episode_batches() -> None:
    with pytest.raises(ValueError, match="at least one episode to train on"):
        EpisodeBatches(BOUNDS[:0], np.ones(0), 6, 0)
    with pytest.raises(ValueError, match="batch_size of at least 1"):
        EpisodeBatches(BOUNDS, np.ones(3), 0, 0)
    with pytest.raises(ValueError, match="seed of at least 0"):
        EpisodeBatches(BOUNDS, np.ones(3), 1, -1)


def test_return_weights_by_hand() -> None:
    np.testing.assert_allclose(return_weights(np.array([0.0, 2.0]), 1.0), [np.exp(-2.0), 1.0])  # deviation 1
    np.testing.assert_allclose(return_weights(np.array([0.0, 20.0]), 2.0), [np.exp(-1.0), 1.0])  # the unit is free
    np.testing.assert_array_equal(return_weights(np.array([3.0, 3.0]), 0.1), [1.0, 1.0])
    with pytest.raises(ValueError, match="return_temperature above 0, got 0"):
        return_weights(np.ones(2), 0.0)


RETURNS = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])


@pytest.mark.parametrize(
    ("first", "top", "expected"),
    [
        (None, 1.0, range(8)),
        (3, 1.0, [0, 1, 2]),
        (100, 1.0, range(8)),
        (None, 0.25, [5, 7]),
        (4, 0.5, [0, 2]),
        (None, 0.01, [5]),
        (4, 0.75, [0, 1, 2]),  # of the two returns of 1 the earlier
    ],
)
def test_subsets_by_hand(first: int | None, top: float, expected: list[int]) -> None:
    assert np.flatnonzero(choose_episodes(RETURNS, first, 1.0, top, 0)).tolist() == list(expected)


def test_a_random_share_depends_on_the_seed() -> None:
    chosen = [choose_episodes(np.zeros(100), None, 0.3, 1.0, seed) for seed in (0, 0, 1)]
    assert [rows.sum() for rows in chosen] == [30, 30, 30]
    np.testing.assert_array_equal(chosen[0], chosen[1])
    assert (chosen[0] != chosen[2]).any()
    assert choose_episodes(np.zeros(100), 10, 0.5, 1.0, 0)[10:].sum() == 0
    both = choose_episodes(RETURNS, None, 0.5, 0.25, 0)
    half = choose_episodes(RETURNS, None, 0.5, 1.0, 0)
    assert RETURNS[both].tolist() == [RETURNS[half].max()], "the best of the random half"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1.0, 1.0), "first_episodes of at least 1, got 0"),
        ((None, 0.0, 1.0), r"episode_fraction in \(0, 1\], got 0"),
        ((None, 1.0, 1.5), r"top_return_fraction in \(0, 1\], got 1.5"),
    ],
)
def test_impossible_subsets(arguments: tuple[int | None, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_episodes(RETURNS, *arguments, seed=0)


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"), [(10, 5, {5}), (10, 4, {3, 4}), (3, 8, {3}), (257, 256, {128, 129})]
)
def test_an_epoch_serves_every_start_once_in_even_batches(rows: int, batch_size: int, sizes: set[int]) -> None:
    starts = torch.arange(100, 100 + rows)
    batches = ShuffledBatches(starts, batch_size, seed=0)
    for epoch in range(3):
        pieces = [batches[epoch * batches.per_epoch + place] for place in range(batches.per_epoch)]
        assert {len(piece) for piece in pieces} == sizes
        assert torch.equal(torch.cat(pieces).sort().values, starts)


def test_a_batch_depends_on_its_number_and_the_seed_only() -> None:
    starts = torch.arange(50)
    in_order = [ShuffledBatches(starts, 8, seed=1)[k] for k in range(21)]
    batches = ShuffledBatches(starts, 8, seed=1)
    for k in reversed(range(21)):
        assert torch.equal(batches[k], in_order[k])
    assert not torch.equal(in_order[0], in_order[7])  # another epoch, another order
    assert not torch.equal(in_order[0], ShuffledBatches(starts, 8, seed=2)[0])


def test_unusable_shuffled_batches() -> None:
    with pytest.raises(ValueError, match="at least one window to train on"):
        ShuffledBatches(torch.zeros(0, dtype=torch.int64), 2, 0)
    with pytest.raises(ValueError, match="batch_size of at least 1"):
        ShuffledBatches(torch.arange(3), 0, 0)
    with pytest.raises(ValueError, match="seed of at least 0"):
        ShuffledBatches(torch.arange(3), 2, -1)
