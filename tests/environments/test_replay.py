"""A recorded dataset replayed: the same starts and actions give the recorded observations and rewards."""

import numpy as np
import pytest

from environments.behaviours import Uniform, recipe
from environments.recording import Player, _behaviour_of_episodes, record, record_team
from environments.registry import make_env, make_vector_env
from tests.environments.test_recording import EPISODES, read

SEED = 3
SCENARIOS = ("smax/3m", "mpe/simple_spread", "matrix/xor", "mamujoco/2halfcheetah")


def number_of_episodes(scenario):
    return 2 if scenario.startswith("mamujoco") else EPISODES  # of a thousand steps each


@pytest.fixture(scope="module", params=SCENARIOS)
def recorded(request, tmp_path_factory):
    """Scenario, leaves of the vault, and the start and the rows of each episode."""
    scenario, root = request.param, tmp_path_factory.mktemp("vaults")
    if scenario.startswith("mamujoco"):
        pytest.importorskip("gymnasium_robotics")
    episodes = number_of_episodes(scenario)
    if scenario == "mamujoco/2halfcheetah":
        player, shares = Player("uniform", lambda env: Uniform(env.discrete), {}), {"uniform": 1.0}
        directory = record_team(f"my/{scenario}", "Random", root, scenario, player, episodes, SEED, progress=False)
    else:
        shares = recipe(scenario, "Mixed").shares
        directory = record(f"embedded/{scenario}", "Mixed", root, SEED, progress=False, episodes=episodes)
    index, leaves = read(directory)
    leaves = {name: leaf[0, :index] for name, leaf in leaves.items()}
    ends = np.flatnonzero(leaves["terminals"][:, 0] + leaves["truncations"][:, 0]) + 1
    rows = [np.arange(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    assert len(rows) == episodes and ends[-1] == index
    return scenario, leaves, start_seeds(shares, episodes), rows


def start_seeds(shares, episodes):
    """What the recording's seed says about the starts; the draws of who plays come first."""
    generator = np.random.default_rng(SEED)
    _behaviour_of_episodes(shares, episodes, generator)
    return generator.integers(2**32, size=episodes)


def test_many_copies_repeat_the_recording_exactly(recorded):
    scenario, leaves, seeds, rows = recorded
    env = make_vector_env(scenario, len(rows))
    backwards = range(len(rows) - 1, -1, -1)  # an episode does not depend on the copy that it is played in
    shown = env.reset([int(seeds[episode]) for episode in backwards])
    for time in range(max(map(len, rows))):
        actions = np.zeros((env.n_envs, *leaves["actions"].shape[1:]), leaves["actions"].dtype)
        running = [(copy, rows[episode][time]) for copy, episode in enumerate(backwards) if time < len(rows[episode])]
        for copy, row in running:
            assert np.array_equal(shown.obs[copy], leaves["observations"][row])
            assert np.array_equal(shown.state[copy], leaves["infos.state"][row])
            if env.discrete:
                assert np.array_equal(shown.legal_actions[copy], leaves["infos.legals"][row])
            actions[copy] = leaves["actions"][row]
        shown = env.step(actions)
        for copy, row in running:
            assert np.array_equal(shown.agent_rewards[copy], leaves["rewards"][row])
            assert shown.terminals[copy] == leaves["terminals"][row, 0]
            assert shown.truncations[copy] == leaves["truncations"][row, 0]
    assert shown.finished.all()
    env.close()


def test_the_simulator_itself_repeats_the_first_episode(recorded):
    """One copy is the simulator, many copies of MPE and of SMAX are its arithmetic on arrays, with other rounding."""
    scenario, leaves, seeds, rows = recorded
    env = make_env(scenario)
    obs, infos = env.reset(seed=int(seeds[0]))
    for row in rows[0]:
        np.testing.assert_allclose(np.stack(list(obs.values())), leaves["observations"][row], atol=1e-5)
        if "infos.legals" in leaves:
            legal = np.stack([info["action_mask"] for info in infos.values()])
            assert np.array_equal(legal, leaves["infos.legals"][row])
        obs, rewards, _, _, infos = env.step(dict(zip(env.agents, leaves["actions"][row], strict=True)))
        np.testing.assert_allclose(list(rewards.values()), leaves["rewards"][row], atol=1e-5)
    assert not env.agents
    env.close()


def test_another_start_is_another_episode(recorded):
    scenario, leaves, seeds, _ = recorded
    if scenario == "matrix/xor":
        pytest.skip("all starts of the matrix game are the same")
    env = make_env(scenario)
    obs, _ = env.reset(seed=int(seeds[0]) ^ 1)
    assert not np.allclose(np.stack(list(obs.values())), leaves["observations"][0], atol=1e-5)
    env.close()
