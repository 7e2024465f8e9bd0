import pytest
import torch

from datamodules.batch import TeamBatch
from lightning_modules.joint_steps import joint_steps, some_windows
from tests.lightning_modules.batches import generator, random_batch

BATCH, WINDOW, N_AGENTS = 2, 3, 2


def numbered_batch(valid):
    """Every entry tells its place: 100 b + 10 t + agent."""
    place = 100 * torch.arange(BATCH).unsqueeze(1) + 10 * torch.arange(WINDOW)  # (B, T)
    per_agent = place.unsqueeze(-1) + torch.arange(N_AGENTS)
    nothing = torch.zeros(BATCH, WINDOW, dtype=torch.bool)
    return TeamBatch(
        obs=per_agent.unsqueeze(-1) + torch.tensor([0.0, 0.5]),
        state=place.unsqueeze(-1) + torch.tensor([0.0, 0.25, 0.75]),
        actions=per_agent,
        rewards=torch.zeros(BATCH, WINDOW),
        returns=torch.zeros(BATCH, WINDOW),
        terminals=nothing,
        truncations=nothing,
        legal_actions=per_agent.unsqueeze(-1) % torch.tensor([2, 3]) == 0,
        advantages=place.double(),
        credits=per_agent.double(),
        valid=torch.tensor(valid, dtype=torch.bool),
    )


@pytest.mark.parametrize(
    ("valid", "places"),
    [
        ([[1, 1, 1], [1, 1, 1]], [0, 10, 100, 110]),  # position T-1 is only bootstrapped from
        ([[1, 1, 1], [1, 0, 0]], [0, 10, 100]),
        ([[1, 1, 0], [1, 0, 0]], [0, 10, 100]),  # the last step of an episode is learned from
        ([[1, 0, 0], [1, 1, 0]], [0, 100, 110]),
        ([[0, 0, 0], [1, 0, 0]], [100]),
    ],
)
def test_valid_learning_steps_in_order_and_padding_never(valid, places):
    batch = numbered_batch(valid)
    steps = joint_steps(batch)
    assert steps.advantages.tolist() == places
    for place, *fields in zip(places, *steps[:6], strict=True):
        b, t = divmod(place, 100)[0], place % 100 // 10
        wanted = (batch.obs, batch.state, batch.actions, batch.legal_actions, batch.advantages, batch.credits)
        for got, field in zip(fields, wanted, strict=True):
            assert torch.equal(got, field[b, t])


def test_most_keeps_all_where_there_are_fewer():
    batch = numbered_batch([[1, 1, 1], [1, 0, 0]])
    for most in (3, 4, None):
        assert joint_steps(batch, most, generator()).advantages.tolist() == [0, 10, 100]


@pytest.mark.parametrize("most", [1, 2])
def test_most_draws_whole_steps_uniformly_without_replacement(most):
    batch, rounds = numbered_batch([[1, 1, 1], [1, 1, 0]]), 2000
    source, counts = generator(), dict.fromkeys([0, 10, 100, 110], 0)
    for _ in range(rounds):
        steps = joint_steps(batch, most, source)
        drawn = steps.advantages.tolist()
        assert len(drawn) == most == len(set(drawn))
        assert torch.equal(steps.credits[:, 0], steps.advantages) and torch.equal(
            steps.state[:, 0].double(), steps.advantages
        )
        for place in drawn:
            counts[int(place)] += 1
    chance = most / 4
    for count in counts.values():
        assert abs(count - rounds * chance) < 4 * (rounds * chance * (1 - chance)) ** 0.5


def test_the_draw_comes_from_the_generator():
    batch = random_batch(batch=40)
    first, second, other = (joint_steps(batch, 10, generator(seed)).advantages for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_some_windows_are_drawn_whole_and_without_replacement():
    batch = random_batch(batch=9)
    assert some_windows(batch, None, generator()) is batch
    assert some_windows(batch, 9, generator()) is batch
    seen = set()
    for seed in range(20):
        few = some_windows(batch, 4, generator(seed))
        places = [int((batch.obs == window).flatten(1).all(dim=1).nonzero()) for window in few.obs]
        assert len(set(places)) == 4
        for got, field in zip(few, batch, strict=True):
            assert torch.equal(got, field[places])
        seen |= set(places)
    assert seen == set(range(9))
