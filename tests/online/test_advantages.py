import pytest
import torch

from online.advantages import generalised_advantages


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def flags(*numbers):
    return torch.tensor(numbers, dtype=torch.bool)[:, None]


def test_by_hand_where_the_episode_goes_on():
    # deltas: 1 + .5 * 4 - 2 = 1,  0 + .5 * 6 - 4 = -1,  2 + .5 * 8 - 6 = 0;  discount * trace = .25
    advantages = generalised_advantages(
        column(1, 0, 2), column(2, 4, 6, 8), flags(0, 0, 0), flags(0, 0, 0), discount=0.5, trace=0.5
    )
    assert advantages[:, 0].tolist() == [1 + 0.25 * -1, -1, 0]


def test_by_hand_where_it_ends_or_is_cut_off():
    rewards, values = column(1, 0, 2), column(2, 4, 6, 8)
    # The middle step is the last of its episode; its delta is 0 - 4 = -4 if terminal, 0 + .5 * 6 - 4 = -1 if cut off.
    terminal = generalised_advantages(rewards, values, flags(0, 1, 0), flags(0, 1, 0), 0.5, 0.5)
    assert terminal[:, 0].tolist() == [1 + 0.25 * -4, -4, 0]
    cut_off = generalised_advantages(rewards, values, flags(0, 0, 0), flags(0, 1, 0), 0.5, 0.5)
    assert cut_off[:, 0].tolist() == [1 + 0.25 * -1, -1, 0]


def test_extremes_of_the_trace():
    rewards, values = torch.rand(7, 3, dtype=torch.float64), torch.rand(8, 3, dtype=torch.float64)
    never = torch.zeros(7, 3, dtype=torch.bool)
    trusting_values = generalised_advantages(rewards, values, never, never, 0.9, 0.0)
    torch.testing.assert_close(trusting_values, rewards + 0.9 * values[1:] - values[:-1])
    trusting_rewards = generalised_advantages(rewards, values, never, never, 0.9, 1.0)[0]
    discounted = sum(0.9**t * rewards[t] for t in range(7)) + 0.9**7 * values[7]
    torch.testing.assert_close(trusting_rewards, discounted - values[0])
    last = torch.zeros(7, 3, dtype=torch.bool)
    last[-1] = True
    assert generalised_advantages(rewards, values, last, last, 1.0, 1.0)[0].numpy() == pytest.approx(
        (rewards.sum(dim=0) - values[0]).numpy()
    )
