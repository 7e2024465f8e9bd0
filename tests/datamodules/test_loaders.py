import logging

import numpy as np
import pytest
import torch

from datamodules.loaders import OrderedLoader, TrainingLoader
from datamodules.sampling import ShuffledBatches
from datamodules.window_dataset import WindowDataset
from tests.datamodules.recordings import make_stream


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


def test_a_batch_has_at_least_one_window() -> None:
    with pytest.raises(ValueError, match="batch_size of at least 1"):
        OrderedLoader(WindowDataset(make_stream((4, 3))), torch.arange(3), 0)


def test_an_ordered_loader_announces_the_next_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = WindowDataset(make_stream((5,)))
    announced: list[tuple[list[int], int | None]] = []
    monkeypatch.setattr(dataset, "expect", lambda starts, window: announced.append((starts.tolist(), window)))
    for number, _ in enumerate(OrderedLoader(dataset, torch.arange(5), 2, window=2)):
        assert announced == [([2, 3], 2), ([4], 2)][: number + 1]
    assert number == 2
