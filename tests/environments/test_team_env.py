import numpy as np
import pytest

from environments.team_env import Moment, TeamEnv


class Countdown(TeamEnv):
    """Two agents; the seed is the first observation; two steps, cut off by the limit if the seed is odd."""

    def __init__(self, discrete=True):
        super().__init__("test/countdown", ["a", "b"], 1, 2, 3, discrete, can_be_won=discrete)

    def _start(self, seed):
        self.seed, self.left, self.taken = seed, 2, []
        return self._moment()

    def _advance(self, actions):
        self.left -= 1
        self.taken.append(actions)
        return self._moment()

    def _moment(self):
        over = self.left == 0
        return Moment(
            obs=np.full((2, 1), self.seed, np.float32),
            state=np.array([self.seed, self.left], np.float32),
            legal_actions=np.array([[True, False, True], [True, True, True]]),
            rewards=np.array([1.0, 2.0], np.float32),
            terminal=over and self.seed % 2 == 0,
            truncated=over and self.seed % 2 == 1,
            won=over,
        )


def test_everything_is_given_by_agent_in_order():
    env = Countdown()
    obs, infos = env.reset(seed=4)
    assert {agent: value.tolist() for agent, value in obs.items()} == {"a": [4.0], "b": [4.0]}
    assert infos["a"]["action_mask"].tolist() == [1, 0, 1]
    assert infos["a"]["action_mask"].dtype == np.int8
    _, rewards, terminations, truncations, infos = env.step({"b": 1, "a": 2})
    assert env.taken[0].tolist() == [2, 1]  # in the order of the agents, not of the dictionary
    assert rewards == {"a": 1.0, "b": 2.0}
    assert terminations == truncations == {"a": False, "b": False}
    assert env.state().tolist() == [4.0, 1.0]


@pytest.mark.parametrize(("seed", "terminal"), [(4, True), (5, False)])
def test_end_is_terminal_or_truncated(seed, terminal):
    env = Countdown()
    env.reset(seed=seed)
    env.step({"a": 0, "b": 0})
    *_, terminations, truncations, infos = env.step({"a": 0, "b": 0})
    assert terminations == {"a": terminal, "b": terminal}
    assert truncations == {"a": not terminal, "b": not terminal}
    assert infos["b"]["won"] is True
    assert env.agents == []


def test_continuous_actions_have_no_mask_and_may_have_no_winner():
    env = Countdown(discrete=False)
    _, infos = env.reset(seed=0)
    assert infos == {"a": {}, "b": {}}
    assert env.action_space("a").shape == (3,)


def test_unseeded_episodes_continue_the_seeded_sequence():
    env, again = Countdown(), Countdown()
    for one in (env, again):
        one.reset(seed=7)
    first, second = ([float(one.reset()[0]["a"][0]) for _ in range(3)] for one in (env, again))
    assert first == second
    assert len(set(first)) == 3


def test_state_is_the_callers_own():
    env = Countdown()
    env.reset(seed=3)
    env.state()[:] = 0.0
    assert env.state().tolist() == [3.0, 2.0]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(seed):
    with pytest.raises(ValueError, match=r"expected a seed in \[0, 2\*\*32\) for 'test/countdown'"):
        Countdown().reset(seed=seed)


class Drawn(Countdown):
    """Draws its caption only."""

    def __init__(self):
        TeamEnv.__init__(self, "test/countdown", ["a", "b"], 1, 2, 3, True, True, frames_per_second=3)

    def _draw(self, caption):
        return caption


def test_the_caption_says_step_team_return_and_end():
    env = Drawn()
    assert env.metadata["render_modes"] == ["rgb_array"] and env.metadata["render_fps"] == 3
    assert env.render_mode == "rgb_array"
    captions = []
    for _ in range(2):
        env.reset(seed=4)
        captions.append(env.render())
    env.step({"a": 0, "b": 0})
    captions.append(env.render())
    env.step({"a": 0, "b": 0})
    captions.append(env.render())
    start = "test/countdown   step 0   return 0.00"
    second = "test/countdown   step 1   return 1.50"  # the mean of 1 and 2
    assert captions == [start, start, second, "test/countdown   step 2   return 3.00   won"]


def test_environments_without_a_drawing_say_so():
    env = Countdown()
    assert env.metadata["render_modes"] == [] and env.render_mode is None
    env.reset(seed=0)
    with pytest.raises(NotImplementedError, match=r"'test/countdown' cannot be drawn: expected .* those of smax, mpe"):
        env.render()
    with pytest.raises(
        RuntimeError, match=r"nothing to show before its first episode: expected reset\(\) before render"
    ):
        Drawn().render()


def test_wrong_order_of_calls():
    env = Countdown()
    with pytest.raises(RuntimeError, match=r"expected reset\(\) before state\(\)"):
        env.state()
    with pytest.raises(RuntimeError, match=r"no running episode: expected reset\(\) before step\(\)"):
        env.step({"a": 0, "b": 0})


def test_wrong_actions():
    env = Countdown()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expects an action of every agent, got none for b"):
        env.step({"a": 0})
    with pytest.raises(ValueError, match=r"expects actions in Discrete\(3\), got 3 for b"):
        env.step({"a": 0, "b": 3})
    with pytest.raises(ValueError, match=r"expects actions in Discrete\(3\), got 0.5 for a"):
        env.step({"a": 0.5, "b": 0})
