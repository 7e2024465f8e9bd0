import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from environments.matrix_game import MatrixGame


def test_pettingzoo_accepts_it():
    parallel_api_test(MatrixGame(), num_cycles=20)


@pytest.mark.parametrize(("actions", "reward"), [((0, 0), 0.0), ((0, 1), 1.0), ((1, 0), 1.0), ((1, 1), 0.0)])
def test_xor_pays_for_opposite_actions(actions, reward):
    game = MatrixGame("xor")
    obs, infos = game.reset(seed=0)
    assert obs["agent_0"].tolist() == obs["agent_1"].tolist() == [1.0]
    assert infos["agent_0"]["action_mask"].tolist() == [1, 1]
    assert infos["agent_0"]["won"] is False
    _, rewards, terminations, truncations, infos = game.step(dict(zip(game.agents, actions, strict=True)))
    assert rewards == {"agent_0": reward, "agent_1": reward}
    assert all(terminations.values())
    assert not any(truncations.values())
    assert infos["agent_1"]["won"] is bool(reward)
    assert game.agents == []


def test_state_is_constant():
    game = MatrixGame()
    game.reset()
    assert np.array_equal(game.state(), [1.0])


def test_unknown_game():
    with pytest.raises(ValueError, match="unknown matrix game 'nim'; choose one of: xor"):
        MatrixGame("nim")
