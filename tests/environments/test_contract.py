"""What every environment must do, whatever its family."""

import warnings

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from environments.behaviours import Uniform
from environments.registry import make_env, make_vector_env
from environments.vector import ParallelVectorEnv

# Vectors that are arrays; those in worker processes are in test_processes.py.
FAMILIES = (
    "smax/3m",
    "mpe/simple_spread",
    "mpe/simple_tag_discrete",
    "mpe/simple_world_comm",
    "mpe/simple_world_comm_discrete",
    "mpe/simple_spread-omar",
    "matrix/xor",
    "matrix/bridge",
    "matrix/landmarks",
)
SINGLE = (
    *FAMILIES,
    "mpe/simple_spread_discrete",
    "mpe/simple_tag",
    "mpe/simple_tag-omar",
    "mpe/simple_world-omar",
    "mamujoco/2halfcheetah",
    "mamujoco/6halfcheetah",
    "mamujoco/3hopper-omiga",
    "mamujoco/2halfcheetah-og_marl",
    "rware/tiny-2ag",
    "rware/small-4ag-alberdice",
)
COPIES = 4  # as in the other tests, so that SMAX is compiled once for all of them


@pytest.fixture(params=FAMILIES)
def scenario(request):
    return request.param


@pytest.fixture(params=SINGLE)
def single(request):
    """One copy of a scenario; skipped if its simulator is not installed."""
    try:
        env = make_env(request.param)
    except ImportError as error:
        pytest.skip(str(error))
    yield env
    env.close()


@pytest.fixture(autouse=True)
def no_word_about_scripted_preys(recwarn):
    warnings.filterwarnings("ignore", message="the preys of mpe/")


def legal_sample(env, infos, agent):
    return env.action_space(agent).sample(infos[agent].get("action_mask"))


def random_actions(shown, env, generator):
    return Uniform(env.discrete).act(shown, generator)


def test_pettingzoo_accepts_it(single):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(single, num_cycles=60)


def test_spaces_hold_what_is_shown(single):
    obs, infos = single.reset(seed=0)
    expected = {"action_mask": single.discrete, "won": single.can_be_won}
    for _ in range(40):
        for agent in single.agents:
            assert single.observation_space(agent).contains(obs[agent])
            assert infos[agent].keys() == {key for key, there in expected.items() if there}
        assert single.state_space.contains(single.state())
        obs, *_, infos = single.step({agent: legal_sample(single, infos, agent) for agent in single.agents})
        if not single.agents:
            break


def test_seeds_decide_the_episode(single):
    generator = np.random.default_rng(0)
    draws = [generator.random((len(single.possible_agents), single.action_dim)) for _ in range(20)]

    def play(seed):
        obs, infos = single.reset(seed=seed)
        shown = [np.stack(list(obs.values()))]
        for draw in draws:
            if not single.agents:
                break
            actions = {}
            for agent, numbers in zip(single.agents, draw, strict=True):
                mask = infos[agent].get("action_mask")
                actions[agent] = (2 * numbers - 1).astype(np.float32) if mask is None else (mask * numbers).argmax()
            obs, rewards, *_, infos = single.step(actions)
            shown += [np.stack(list(obs.values())), np.array(list(rewards.values())), single.state()]
        return shown

    first, other, again = play(3), play(4), play(3)
    assert len(first) == len(again)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    if str(single) != "matrix/xor":  # there, all episodes start alike
        assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=False))


def test_every_agent_always_has_a_legal_action(single):
    _, infos = single.reset(seed=1)
    for _ in range(35):
        for agent in single.agents:
            mask = infos[agent].get("action_mask")
            assert mask is None if not single.discrete else mask.any()
            assert mask is None or (mask.shape, mask.dtype) == ((single.action_dim,), np.int8)
        *_, infos = single.step({agent: legal_sample(single, infos, agent) for agent in single.agents})
        if not single.agents:
            _, infos = single.reset()


def test_steps_without_a_legal_action_are_refused(single):
    single.reset(seed=1)
    outside = single.action_dim if single.discrete else np.full(single.action_dim, 1.5, np.float32)
    with pytest.raises(ValueError, match=f"'{single}' expects actions in"):
        single.step(dict.fromkeys(single.agents, outside))


def test_same_seed_same_episode(scenario):
    env = make_vector_env(scenario, COPIES)

    def play(seeds):
        generator = np.random.default_rng(0)
        shown = env.reset(seeds)
        steps = [shown]
        while not shown.finished.all():
            shown = env.step(random_actions(shown, env, generator))
            steps.append(shown)
        return steps

    first, second = play([1, 2, 3, 4]), play([1, 2, 3, 4])
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        for name, left, right in zip(one._fields, one, two, strict=True):
            assert np.array_equal(left, right), name
    if scenario not in ("matrix/xor", "matrix/bridge"):  # where all episodes start (nearly) alike
        assert not np.array_equal(first[0].obs, play([5, 6, 7, 8])[0].obs)


