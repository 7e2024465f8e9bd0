import logging

import numpy as np
import pytest
import torch

from datamodules.window_dataset import OrderedLoader, ShuffledBatches, TrainingLoader, WindowDataset
from tests.datamodules.recordings import make_stream


def test_every_field_of_a_window_by_value() -> None:
    batch = WindowDataset(make_stream((4, 3), terminal=False), window=2, reward_scale=10.0)[torch.tensor([2, 3, 6])]
    rows = torch.tensor([[2, 3], [3, 3], [6, 6]])
    assert batch.rewards.tolist() == (rows * 10.0).tolist()
    assert (batch.obs == rows[:, :, None, None]).all()
    assert (batch.state == rows[:, :, None]).all()
    assert (batch.actions == rows[:, :, None] % 3).all()
    assert batch.valid.tolist() == [[True, True], [True, False], [True, False]]
    assert batch.truncations.tolist() == [[False, True], [True, True], [True, True]]
    assert not batch.terminals.any()
    assert torch.isnan(batch.advantages).all()
    assert torch.isnan(batch.credits).all()
    for b in range(3):
        for t in range(2):
            illegal = (rows[b, t] + 1) % 3
            assert batch.legal_actions[b, t, 0].tolist() == [a != illegal for a in range(3)]


def test_everything_is_legal_where_actions_are_continuous() -> None:
    batch = WindowDataset(make_stream((4, 3), discrete=False))[torch.tensor([0, 5])]
    assert batch.actions.shape == batch.legal_actions.shape == (2, 2, 2, 3)
    assert batch.actions.dtype == torch.float32
    assert batch.legal_actions.all()


def test_memory_is_shared_with_the_stream_and_rewards_are_not_changed_in_it() -> None:
    stream = make_stream((4, 3))
    dataset = WindowDataset(stream, reward_scale=5.0)
    assert dataset._obs.data_ptr() == stream.obs.ctypes.data
    assert stream.rewards.tolist() == list(range(7))


def test_advantages_are_served_once_set() -> None:
    dataset = WindowDataset(make_stream((4, 3)))
    loader = iter(OrderedLoader(dataset, torch.arange(7), batch_size=4))
    assert torch.isnan(next(loader).advantages).all()
    dataset.set_advantages(torch.arange(7.0))
    assert next(loader).advantages.tolist() == [[4.0, 5.0], [5.0, 6.0], [6.0, 6.0]]


