import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv

from environments.matrix_game import MatrixGame
from environments.vector import ParallelVectorEnv


class Relay(ParallelEnv):
    """A user's environment with everything optional left out: no state, no mask; "long" sees more than "short".

    "short" leaves after its first step; the episode ends after ``seed`` steps.
    """

    metadata = {"name": "relay"}  # noqa: RUF012 - as PettingZoo has it
    possible_agents = ["short", "long"]  # noqa: RUF012

    def observation_space(self, agent):
        return spaces.Box(-9, 9, (1,) if agent == "short" else (2,))

    def action_space(self, agent):
        return spaces.Box(-1, 1, (2,))

    def reset(self, seed=None, options=None):
        self.agents, self.left, self.taken = list(self.possible_agents), seed, []
        return self._obs(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.left -= 1
        self.taken.append(set(actions))
        acting, self.agents = self.agents, ["long"] if self.left else []
        obs = {agent: value for agent, value in self._obs().items() if agent in acting}
        leaves = {agent: agent not in self.agents for agent in acting}
        return obs, dict.fromkeys(acting, 4.0), leaves, dict.fromkeys(acting, False), {agent: {} for agent in acting}

    def _obs(self):
        return {"short": np.array([self.left]), "long": np.array([self.left, 1.0])}


def test_optional_parts_are_filled_in():
    env = ParallelVectorEnv(Relay, 2)
    assert (env.name, env.n_agents, env.obs_dim, env.state_dim, env.action_dim) == ("relay", 2, 2, 4, 2)
    assert not env.discrete
    assert not env.can_be_won
    shown = env.reset([3, 2])
    assert shown.obs.tolist() == [[[3, 0], [3, 1]], [[2, 0], [2, 1]]]  # padded with zeros
    assert shown.state.tolist() == [[3, 0, 3, 1], [2, 0, 2, 1]]  # observations in a row
    assert shown.legal_actions.all()


def test_agents_that_leave_early_do_not_end_the_episode():
    env = ParallelVectorEnv(Relay, 2)
    env.reset([3, 2])
    actions = np.zeros((2, 2, 2), np.float32)
    first = env.step(actions)
    assert not first.finished.any()  # although "short" has left
    assert first.agent_rewards.tolist() == [[4, 4], [4, 4]]
    second = env.step(actions)
    assert second.terminals.tolist() == [False, True]
    assert second.agent_rewards.tolist() == [[0, 4], [0, 4]]
    assert second.rewards.tolist() == [2, 2]
    assert second.obs[0].tolist() == [[0, 0], [1, 1]]  # "short" shows zeros
    third = env.step(actions)
    assert third.terminals.tolist() == [True, True]
    assert third.rewards.tolist() == [2, 0]  # the second copy had finished before
    assert env._envs[1].taken == [{"short", "long"}, {"long"}]


class Odd(MatrixGame):
    """XOR with the action spaces of a test."""

    def __init__(self, *action_spaces):
        super().__init__()
        self._odd = dict(zip(self.possible_agents, action_spaces, strict=True))

    def action_space(self, agent):
        return self._odd[agent]


@pytest.mark.parametrize(
    ("action_spaces", "message"),
    [
        ((spaces.Discrete(2), spaces.Discrete(3)), "'matrix/xor' has agents with different action spaces"),
        ((spaces.MultiBinary(2),) * 2, r"'matrix/xor' has actions in MultiBinary\(2\); expected Discrete"),
        ((spaces.Box(0, 1, (2,)),) * 2, "expected Discrete.*or a box from -1 to 1"),
        ((spaces.Discrete(2, start=1),) * 2, "expected Discrete"),
    ],
)
def test_action_spaces_that_do_not_stack(action_spaces, message):
    with pytest.raises(ValueError, match=message):
        ParallelVectorEnv(lambda: Odd(*action_spaces), 2)


def test_name_for_messages():
    assert ParallelVectorEnv(MatrixGame, 1).name == "matrix/xor"
    assert ParallelVectorEnv(MatrixGame, 1, name="mine").name == "mine"
