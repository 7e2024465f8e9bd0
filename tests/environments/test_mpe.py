import importlib

import numpy as np
import pytest

from environments import mpe
from environments.mpe import ACTION_DIM, MAX_STEPS, SimpleSpread, SimpleSpreadVector

NOTHING = np.full((1, 3, ACTION_DIM), -1.0, np.float32)


def parts(shown):
    """Velocity (N, 2), position (N, 2), ways to the landmarks (N, 3, 2) of the first copy."""
    obs = shown.obs[0]
    return obs[:, :2], obs[:, 2:4], obs[:, 4:10].reshape(3, 3, 2)


def test_episodes_are_cut_after_25_steps():
    env = SimpleSpreadVector(1)
    shown = env.reset([0])
    for _ in range(MAX_STEPS):
        assert not shown.finished.any()
        shown = env.step(NOTHING)
    assert shown.truncations.all()
    assert not shown.terminals.any()
    assert not shown.won.any()


@pytest.mark.parametrize(("component", "axis", "sign"), [(1, 0, -1), (2, 0, 1), (3, 1, -1), (4, 1, 1)])
def test_each_component_pushes_its_way(component, axis, sign):
    actions = NOTHING.copy()
    actions[0, 0, component] = 1.0  # a full push for the first agent alone
    env = SimpleSpreadVector(1)
    env.reset([5])  # where no two agents touch
    velocity = parts(env.step(actions))[0]
    expected = np.zeros((3, 2))
    expected[0, axis] = sign * 0.5  # sensitivity 5 x dt .1
    np.testing.assert_allclose(velocity, expected, atol=1e-6)


def test_action_zero_is_half_a_push_in_every_direction():
    env = SimpleSpreadVector(1)
    env.reset([5])
    velocity = parts(env.step(np.zeros((1, 3, ACTION_DIM), np.float32)))[0]
    np.testing.assert_allclose(velocity, 0.0, atol=1e-6)


def test_reward_is_half_the_distances_and_half_the_touches():
    env = SimpleSpreadVector(1)
    for seed in range(20):
        env.reset([seed])
        shown = env.step(NOTHING)
        _, position, ways = parts(shown)
        uncovered = np.linalg.norm(ways, axis=-1).min(axis=0).sum()
        between = np.linalg.norm(position[:, None] - position[None], axis=-1)
        touched = (between < 0.3).sum(axis=1) - 1
        np.testing.assert_allclose(shown.agent_rewards[0], -0.5 * uncovered - 0.5 * touched, rtol=1e-5)
    assert env.reset([0]).rewards.tolist() == [0.0]


def test_state_is_all_observations_in_a_row():
    env = SimpleSpread()
    obs, infos = env.reset(seed=3)
    assert np.array_equal(env.state(), np.concatenate([obs[agent] for agent in env.possible_agents]))
    assert infos == {"agent_0": {}, "agent_1": {}, "agent_2": {}}
    env.close()


def test_missing_mpe2(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"MPE needs the package mpe2 .* pip install '.\[mpe\]'"):
        mpe.SimpleSpread()
