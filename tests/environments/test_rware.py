import importlib

import numpy as np
import pytest

from environments.rware import NAMES, Rware

pytest.importorskip("rware")


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_those_of_the_published_data(name):
    env = Rware(name)
    env.reset(seed=0)
    n_agents = int(name.split("-")[1].removesuffix("ag"))
    assert len(env.agents) == n_agents
    assert env.observation_space("agent_0").shape == (71,)
    assert env.state().shape == (7 * n_agents,)  # 14, 28, 42
    assert env.action_space("agent_0").n == 5


def test_state_is_robots_and_requests():
    env = Rware("small-2ag")
    obs, _ = env.reset(seed=3)
    state = env.state()
    for robot, own in enumerate(obs.values()):
        assert own[:2].tolist() == state[3 * robot : 3 * robot + 2].tolist()  # both show where the robot is
        assert own[3:7].argmax() == state[3 * robot + 2]  # and which way it looks
    requested = {(shelf.x, shelf.y) for shelf in env._env.request_queue}
    assert {tuple(place) for place in state[6:].reshape(4, 2)} == requested


def stay(env):
    return env.step(dict.fromkeys(env.agents, 0))


def test_episodes_are_cut_after_500_steps():
    env = Rware()
    env.reset(seed=0)
    for step in range(500):
        assert env.agents, step
        _, _, terminations, truncations, _ = stay(env)
    assert set(truncations.values()) == {True}
    assert set(terminations.values()) == {False}


def test_delivery_pays_the_robot_that_delivers():
    env = Rware("tiny-2ag")
    env.reset(seed=0)
    warehouse = env._env
    robot, shelf = warehouse.agents[1], warehouse.request_queue[0]
    x, y = warehouse.goals[0]
    warehouse.agents[0].x, warehouse.agents[0].y = 0, 0
    robot.x, robot.y, robot.carrying_shelf = x, y, shelf
    shelf.x, shelf.y = x, y
    warehouse._recalc_grid()
    _, rewards, *_ = stay(env)
    assert rewards == {"agent_0": 0.0, "agent_1": 1.0}
    assert shelf not in warehouse.request_queue  # another one is wanted now


@pytest.mark.parametrize(("carrying", "extra"), [(False, 0.003), (True, 0.006)])
def test_alberdices_additional_rewards(carrying, extra):
    env = Rware("tiny-2ag-alberdice")
    env.reset(seed=0)
    warehouse = env._env
    robot, shelf = warehouse.agents[1], warehouse.request_queue[0]
    warehouse.agents[0].x, warehouse.agents[0].y = 0, 10  # a corner without shelves
    robot.x, robot.y = shelf.x, shelf.y
    robot.carrying_shelf = shelf if carrying else None
    warehouse._recalc_grid()
    _, rewards, *_ = stay(env)
    assert rewards["agent_1"] == pytest.approx(extra + 0.001)  # under it, and in sight
    assert rewards["agent_0"] == 0.0


def test_missing_or_unknown(monkeypatch):
    with pytest.raises(ValueError, match="unknown RWARE scenario 'tiny-3ag'; choose one of: tiny-2ag, tiny-4ag"):
        Rware("tiny-3ag")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"RWARE needs the package rware .* pip install '.\[rware\]'"):
        Rware()


def test_what_is_seen_is_finite():
    env = Rware("tiny-2ag")
    obs, _ = env.reset(seed=0)
    assert all(np.isfinite(own).all() for own in obs.values())
