import importlib
import os

import numpy as np
import pytest

from environments import mamujoco
from environments.mamujoco import MAX_STEPS, NAMES, MultiAgentMujoco

pytest.importorskip("gymnasium_robotics")

SIZES = {  # agents, observation, state, action; with a suffix: as on the cards of the published data
    "2halfcheetah": (2, 12, 17, 3),
    "6halfcheetah": (6, 9, 17, 1),
    "2ant": (2, 63, 105, 4),
    "4ant": (4, 42, 105, 2),
    "3hopper": (3, 9, 11, 1),
    "2walker": (2, 12, 17, 3),
    "2halfcheetah-og_marl": (2, 13, 17, 3),
    "2halfcheetah-omar": (2, 6, 17, 3),
    "6halfcheetah-omiga": (6, 23, 23, 1),
    "2ant-omiga": (2, 113, 113, 4),
    "3hopper-omiga": (3, 14, 14, 1),
}


def test_all_names_have_known_sizes():
    assert set(SIZES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_sizes(name):
    env = MultiAgentMujoco(name)
    obs, _ = env.reset(seed=0)
    found = (len(obs), obs["agent_0"].size, env.state().size, env.action_space("agent_0").shape[0])
    assert found == SIZES[name]
    env.close()


def driven_motors(env):
    """Numbers of the motors that move when the first agent alone acts, with full force."""
    received = []
    env._robot.step = lambda action: (received.append(action), (None, 0.0, False, False, {}))[1]
    zeros = np.zeros(env.action_dim, np.float32)
    env.reset(seed=0)
    env.step({agent: np.ones_like(zeros) if agent == "agent_0" else zeros for agent in env.agents})
    return np.flatnonzero(received[0]).tolist()


@pytest.mark.parametrize(
    ("name", "motors"),
    [
        ("2halfcheetah", [0, 1, 2]),
        ("6halfcheetah", [0]),
        ("4ant", [2, 3]),  # Gymnasium's ant has its fourth leg's motors first
        ("2ant", [2, 3, 4, 5]),
        ("2ant-omiga", [0, 1, 2, 3]),  # in the order of the agents, as in the data
        ("2halfcheetah-omar", [0, 1, 2]),
    ],
)
def test_agents_drive_their_own_motors(name, motors):
    assert driven_motors(MultiAgentMujoco(name)) == motors


def test_it_moves_as_gymnasium_does():
    import gymnasium

    env = MultiAgentMujoco("2walker")
    whole = gymnasium.make("Walker2d-v5").unwrapped
    env.reset(seed=5)
    expected, _ = whole.reset(seed=5)
    np.testing.assert_allclose(env.state(), expected, rtol=1e-6)
    generator = np.random.default_rng(0)
    for _ in range(15):
        actions = generator.uniform(-1, 1, (2, 3)).astype(np.float32)
        # each leg of mamujoco_v1's walker is listed from foot to thigh, the motors go from thigh to foot
        expected, reward, terminal, _, _ = whole.step(actions[:, ::-1].reshape(-1).astype(np.float64))
        _, rewards, terminations, _, _ = env.step({"agent_0": actions[0], "agent_1": actions[1]})
        np.testing.assert_allclose(env.state(), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(list(rewards.values()), reward, rtol=1e-6)
        assert terminations["agent_0"] == terminal
        if terminal:
            break


def test_layouts_by_hand():
    env = MultiAgentMujoco("2halfcheetah-og_marl")
    obs, _ = env.reset(seed=1)
    data = env._robot.unwrapped.data
    q, v = data.qpos, data.qvel  # x, z, angle, then back thigh, shin, foot, then front thigh, shin, foot
    back = [q[5], v[5], q[4], v[4], q[3], v[3]]  # alphabetical: foot, shin, thigh
    front = [q[8], v[8], q[7], v[7], q[6], v[6]]
    trunk = [v[0], v[2], v[1], q[0], q[2], q[1]]
    np.testing.assert_allclose(obs["agent_0"], [*back, q[6], *trunk], rtol=1e-6)
    np.testing.assert_allclose(obs["agent_1"], [*front, q[3], *trunk], rtol=1e-6)
    own = MultiAgentMujoco("2halfcheetah-omar")
    obs, _ = own.reset(seed=1)
    np.testing.assert_allclose(obs["agent_1"], front, rtol=1e-6)
    np.testing.assert_allclose(own.state(), [*q[1:], *v], rtol=1e-6)


def test_omigas_layout_by_hand():
    env = MultiAgentMujoco("3hopper-omiga")
    obs, _ = env.reset(seed=1)
    data = env._robot.unwrapped.data
    whole = np.concatenate([data.qpos[1:], np.clip(data.qvel, -10, 10), [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(obs["agent_1"], (whole - whole.mean()) / whole.std(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(env.state(), obs["agent_0"])


def test_observations_are_padded_at_the_end():
    env = MultiAgentMujoco("6halfcheetah")
    obs, _ = env.reset(seed=0)
    assert [agent for agent, own in obs.items() if own[-1] == 0] == [
        "agent_2",
        "agent_5",
    ]  # feet: one neighbour


@pytest.mark.parametrize(("name", "falls"), [("2halfcheetah", False), ("3hopper", True)])
def test_episodes_end_by_falling_or_by_the_limit(name, falls):
    env = MultiAgentMujoco(name)
    env.reset(seed=0)
    steps = 0
    while env.agents:
        *_, terminations, truncations, infos = env.step({a: np.full(env.action_dim, 1, "f") for a in env.agents})
        steps += 1
    assert set(terminations.values()) == {falls}
    assert set(truncations.values()) == {not falls}
    assert (steps < 200) if falls else (steps == MAX_STEPS)
    assert infos == {agent: {} for agent in env.possible_agents}


def test_nothing_is_written_where_one_works(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    MultiAgentMujoco("2halfcheetah").reset(seed=0)
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_missing_or_unknown(monkeypatch):
    with pytest.raises(ValueError, match="unknown MA-MuJoCo scenario '2cheetah'; choose one of: 2halfcheetah, "):
        MultiAgentMujoco("2cheetah")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"MA-MuJoCo needs the packages .* pip install '.\[mamujoco\]'"):
        mamujoco.MultiAgentMujoco()
