"""Counts by hand, and where the pictures put things."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.joint_actions import draw_choices, draw_points, joint_shares

CHOICES = np.array([[0, 1], [0, 1], [1, 0], [1, 1]])


def test_shares_have_the_first_agent_in_rows():
    assert joint_shares(CHOICES, 2).tolist() == [[0.0, 0.5], [0.25, 0.25]]
    assert joint_shares(np.array([[2, 1]]), 3).argmax() == 2 * 3 + 1


@pytest.mark.parametrize("actions", [np.zeros((0, 2), int), np.zeros((4, 3), int), np.zeros(4, int)])
def test_other_than_two_agents_are_refused(actions):
    with pytest.raises(ValueError, match=r"expected choices of two agents in at least one game, \(E, 2\), got shape"):
        joint_shares(actions, 2)


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="expected choices from 0 to 1, got 0 to 2"):
        joint_shares(np.array([[0, 2]]), 2)


def test_the_table_says_percent():
    axes = Figure().add_subplot()
    draw_choices(axes, CHOICES)
    assert [text.get_text() for text in axes.texts] == ["0", "50", "25", "25"]
    assert [text.get_position() for text in axes.texts] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert len(axes.patches) == 2, "frames around the pairs that differ"


def test_games_are_turned_until_their_first_landmark_is_at_the_top():
    axes = Figure().add_subplot()
    landmarks = np.array([[[0.7, 0.0], [0.0, 0.7]], [[0.0, -0.7], [0.7, 0.0]]], np.float32)
    draw_points(axes, landmarks, landmarks, reach=0.2)  # everybody goes to a landmark
    first, second = (np.asarray(each.get_offsets()) for each in axes.collections)
    assert np.allclose(first, [[0.0, 0.7], [0.0, 0.7]], atol=1e-6)
    assert np.allclose(second, [[-0.7, 0.0], [-0.7, 0.0]], atol=1e-6), "a quarter turn further, counter-clockwise"
    assert [tuple(np.round(ring.get_center(), 6)) for ring in axes.patches] == [(0.0, 0.7), (-0.7, 0.0)]
    draw_points(fewer := Figure().add_subplot(), landmarks, landmarks, reach=0.2, shown=1)
    assert len(fewer.collections[0].get_offsets()) == 1
