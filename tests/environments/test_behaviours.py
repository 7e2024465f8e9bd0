import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from environments.behaviours import (
    _BEHAVIOURS,
    _RECIPES,
    LandmarkScript,
    SmaxScript,
    SpreadScript,
    Uniform,
    best_assignment,
    make_behaviour,
    random_legal_actions,
    recipe,
    recorded_qualities,
    weights_of,
)
from environments.learned import digest, shipped_stages, weights_file
from environments.registry import make_vector_env
from environments.smax import STOP_ACTION

COPIES = 4  # as in the other tests, so that SMAX is compiled once for all of them


def play(scenario, behaviour, seed=0, watch=lambda shown, actions: None):
    """Play one round; returns of the copies."""
    env = make_vector_env(scenario, COPIES)
    generator = np.random.default_rng(seed)
    shown = env.reset(range(COPIES))
    behaviour.reset(COPIES)
    returns = np.zeros(COPIES)
    while not shown.finished.all():
        actions = behaviour.act(shown, generator)
        watch(shown, actions)
        shown = env.step(actions)
        returns += shown.rewards
    return returns


def is_legal(shown, actions):
    return np.take_along_axis(shown.legal_actions, actions[..., None], axis=-1)[..., 0]


def test_random_legal_actions_are_legal_and_uniform():
    legal = np.array([[True, False, True, True], [False, True, False, False]])
    drawn = random_legal_actions(np.broadcast_to(legal, (30_000, 2, 4)), np.random.default_rng(0))
    shares = np.stack([(drawn == action).mean(axis=0) for action in range(4)], axis=1)
    np.testing.assert_allclose(shares, [[1 / 3, 0, 1 / 3, 1 / 3], [0, 1, 0, 0]], atol=0.01)  # 3.6 standard errors


def test_best_assignment_is_that_of_scipy():
    costs = np.random.default_rng(0).random((50, 3, 3))
    expected = [linear_sum_assignment(cost)[1] for cost in costs]
    assert np.array_equal(best_assignment(costs), expected)


def test_best_assignment_by_hand():
    # The first agent is nearer to place 0, but the second can go nowhere else.
    assert best_assignment(np.array([[[1.0, 2.0], [1.0, 9.0]]])).tolist() == [[1, 0]]


@pytest.mark.parametrize("scenario", ["smax/3m", "mpe/simple_spread", "matrix/xor"])
def test_all_behaviours_act_legally_and_reproducibly(scenario):
    def legal(shown, actions):
        if scenario == "mpe/simple_spread":
            assert actions.dtype == np.float32
            assert np.abs(actions).max() <= 1.0
        else:
            assert is_legal(shown, actions).all()

    learned = [f"learned-{stage}" for stage in shipped_stages(scenario)]
    for name in ("uniform", *_BEHAVIOURS.get(scenario, _BEHAVIOURS.get(scenario.split("/")[0], {})), *learned):
        first = play(scenario, make_behaviour(scenario, name), watch=legal)
        assert np.array_equal(first, play(scenario, make_behaviour(scenario, name)))


def test_good_smax_script_attacks_the_weakest_in_range():
    script = SmaxScript("3m", focus_fire=True, shot_probability=1.0, random_probability=0.0)
    seen = set()

    def weakest(shown, actions):
        health = shown.obs[..., 2 * 13 : 5 * 13 : 13]  # two allies come first, health is the first of 13 numbers
        for copy, agent in np.argwhere(shown.legal_actions[..., STOP_ACTION + 1 :].any(axis=-1)):
            in_range = np.flatnonzero(shown.legal_actions[copy, agent, STOP_ACTION + 1 :])
            target = actions[copy, agent] - STOP_ACTION - 1
            assert target in in_range
            assert health[copy, agent, target] == health[copy, agent, in_range].min()
            seen.add((len(in_range), int(target)))

    play("smax/3m", script, watch=weakest)
    assert {number for number, _ in seen} == {1, 2, 3}


@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_weak_smax_script_shoots_as_often_as_told(probability):
    script = SmaxScript("3m", focus_fire=False, shot_probability=probability, random_probability=0.0)
    shots = []

    def count(shown, actions):
        could = shown.legal_actions[..., STOP_ACTION + 1 :].any(axis=-1)
        shots.extend((actions > STOP_ACTION)[could].tolist())
        assert not (actions > STOP_ACTION)[~could].any()

    for seed in range(10):
        play("smax/3m", script, seed, count)
    assert np.mean(shots) == pytest.approx(probability, abs=0 if probability in (0, 1) else 0.08)