def test_credits_are_served_once_set() -> None:
    dataset = WindowDataset(make_stream((4, 3)))
    values = torch.arange(14.0).view(7, 2)
    dataset.set_credits(values)
    assert torch.equal(dataset[torch.tensor([5, 6])].credits, values[torch.tensor([[5, 6], [6, 6]])])
    with pytest.raises(ValueError, match=r"credits of shape \(7, 2\), .*, got \(7,\)"):
        dataset.set_credits(torch.zeros(7))
    values[3, 1] = torch.inf
    with pytest.raises(ValueError, match="finite credits, got inf at row 3"):
        dataset.set_credits(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(6), r"shape \(7,\), .*, got \(6,\)"),
        (torch.tensor([0, 0, float("nan"), 0, 0, 0, 0]), "got nan at row 2"),
        (torch.tensor([0, 0, 0, 0, 0, 0, -float("inf")]), "got -inf at row 6"),
    ],
)
def test_unusable_advantages_are_refused(values: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowDataset(make_stream((4, 3))).set_advantages(values)


def test_unusable_arguments_are_refused() -> None:
    stream = make_stream((4, 3))
    with pytest.raises(ValueError, match="window of at least 1"):
        WindowDataset(stream, window=0)
    for scale in (0.0, float("nan")):
        with pytest.raises(ValueError, match="finite reward_scale other than 0"):
            WindowDataset(stream, reward_scale=scale)
    with pytest.raises(ValueError, match="at least one window to train on"):
        ShuffledBatches(torch.zeros(0, dtype=torch.int64), 2, 0)
    with pytest.raises(ValueError, match="batch_size of at least 1"):
        ShuffledBatches(torch.arange(3), 0, 0)
    with pytest.raises(ValueError, match="seed of at least 0"):
        ShuffledBatches(torch.arange(3), 2, -1)
    with pytest.raises(ValueError, match="batch_size of at least 1"):
        OrderedLoader(WindowDataset(stream), torch.arange(3), 0)


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


def loader_of(rows: int = 20, batch_size: int = 6, seed: int = 0, rank: int = 0, world_size: int = 1) -> TrainingLoader:
    dataset = WindowDataset(make_stream((rows,)))
    return TrainingLoader(dataset, ShuffledBatches(torch.arange(rows), batch_size, seed), None, rank, world_size)


def served(loader: TrainingLoader, count: int) -> list[list[float]]:
    batches: list[list[float]] = []
    while len(batches) < count:
        for batch in loader:
            batches.append(batch.rewards[:, 0].tolist())
            if len(batches) == count:
                break
    return batches


def test_a_new_loader_continues_where_the_state_was_taken() -> None:
    whole = served(loader_of(), 12)
    for stop in range(12):
        first = loader_of()
        assert served(first, stop) == whole[:stop]
        second = loader_of()
        second.load_state_dict(first.state_dict())
        assert served(second, 12 - stop) == whole[stop:]


def test_a_pass_is_an_epoch_and_asking_for_an_iterator_takes_nothing() -> None:
    loader = loader_of()
    iter(loader)
    passes = [[row for batch in loader for row in batch.rewards[:, 0].tolist()] for _ in range(3)]
    assert all(sorted(rows) == list(range(20)) for rows in passes)
    assert passes[0] != passes[1]


def test_a_batch_that_was_fetched_but_not_trained_on_is_served_again() -> None:
    trained = 0
    dataset = WindowDataset(make_stream((20,)))
    loader = TrainingLoader(dataset, ShuffledBatches(torch.arange(20), 6, 0), lambda: trained)
    for batch, expected in zip(loader, range(4), strict=True):
        state = loader.state_dict()
        assert state["position"] == expected  # in flight
        other = loader_of()
        other.load_state_dict(state)
        assert next(iter(other)).rewards.tolist() == batch.rewards.tolist()
        trained += 1
        assert loader.state_dict()["position"] == expected + 1


def test_processes_share_an_epoch_without_overlap() -> None:
    ranks = [loader_of(rows=40, batch_size=5, rank=rank, world_size=2) for rank in range(2)]
    assert [len(loader) for loader in ranks] == [4, 4]
    rows = [row for loader in ranks for batch in loader for row in batch.rewards[:, 0].tolist()]
    assert sorted(rows) == list(range(40))


def test_a_state_of_other_data_is_used_as_far_as_it_goes_and_said(caplog: pytest.LogCaptureFixture) -> None:
    state = {"position": 6, "per_epoch": 4, "seed": 0}
    loader = loader_of(rows=20, batch_size=3)  # 7 batches per epoch
    with caplog.at_level(logging.WARNING):
        loader.load_state_dict(state)
    assert loader.state_dict()["position"] == 10  # 1.5 epochs
    assert "7 batches per epoch and seed 0, but the checkpoint had 4 and 0" in caplog.text


def test_the_global_random_generators_are_left_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    served(loader_of(), 9)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state(legacy=False)["state"]["key"] == before[1]).all()


def test_an_ordered_loader_starts_anew_every_time() -> None:
    dataset = WindowDataset(make_stream((4, 3)))
    loader = OrderedLoader(dataset, torch.tensor([5, 6, 0]), batch_size=2, window=3)
    assert len(loader) == 2
    for _ in range(2):
        first = next(iter(loader))
        assert first.rewards.tolist() == [[5, 6, 6], [6, 6, 6]]
    assert [len(batch.rewards) for batch in loader] == [2, 1]
    assert list(OrderedLoader(dataset, torch.zeros(0, dtype=torch.int64), 2)) == []
