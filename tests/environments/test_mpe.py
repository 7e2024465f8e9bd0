import importlib

import numpy as np
import pytest

from environments import mpe
from environments.mpe import GAMES, Mpe, make_mpe_vector
from environments.particle_games import SpreadVector, TagVector, WorldVector
from environments.particles import MAX_STEPS, nearest_push
from environments.preys import PreyNetwork, flee, omar_prey
from environments.vector import ParallelVectorEnv

ACTION_DIM = 5

NOTHING = np.full((1, 3, ACTION_DIM), -1.0, np.float32)


def parts(shown):
    """Velocity (N, 2), position (N, 2), ways to the landmarks (N, 3, 2) of the first copy."""
    obs = shown.obs[0]
    return obs[:, :2], obs[:, 2:4], obs[:, 4:10].reshape(3, 3, 2)


def test_episodes_are_cut_after_25_steps():
    env = SpreadVector(1)
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
    env = SpreadVector(1)
    env.reset([5])  # where no two agents touch
    velocity = parts(env.step(actions))[0]
    expected = np.zeros((3, 2))
    expected[0, axis] = sign * 0.5  # sensitivity 5 x dt .1
    np.testing.assert_allclose(velocity, expected, atol=1e-6)


def test_action_zero_is_half_a_push_in_every_direction():
    env = SpreadVector(1)
    env.reset([5])
    velocity = parts(env.step(np.zeros((1, 3, ACTION_DIM), np.float32)))[0]
    np.testing.assert_allclose(velocity, 0.0, atol=1e-6)


def test_reward_is_half_the_distances_and_half_the_touches():
    env = SpreadVector(1)
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
    env = Mpe()
    obs, infos = env.reset(seed=3)
    assert np.array_equal(env.state(), np.concatenate([obs[agent] for agent in env.possible_agents]))
    assert infos == {"agent_0": {}, "agent_1": {}, "agent_2": {}}
    env.close()


def test_missing_mpe2(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"MPE needs the package mpe2 .* pip install '.\[mpe\]'"):
        mpe.Mpe()


NAMES = [name for game in GAMES for name in (game, f"{game}_discrete")]
SIZES = {  # team, observation, actions if continuous, if discrete
    "simple_spread": (3, 18, 5, 5),
    "simple_tag": (3, 16, 5, 5),
    "simple_world_comm": (4, 34, 9, 20),
}


@pytest.mark.parametrize("name", NAMES)
def test_sizes(name):
    env = make_mpe_vector(name, 2)
    team, obs_dim, continuous, discrete = SIZES[name.removesuffix("_discrete")]
    assert (env.n_agents, env.obs_dim, env.state_dim) == (team, obs_dim, team * obs_dim)
    assert env.action_dim == (discrete if env.discrete else continuous)
    assert env.discrete == name.endswith("_discrete")


@pytest.mark.parametrize("name", NAMES)
def test_arrays_play_as_mpe2_does(name):
    copies = 3
    arrays, singly = make_mpe_vector(name, copies), ParallelVectorEnv(lambda: mpe.make_mpe(name), copies)
    generator = np.random.default_rng(0)
    towards = {"simple_spread": 10, "simple_tag": 12, "simple_world_comm": 20}[name.removesuffix("_discrete")]
    ways = make_mpe_vector(name, 200).reset(range(200)).obs[..., towards : towards + 2]
    seeds = np.linalg.norm(ways, axis=-1)[:, 0].argsort()[:copies].tolist()  # starts that are near a collision
    shown, expected = arrays.reset(seeds), singly.reset(seeds)
    touched = False
    while True:
        for field, left, right in zip(shown._fields, shown, expected, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-5, rtol=0, err_msg=field)
        touched |= bool((np.abs(shown.agent_rewards) >= 1).any())
        if shown.finished.all():
            break
        way = shown.obs[..., towards : towards + 2] + 0.3 * generator.standard_normal((copies, arrays.n_agents, 2))
        actions = nearest_push(way)  # to another agent or a prey, roughly
        if not arrays.discrete:
            noise = 0.3 * generator.standard_normal(shown.legal_actions.shape)
            actions = (2 * np.eye(arrays.action_dim)[actions] - 1 + noise).clip(-1, 1).astype(np.float32)
        shown, expected = arrays.step(actions), singly.step(actions)
    assert touched