def test_smax_scripts_disturb_their_actions():
    calm, wild = (
        SmaxScript("3m", focus_fire=True, shot_probability=1.0, random_probability=probability)
        for probability in (0.0, 1.0)
    )
    assert play("smax/3m", calm).mean() > 3 * play("smax/3m", wild).mean()


def test_smax_script_needs_a_reset():
    with pytest.raises(RuntimeError, match=r"expected reset\(n_envs\) before act\(\)"):
        make_behaviour("smax/3m", "good").act(make_vector_env("smax/3m", COPIES).reset(range(COPIES)), None)


def shown_at(obs_of_first_agent):
    """A start of simple_spread whose first agent sees what is given, as far as it is given."""
    shown = make_vector_env("mpe/simple_spread", 1).reset([0])
    shown.obs[0, 0, : len(obs_of_first_agent)] = obs_of_first_agent
    return shown


def test_controller_by_hand():
    # velocity (.1, -.2), position, landmarks: the nearest is at (.05, .1), the others are far away
    shown = shown_at([0.1, -0.2, 0.0, 0.0, 0.05, 0.1, 3.0, 3.0, -3.0, 3.0])
    script = SpreadScript(assign=False, gain=4.0, damping=2.0, noise=0.0)
    # push = 4 (.05, .1) - 2 (.1, -.2) = (0, .8): up, which is the last component; a = 2 u - 1
    expected = [-1.0, -1.0, -1.0, -1.0, 2 * 0.8 - 1]
    np.testing.assert_allclose(script.act(shown, np.random.default_rng(0))[0, 0], expected, atol=1e-6)


def test_push_and_noise_are_clipped():
    shown = shown_at([0.0, 0.0, 0.0, 0.0, -2.0, 0.0, 3.0, 3.0, -3.0, 3.0])
    still = SpreadScript(assign=False, gain=4.0, noise=0.0).act(shown, np.random.default_rng(0))
    np.testing.assert_allclose(still[0, 0], [-1, 1, -1, -1, -1])  # full push to the left
    noisy = SpreadScript(assign=False, gain=4.0, noise=5.0).act(shown, np.random.default_rng(0))
    assert np.abs(noisy).max() == 1.0


def test_noise_is_measured_in_units_of_mpe2():
    shown = make_vector_env("mpe/simple_spread", 500).reset(range(500))
    calm, noisy = (
        SpreadScript(assign=False, gain=0.5, noise=noise).act(shown, np.random.default_rng(0)) for noise in (0.0, 0.15)
    )
    inside = np.abs(calm) < 0.05  # about .5 in mpe2's units: three deviations away from its ends
    assert inside.sum() > 50
    assert (noisy - calm)[inside].std() == pytest.approx(2 * 0.15, rel=0.2)


def test_good_teams_are_better_than_weak_ones():
    for scenario in ("smax/3m", "mpe/simple_spread"):
        good, weak = (
            np.mean([play(scenario, make_behaviour(scenario, name), seed).mean() for seed in range(3)])
            for name in ("good", "weak")
        )
        assert good > weak + 0.3


def test_stages_of_a_training_differ_in_quality():
    for scenario, stages in (("smax/3m", ("good", "poor")), ("mpe/simple_spread", ("medium", "poor"))):
        better, worse = (
            np.mean([play(scenario, make_behaviour(scenario, f"learned-{stage}"), seed).mean() for seed in range(5)])
            for stage in stages
        )
        assert better > worse + 0.3


