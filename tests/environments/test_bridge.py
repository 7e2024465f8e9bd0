import numpy as np
import pytest

from environments.bridge import LAND, MAX_STEPS, BridgeVector

STAY, UP, DOWN, LEFT, RIGHT = range(5)


def at(first, second):
    """One copy with the agents put somewhere; row and column."""
    env = BridgeVector(1)
    env.reset([0])
    env._place[0] = first, second
    return env


def go(env, *actions):
    return env.step(np.array([actions]))


def test_one_after_the_other_wins():
    env = at([0, 0], [2, 6])
    total = go(env, DOWN, STAY).rewards
    for _ in range(5):
        total = total + go(env, RIGHT, STAY).rewards  # over the bridge, to the column before the last
    total = total + go(env, RIGHT, LEFT).rewards  # A to (1, 6), B makes room
    total = total + go(env, DOWN, UP).rewards  # A arrives, B enters the row of the bridge
    for _ in range(5):
        shown = go(env, STAY, LEFT)
        total = total + shown.rewards
        assert not shown.finished.any()
    shown = go(env, STAY, UP)
    assert shown.won.all()
    assert shown.terminals.all()
    assert not shown.truncations.any()
    np.testing.assert_allclose(total + shown.rewards, 10 - 0.1 * 14, rtol=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "actions"),
    [
        ((1, 1), (1, 5), (RIGHT, LEFT)),  # both would enter the bridge
        ((1, 2), (1, 5), (RIGHT, LEFT)),  # one is on it, the other would enter
        ((0, 0), (0, 1), (RIGHT, LEFT)),  # they would change places
        ((0, 0), (1, 1), (DOWN, LEFT)),  # both to the same square
        ((0, 0), (1, 0), (DOWN, STAY)),  # one stands there
    ],
)
def test_crashes_cost_and_nobody_moves(first, second, actions):
    env = at(first, second)
    shown = go(env, *actions)
    np.testing.assert_allclose(shown.agent_rewards, [[-1.1, -1.1]])
    assert env._place[0].tolist() == [list(first), list(second)]
    assert not shown.finished.any()


def test_following_on_the_banks_is_no_crash():
    env = at((0, 0), (0, 1))
    np.testing.assert_allclose(go(env, RIGHT, DOWN).rewards, [-0.1])


def test_water_and_borders_are_illegal():
    env = at((1, 3), (0, 5))
    legal = go(env, STAY, STAY).legal_actions[0]
    assert np.flatnonzero(legal[0]).tolist() == [STAY, LEFT, RIGHT]  # on the bridge
    assert np.flatnonzero(legal[1]).tolist() == [STAY, DOWN, RIGHT]  # water at the left, border above
    assert LAND.sum() == 15
    go(env, UP, UP)
    assert env._place[0].tolist() == [[1, 3], [0, 5]]  # without effect


def test_who_has_arrived_stays():
    env = at((2, 6), (1, 1))
    assert np.flatnonzero(go(env, STAY, STAY).legal_actions[0, 0]).tolist() == [STAY]


def test_waiting_is_cut_at_the_limit():
    env = BridgeVector(3)
    env.reset([0, 1, 2])
    for step in range(MAX_STEPS):
        shown = env.step(np.zeros((3, 2), int))
        assert shown.truncations.all() == (step == MAX_STEPS - 1)
    assert not shown.terminals.any()
    assert not shown.won.any()


def test_what_is_seen():
    env = at((1, 0), (2, 6))
    shown = go(env, STAY, STAY)
    assert shown.obs[0].tolist() == [[0, -1, 1, 1, 1], [1, 1, 0, -1, 0]]
    np.testing.assert_allclose(shown.state[0], [0, -1, 1, 1, 1 / MAX_STEPS])


def test_seeds_move_the_starts():
    env = BridgeVector(64)
    env.reset(range(64))
    starts = {tuple(place.reshape(-1)) for place in env._place}
    assert starts == {(a, 0, b, 6) for a in (0, 1) for b in (1, 2)}