def test_the_leader_alone_speaks_and_everybody_hears():
    env = make_mpe_vector("simple_world_comm_discrete", 1)
    shown = env.reset([0])
    assert shown.legal_actions[0].sum(axis=1).tolist() == [20, 5, 5, 5]
    shown = env.step(np.array([[5 * 2 + 1, 0, 0, 0]]))  # push left and say word 2
    assert shown.obs[0, :, -4:].tolist() == [[0, 0, 1, 0]] * 4
    assert shown.obs[0, 0, 0] < 0  # to the left
    talk = np.zeros((1, 4, 9), np.float32)
    talk[0, 0, 5:] = [-1, 0, 1, 0.5]
    talk[0, 1:, 5:] = 1.0  # without effect
    np.testing.assert_allclose(make_then(WorldVector(1), talk).obs[0, :, -4:], [[0, 0.5, 1, 0.75]] * 4, atol=1e-6)


def make_then(env, actions):
    env.reset([0])
    return env.step(actions)


def place(env, agents, landmarks=None):
    """Put agents, and perhaps landmarks, somewhere, at rest."""
    env.reset([0])
    env._position[:], env._velocity[:] = agents, 0.0
    if landmarks is not None:
        env._landmarks[:] = landmarks


def test_predators_are_paid_for_touching_the_prey():
    env = TagVector(1)
    far = [[0.9, 0.9], [0.9, -0.9]]
    place(env, [[0.0, 0.0], [0.0, 0.12], [-0.9, 0.0], [0.0, 0.06]], far)  # two of the three touch: .06 < .125
    assert env._rewards().tolist() == [[20.0] * 3]
    world = WorldVector(1)
    place(world, [[0, 0], [0.5, 0], [0, 0.5], [-0.5, 0], [0.0, 0.1], [0.9, 0.9]])  # one touches: .1 < .12
    to_the_nearest = [0.1, np.hypot(0.5, 0.1), 0.4, np.hypot(0.5, 0.1)]
    np.testing.assert_allclose(world._rewards()[0], 5.0 - 0.1 * np.array(to_the_nearest))


def test_forests_hide():
    env = WorldVector(1)
    forest_1, forest_2 = [-0.6, -0.6], [0.6, 0.6]
    place(
        env,
        [[0, 0.9], forest_1, forest_2, [0.5, -0.5], forest_1, [0, -0.2]],  # leader, 3 predators, 2 preys
        [[0, 0], [0, 0], [0, 0], forest_1, forest_2],
    )
    env._velocity[:, 4:] = 0.3
    obs = env._observe()[0]
    others, velocities, inside = obs[:, 14:24].reshape(4, 5, 2), obs[:, 24:28].reshape(4, 2, 2), obs[:, 28:30]
    assert inside.tolist() == [[-1, -1], [1, -1], [-1, 1], [-1, -1]]
    assert velocities[:, :, 0].tolist() == [[0.3, 0.3], [0.3, 0], [0, 0], [0, 0.3]]
    assert others.any(axis=-1)[2].tolist() == [False] * 5  # alone in its forest
    assert others.any(axis=-1)[3].tolist() == [True, False, False, False, True]  # who is in the open as well
    assert others.any(axis=-1)[0].all()  # the leader