def test_the_precise_script_has_no_noise():
    shown = make_vector_env("mpe/simple_spread", 2).reset(range(2))
    precise = make_behaviour("mpe/simple_spread", "precise")
    first, second = (precise.act(shown, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.array_equal(first, second)


def test_landmark_teams_agree_or_do_not():
    env = make_vector_env("matrix/landmarks", 4000)
    places = env.reset(range(4000)).state.reshape(-1, 3, 2)
    shown = env.reset(range(4000))
    for agree, success in ((True, 1.0), (False, 2 / 9)):
        points = LandmarkScript(agree, noise=0.0).act(shown, np.random.default_rng(0))
        target = np.linalg.norm(points[:, :, None] - places[:, None], axis=-1).argmin(axis=2)  # (E, N)
        np.testing.assert_allclose(points, np.take_along_axis(places, target[..., None], axis=1), atol=1e-6)
        together = np.mean([len(set(row)) == 3 for row in target.tolist()])
        assert together == pytest.approx(success, abs=0.03)
        joint = np.bincount(target @ [9, 3, 1], minlength=27) / 4000
        modes = joint[joint > 0]
        assert len(modes) == (6 if agree else 27)
        np.testing.assert_allclose(modes, 1 / len(modes), atol=0.025)
        for agent in range(3):  # alone, nobody shows which kind of team it is
            np.testing.assert_allclose(np.bincount(target[:, agent]) / 4000, 1 / 3, atol=0.03)
    noisy = make_behaviour("matrix/landmarks", "good").act(shown, np.random.default_rng(0))
    calm = LandmarkScript(agree=True, noise=0.0).act(shown, np.random.default_rng(0))
    assert (noisy - calm).std() == pytest.approx(0.05, rel=0.02)


def test_uniform_continuous_actions():
    shown = make_vector_env("mpe/simple_spread", 1000).reset(range(1000))
    actions = Uniform(discrete=False).act(shown, np.random.default_rng(0))
    assert actions.shape == (1000, 3, 5)
    assert actions.mean() == pytest.approx(0.0, abs=0.02)
    assert actions.std() == pytest.approx(1 / np.sqrt(3), abs=0.02)


def test_recipes_are_complete():
    for scenarios, qualities in _RECIPES.items():
        for made_of in qualities.values():
            assert sum(made_of.shares.values()) == pytest.approx(1.0)
            family = scenarios.partition("/")[0]
            scripts = _BEHAVIOURS.get(scenarios) or _BEHAVIOURS.get(family, {})
            learned = {f"learned-{stage}" for stage in shipped_stages(scenarios)} if "/" in scenarios else set()
            assert set(made_of.shares) <= {"uniform", *scripts, *learned}
    assert recipe("smax/8m", "Mixed").episodes == 4000


def test_what_mixed_recordings_are_made_of_stays():
    for scenario in ("smax/3m", "smax/2s3z", "smax/5m_vs_6m", "smax/8m", "mpe/simple_spread"):
        assert recipe(scenario, "Mixed").shares == {"good": 0.3, "weak": 0.7}


def test_qualities_of_a_scenario():
    assert recorded_qualities("smax/8m") == ("Mixed",)
    assert set(recorded_qualities("smax/3m")) == {"Mixed", "Good", "Medium", "Poor", "Replay"}
    assert recorded_qualities("rware/tiny-2ag") == ()
    replay = recipe("smax/3m", "Replay").shares
    assert replay == {f"learned-replay-{k}": 0.2 for k in range(1, 6)}
    assert recipe("smax/2s3z", "Medium").shares == {"learned-medium": 1.0}


def test_digests_are_those_of_teams_that_learned():
    assert weights_of("smax/3m", ["good", "uniform"]) == {}
    digests = weights_of("mpe/simple_spread", ["good", "learned-medium"])
    assert digests == {"learned-medium": digest(weights_file("mpe/simple_spread", "medium"))}


def test_unknown_names():
    with pytest.raises(ValueError, match="unknown quality 'Bad' for 'smax/3m'; choose one of: Mixed, Good, Med"):
        recipe("smax/3m", "Bad")
    with pytest.raises(ValueError, match=r"unknown quality 'Good' for 'smax/8m'; choose one of: Mixed$"):
        recipe("smax/8m", "Good")
    with pytest.raises(ValueError, match="unknown quality 'Good' for 'rware/tiny-2ag'; there is no recipe"):
        recipe("rware/tiny-2ag", "Good")
    with pytest.raises(ValueError, match="unknown behaviour 'best' for 'matrix/xor'; choose one of: uniform"):
        make_behaviour("matrix/xor", "best")
    with pytest.raises(ValueError, match="unknown scenario 'smax/9m'"):
        recipe("smax/9m", "Mixed")
