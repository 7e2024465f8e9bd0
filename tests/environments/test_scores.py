import itertools

import numpy as np
import pytest

from environments.behaviours import Uniform
from environments.bridge import GOAL_REWARD, STARTS, STEP_REWARD, BridgeVector
from environments.landmarks import LandmarksVector
from environments.registry import SCENARIOS, make_vector_env
from environments.scores import REFERENCES, normalised_score


@pytest.mark.parametrize("scenario", REFERENCES)
def test_random_is_0_and_expert_is_100(scenario):
    random, expert, source = REFERENCES[scenario]
    np.testing.assert_allclose(normalised_score([random, expert, (random + expert) / 2], scenario), [0, 100, 50])
    assert random < expert
    assert source.startswith("random: ")
    assert "; expert: " in source


def test_references_are_of_scenarios_that_exist():
    assert set(REFERENCES) <= set(SCENARIOS)


def test_shape_is_kept_and_scores_may_leave_the_scale():
    assert normalised_score(np.array([[0.0, 1.5]]), "matrix/xor").tolist() == [[-100.0, 200.0]]
    assert float(normalised_score(0.75, "matrix/xor")) == 50.0


def test_unknown():
    with pytest.raises(
        ValueError, match=r"no reference returns are known for 'mpe/simple_tag', only for smax/3m.*add it"
    ):
        normalised_score(1.0, "mpe/simple_tag")
    with pytest.raises(ValueError, match="unknown scenario 'smax/nowhere'"):
        normalised_score(1.0, "smax/nowhere")


@pytest.mark.parametrize(
    "scenario", ["matrix/xor", "matrix/bridge", "matrix/landmarks", "mpe/simple_spread", "mpe/simple_spread-omar"]
)
def test_random_teams_earn_the_random_return(scenario):
    env, generator = make_vector_env(scenario, 512), np.random.default_rng(1)
    shown, returns = env.reset(range(10**6, 10**6 + 512)), np.zeros(512)
    while not shown.finished.all():
        shown = env.step(Uniform(env.discrete).act(shown, generator))
        returns += shown.rewards
    error = returns.std(ddof=1) / np.sqrt(512)
    assert returns.mean() == pytest.approx(REFERENCES[scenario].random, abs=4 * error)


def steps_over_the_bridge(start):
    """Fewest steps from a start to the goals: all joint moves are tried, breadth first."""
    moves = np.array(list(itertools.product(range(5), repeat=2)))
    places, seen = start[None], {start.tobytes()}
    for steps in itertools.count(1):
        env = BridgeVector(len(places) * len(moves))
        env._place = np.repeat(places, len(moves), axis=0)
        if env._advance(np.tile(moves, (len(places), 1))).won.any():
            return steps
        places = np.array([place for place in np.unique(env._place, axis=0) if place.tobytes() not in seen])
        seen |= {place.tobytes() for place in places}


def test_the_expert_of_the_bridge_is_the_best_possible_team():
    starts = [STARTS + np.array([[first, 0], [-second, 0]]) for first in (0, 1) for second in (0, 1)]
    steps = [steps_over_the_bridge(start) for start in starts]
    assert steps == [13, 12, 12, 12]
    assert REFERENCES["matrix/bridge"].expert == pytest.approx(GOAL_REWARD + STEP_REWARD * np.mean(steps))


def test_the_expert_of_the_landmarks_is_the_best_possible_team():
    env = LandmarksVector(3)
    landmarks = env.reset([1, 2, 3]).state.reshape(3, 3, 2)
    np.testing.assert_allclose(env.step(landmarks).rewards, REFERENCES["matrix/landmarks"].expert, atol=1e-6)
