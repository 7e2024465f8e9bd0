import itertools

import numpy as np
import pytest

from environments.landmarks import RADIUS, REACH, LandmarksVector


def landmarks_of(shown):
    return shown.state.reshape(-1, 3, 2)


def test_all_six_assignments_are_best():
    env = LandmarksVector(6)
    places = landmarks_of(env.reset([5] * 6))
    orders = list(itertools.permutations(range(3)))
    shown = env.step(np.stack([places[0, list(order)] for order in orders]))
    np.testing.assert_allclose(shown.rewards, 1.0, atol=1e-6)
    assert shown.won.all()
    assert shown.terminals.all()


@pytest.mark.parametrize(("to", "reward"), [("middle", 0.0), ("one", 1 / 3), ("two", 2 / 3)])
def test_uncovered_landmarks_cost(to, reward):
    env = LandmarksVector(1)
    places = landmarks_of(env.reset([0]))
    actions = {"middle": np.zeros((1, 3, 2)), "one": places[:, [0, 0, 0]], "two": places[:, [0, 1, 1]]}[to]
    shown = env.step(actions.astype(np.float32))
    np.testing.assert_allclose(shown.rewards, reward, atol=1e-6)
    assert not shown.won.any()


@pytest.mark.parametrize(("off", "won"), [(0.99 * REACH, True), (1.01 * REACH, False)])
def test_near_is_enough_to_win(off, won):
    env = LandmarksVector(1)
    places = landmarks_of(env.reset([0])).copy()
    places[0, 1] *= 1 - off / RADIUS  # towards the middle
    shown = env.step(places)
    assert shown.won.tolist() == [won]
    np.testing.assert_allclose(shown.rewards, 1 - off / RADIUS / 3, rtol=1e-5)


def test_the_average_of_two_best_actions_is_worse_than_both():
    env = LandmarksVector(1)
    places = landmarks_of(env.reset([3]))
    shown = env.step((places + places[:, [1, 0, 2]]) / 2)
    assert shown.rewards[0] < 0.5


def test_seeds_turn_the_circle():
    env = LandmarksVector(50)
    places = landmarks_of(env.reset(range(50)))
    np.testing.assert_allclose(np.linalg.norm(places, axis=-1), RADIUS, rtol=1e-5)
    between = np.linalg.norm(places[:, 0] - places[:, 1], axis=-1)
    np.testing.assert_allclose(between, RADIUS * np.sqrt(3), rtol=1e-5)
    assert len(np.unique(places[:, 0, 0])) == 50
