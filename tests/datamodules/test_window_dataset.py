import numpy as np
import pytest
import torch

from datamodules.loaders import OrderedLoader
from datamodules.window_dataset import WindowDataset
from tests.datamodules.recordings import make_stream


def test_every_field_of_a_window_by_value() -> None:
    batch = WindowDataset(make_stream((4, 3), terminal=False), window=2, reward_scale=10.0)[torch.tensor([2, 3, 6])]
    rows = torch.tensor([[2, 3], [3, 3], [6, 6]])
    assert batch.rewards.tolist() == (rows * 10.0).tolist()
    assert batch.returns.tolist() == [[60.0, 60.0], [60.0, 60.0], [150.0, 150.0]]  # 0 + 1 + 2 + 3 and 4 + 5 + 6
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


def test_returns_are_those_of_the_chosen_episodes() -> None:
    chosen = np.array([False, True, True])
    dataset = WindowDataset(make_stream((2, 3, 1)), window=3, reward_scale=0.5, episodes=chosen)
    assert dataset[torch.tensor([0, 2, 3])].returns.tolist() == [[4.5] * 3, [4.5] * 3, [2.5] * 3]


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