@pytest.mark.parametrize("scenario", [family for family in FAMILIES if "tag" not in family and "world" not in family])
def test_copies_together_equal_single_copies(scenario):
    together = make_vector_env(scenario, COPIES)
    singly = ParallelVectorEnv(lambda: make_env(scenario), COPIES)
    tolerance = 1e-5 if scenario.startswith("mpe") else 0.0  # arrays add up in another order than mpe2's loops
    generator = np.random.default_rng(0)
    for first_seed in (0, 100):
        seeds = range(first_seed, first_seed + COPIES)
        shown, expected = together.reset(seeds), singly.reset(seeds)
        while True:
            for name, left, right in zip(shown._fields, shown, expected, strict=True):
                assert left.dtype == right.dtype, name
                np.testing.assert_allclose(left, right, atol=tolerance, rtol=0, err_msg=name)
            if shown.finished.all():
                break
            actions = random_actions(shown, together, generator)
            shown, expected = together.step(actions), singly.step(actions)
    together.close()
    singly.close()


def test_finished_copies_stay_as_they_are(scenario):
    env = make_vector_env(scenario, COPIES)
    generator = np.random.default_rng(0)
    shown = env.reset(range(COPIES))
    while not shown.finished.all():
        shown = env.step(random_actions(shown, env, generator))
    after = env.step(random_actions(shown, env, generator))
    assert not after.rewards.any()
    assert not after.agent_rewards.any()
    for name in ("obs", "state", "legal_actions", "terminals", "truncations", "won", "lost"):
        assert np.array_equal(getattr(after, name), getattr(shown, name)), name
    assert not env.reset(range(COPIES)).finished.any()


def test_team_reward_is_the_mean_over_agents(scenario):
    env = make_vector_env(scenario, COPIES)
    shown = env.reset(range(COPIES))
    shown = env.step(random_actions(shown, env, np.random.default_rng(1)))
    np.testing.assert_allclose(shown.rewards, shown.agent_rewards.mean(axis=1), atol=1e-6)


def test_steps_are_the_callers_own(scenario):
    env = make_vector_env(scenario, COPIES)
    before = env.reset(range(COPIES))
    for array in before:
        array[...] = 0  # writable, and without effect on what comes
    again = make_vector_env(scenario, COPIES)
    expected = again.reset(range(COPIES))
    actions = random_actions(expected, env, np.random.default_rng(1))
    for left, right in zip(env.step(actions), again.step(actions), strict=True):
        assert np.array_equal(left, right)


def test_shapes_and_types_are_as_documented(scenario):
    env = make_vector_env(scenario, COPIES)
    shown = env.reset(range(COPIES))
    e, n = COPIES, env.n_agents
    expected = {
        "obs": ((e, n, env.obs_dim), np.float32),
        "state": ((e, env.state_dim), np.float32),
        "legal_actions": ((e, n, env.action_dim), np.bool_),
        "rewards": ((e,), np.float32),
        "terminals": ((e,), np.bool_),
        "truncations": ((e,), np.bool_),
        "won": ((e,), np.bool_),
        "agent_rewards": ((e, n), np.float32),
        "lost": ((e,), np.bool_),
    }
    assert {name: (array.shape, array.dtype) for name, array in shown._asdict().items()} == expected
    assert shown.legal_actions.any(axis=-1).all()


def test_wrong_seeds_actions_and_order(scenario):
    env = make_vector_env(scenario, COPIES)
    with pytest.raises(RuntimeError, match=f"'{scenario}' has no running episodes: expected reset"):
        env.step(np.zeros((COPIES, env.n_agents), int))
    for seeds in ([1], [-1] * COPIES, [2**32] * COPIES):
        with pytest.raises(ValueError, match=f"'{scenario}' expects {COPIES} seeds"):
            env.reset(seeds)
    shown = env.reset(range(COPIES))
    actions = random_actions(shown, env, np.random.default_rng(0))
    with pytest.raises(ValueError, match=f"'{scenario}' expects actions of shape"):
        env.step(actions[:-1])
    with pytest.raises(ValueError, match=f"'{scenario}' expects actions of shape"):
        env.step(actions.astype(float if env.discrete else int))
    with pytest.raises(ValueError, match=f"'{scenario}' expects actions in"):
        env.step(np.full_like(actions, 100))
    with pytest.raises(ValueError, match="n_envs=0"):
        make_vector_env(scenario, 0)