def test_flee_goes_away_from_the_nearest_and_stays_inside():
    predators = np.array([[0.0, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(flee(np.array([[0.2, 0.1]]), predators), [[1.0, 0.5]])
    np.testing.assert_allclose(flee(np.array([[0.0, 0.0]]), predators[:1]), [[0.0, 0.0]])  # nothing drives it
    assert flee(np.array([[1.2, 0.0]]), predators)[0, 0] == -1.0  # back from outside, although the hunters are there
    pushes = np.array([[0.0, 0.0], [-1, 0.2], [0.9, 1], [0.1, -1], [1, 0]])
    assert nearest_push(pushes).tolist() == [0, 1, 4, 3, 2]


def test_surrounding_catches_more_than_running_after():
    def hunt(surround):
        env = TagVector(200)
        shown, total = env.reset(range(200)), 0.0
        angles = 2 * np.pi * np.arange(3) / 3
        around = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        while not shown.finished.all():
            target = env._position[:, 3:]
            if surround:
                target = target + 0.3 * env._velocity[:, 3:]
                distance = np.linalg.norm(env._position[:, :3] - target, axis=-1, keepdims=True)
                target = target + around * np.minimum(0.5 * distance, 0.4)
            way = target - env._position[:, :3]
            push = way / np.abs(way).max(axis=-1, keepdims=True)
            zero = np.zeros_like(push[..., 0])
            shares = [zero, *(np.maximum(sign * push[..., axis], 0) for axis in (0, 1) for sign in (-1, 1))]
            shown = env.step((2 * np.stack(shares, axis=-1) - 1).clip(-1, 1).astype(np.float32))
            total += shown.rewards.mean()
        return total

    assert hunt(surround=True) > 1.4 * hunt(surround=False) > 5.0


@pytest.mark.filterwarnings("ignore:the preys of")
def test_omars_games_have_the_sizes_of_the_published_data():
    sizes = {"simple_spread": (3, 18, 54), "simple_tag": (4, 16, 64), "simple_world": (4, 24, 96)}
    for name, expected in sizes.items():
        env = make_mpe_vector(f"{name}-omar", 2)
        assert (env.n_agents, env.obs_dim, env.state_dim) == expected
        assert env.action_dim == 2


def test_random_team_earns_what_omar_published_for_spread():
    copies = 3000
    env, generator, total = SpreadVector(copies, "omar"), np.random.default_rng(0), np.zeros(copies)
    shown = env.reset(range(copies))
    while not shown.finished.all():
        shown = env.step(generator.uniform(-1, 1, (copies, 3, 2)).astype(np.float32))
        total += shown.rewards
    error = total.std() / np.sqrt(copies)
    assert total.mean() == pytest.approx(159.8, abs=3 * error)  # the random return that the scores of OMAR's data use


def test_omars_velocities_change_first_and_its_pushes_are_squared():
    env = TagVector(1, "omar")
    place(env, [[0.0, 0.0], [0.9, 0.9], [0.9, -0.9], [-0.9, 0.5]], [[-0.9, -0.9], [-0.9, 0.9]])
    actions = np.zeros((1, 4, 2), np.float32)
    actions[0, 0] = [0.5, 0.0]
    actions[0, 3] = [1.0, 1.0]  # a prey does not listen
    shown = env.step(actions)
    np.testing.assert_allclose(shown.obs[0, 0, :4], [0.45, 0, 0.045, 0], atol=1e-6)  # 9 x .5 x .1, and .1 of that
    assert np.linalg.norm(shown.obs[0, 3, :2]) == pytest.approx(1.3)  # 16 x .1 = 1.6 is too fast
    assert shown.obs[0, 3, 14:].tolist() == [0, 0]
    distances = np.linalg.norm(env._position[0, :3] - env._position[0, 3], axis=-1)
    np.testing.assert_allclose(shown.agent_rewards[0], np.full(4, -0.1 * distances.sum()), rtol=1e-6)


def prey_weights(obs_dim, push):
    """A network that always answers tanh(push)."""
    scaling = {"running_mean": np.ones(obs_dim), "running_var": np.full(obs_dim, 4.0), "weight": np.ones(obs_dim)}
    weights = {f"in_fn.{name}": value for name, value in scaling.items()} | {"in_fn.bias": np.zeros(obs_dim)}
    for name, rows, columns in (("fc1", 64, obs_dim), ("fc2", 64, 64), ("fc3", 2, 64)):
        weights |= {f"{name}.weight": np.zeros((rows, columns)), f"{name}.bias": np.zeros(rows)}
    return weights | {"fc3.bias": np.asarray(push)}


def test_prey_network_by_hand():
    weights = prey_weights(2, [0.0, 0.0])
    weights["fc1.weight"][0, 0], weights["fc2.weight"][0, 0], weights["fc3.weight"][1, 0] = 2.0, 1.0, 0.5
    push = PreyNetwork(weights)(np.array([[2.0, 7.0, 9.0], [-2.0, 7.0, 9.0]]))  # the last number is padding
    scaled = (2.0 - 1.0) / np.sqrt(4.0 + 1e-5)
    np.testing.assert_allclose(push, [[0.0, np.tanh(0.5 * 2.0 * scaled)], [0.0, 0.0]])  # ReLU drops the second


def test_omars_prey_is_read_from_its_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("OMAR_PREYS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"expected OMAR's prey in .*simple_tag\.npz"):
        omar_prey("simple_tag")
    np.savez(tmp_path / "simple_tag.npz", **prey_weights(14, [0.0, -9.0]))
    env = make_mpe_vector("simple_tag-omar", 3)
    env.reset(range(3))
    shown = env.step(np.zeros((3, 4, 2), np.float32))
    np.testing.assert_allclose(shown.obs[:, 3, :2], [[0.0, -1.3]] * 3, atol=1e-5)
    monkeypatch.delenv("OMAR_PREYS")
    with pytest.warns(UserWarning, match="the preys of mpe/simple_tag-omar follow a script"):
        assert omar_prey("simple_tag") is None


def test_unknown_game():
    for make in (Mpe, lambda name: make_mpe_vector(name, 1)):
        with pytest.raises(ValueError, match="unknown MPE scenario 'simple_tagg'; choose one of: simple_spread, "):
            make("simple_tagg")
    with pytest.raises(ValueError, match="n_envs=0"):
        make_mpe_vector("simple_tag", 0)
