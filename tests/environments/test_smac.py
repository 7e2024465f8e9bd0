"""The adapters of SMAC, against stand-ins with the interface of the packages and rules that fit on a page."""

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from environments import smac
from environments.registry import SCENARIOS, make_env
from environments.smac import V1_MAPS, V2_SCENARIOS, SmacV1, SmacV2

LIMIT = 6


class Distribution:
    """Draws as SMACv2's distributions do: from a generator of its own."""

    def __init__(self):
        self.rng = np.random.default_rng()

    def generate(self):
        return self.rng.integers(100)


class Nested(Distribution):
    """As SMACv2's "surrounded_and_reflect": made of others."""

    def __init__(self):
        super().__init__()
        self.inner = Distribution()

    def generate(self):
        return super().generate() + 1000 * self.inner.generate()


class Game:
    """Three units against one with three lives: action 6 takes one; a unit falls at its second move up.

    As SMAC: the end at the limit is marked only if asked for, and a broken connection is an end with nothing to say.
    """

    made = []  # noqa: RUF012 - what the tests look at

    def __init__(self, seed=None, continuing_episode=False, **settings):
        self.seed_given, self.continuing, self.settings = seed, continuing_episode, settings
        self.launched = self.closed = False
        Game.made.append(self)

    def get_env_info(self):
        return {"state_shape": 4, "obs_shape": 5, "n_actions": 7, "n_agents": 3, "episode_limit": LIMIT}

    def reset(self):
        if not self.launched:
            self.launched, self.random = True, np.random.default_rng(self.seed_given)
        self.steps, self.lives, self.ups = 0, 3, np.zeros(3, int)
        self.place = self.random.random(3) + getattr(self, "drawn", 0)
        return self.get_obs(), self.get_state()

    def get_obs(self):
        assert self.launched
        return [np.array([self.place[i], self.ups[i], self.lives, self.steps, i]) for i in range(3)]

    def get_state(self):
        return np.array([*self.place, self.lives])

    def get_avail_actions(self):
        fallen, standing = [1, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 1, 1]
        return [fallen if ups >= 2 else standing for ups in self.ups]

    def step(self, actions):
        assert all(legal[action] for legal, action in zip(self.get_avail_actions(), actions, strict=True))
        if self.settings.get("map_name") == "corridor":
            return 0, True, {}
        self.steps += 1
        self.place += self.random.random(3)
        self.ups += [action == 2 for action in actions]
        hits = sum(action == 6 for action in actions)
        self.lives -= hits
        won, over = self.lives <= 0, self.lives <= 0 or (self.ups >= 2).all()
        info = {"battle_won": won, "dead_allies": int((self.ups >= 2).sum())}
        if not over and self.steps >= LIMIT:
            over = True
            if self.continuing:
                info["episode_limit"] = True
        return hits + 10.0 * won, over, info

    def close(self):
        self.closed = True


class Wrapper(Game):
    """As SMACv2's wrapper: draws teams and places before each battle."""

    def __init__(self, capability_config, **settings):
        super().__init__(**settings, capability_config=capability_config)
        self.env_key_to_distribution_map = {"team_gen": Distribution(), "start_positions": Nested()}

    def reset(self):
        self.drawn = sum(part.generate() for part in self.env_key_to_distribution_map.values())
        return super().reset()


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    Game.made = []
    for package, member in (("smac", "StarCraft2Env"), ("smacv2", "StarCraftCapabilityEnvWrapper")):
        module = ModuleType(f"{package}.env")
        setattr(module, member, Game if package == "smac" else Wrapper)
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, f"{package}.env", module)


def act(env, *actions):
    return env.step(dict(zip(env.agents, actions, strict=True)))


@pytest.mark.parametrize("make", [SmacV1, SmacV2])
def test_pettingzoo_accepts_it(make):
    parallel_api_test(make(), num_cycles=40)


@pytest.mark.parametrize("name", V1_MAPS)
def test_all_maps_are_in_the_registry(name):
    env = make_env(f"smac_v1/{name}")
    assert Game.made[-1].settings == {"map_name": name}
    sizes = env.observation_space("agent_0").shape, env.state_space.shape, env.action_space("agent_2").n
    assert sizes == ((5,), (4,), 7)


def test_v2_gets_the_settings_of_og_marl():
    assert {f"smac_v2/{name}" for name in V2_SCENARIOS} <= set(SCENARIOS)
    make_env("smac_v2/zerg_5_vs_5")
    settings = Game.made[-1].settings
    assert settings["map_name"] == "10gen_zerg"
    assert (settings["obs_own_pos"], settings["conic_fov"], settings["min_attack_range"]) == (True, False, 2)
    config = settings["capability_config"]
    assert (config["n_units"], config["n_enemies"], config["start_positions"]["n_enemies"]) == (5, 5, 5)
    assert config["team_gen"]["unit_types"] == ["zergling", "baneling", "hydralisk"]
    make_env("smac_v2/terran_10_vs_10")
    assert Game.made[-1].settings["capability_config"]["n_units"] == 10


def test_everything_is_passed_on():
    env = SmacV1("3m")
    obs, infos = env.reset(seed=1)
    game = Game.made[-1]
    assert obs["agent_1"].tolist() == pytest.approx([game.place[1], 0, 3, 0, 1])
    assert env.state().tolist() == pytest.approx([*game.place, 3])
    assert infos["agent_0"]["action_mask"].tolist() == [0, 1, 1, 1, 0, 1, 1]
    _, rewards, terminations, _, infos = act(env, 6, 2, 1)
    assert set(rewards.values()) == {1.0}
    assert not any(terminations.values())
    act(env, 1, 2, 1)
    assert env.agents == ["agent_0", "agent_1", "agent_2"]  # the fallen unit stays


def test_won_battles_are_terminal():
    env = SmacV1("3m")
    env.reset(seed=0)
    _, rewards, terminations, truncations, infos = act(env, 6, 6, 6)
    assert set(rewards.values()) == {13.0}
    assert set(terminations.values()) == {True}
    assert set(truncations.values()) == {False}
    assert infos["agent_0"]["won"]


def test_lost_battles_are_terminal():
    env = SmacV1("3m")
    env.reset(seed=0)
    act(env, 2, 2, 2)
    *_, terminations, truncations, infos = act(env, 2, 2, 2)
    assert set(terminations.values()) == {True}
    assert set(truncations.values()) == {False}
    assert not infos["agent_0"]["won"]


def test_undecided_battles_are_truncated():
    env = SmacV1("3m")
    env.reset(seed=0)
    for _ in range(LIMIT):
        *_, terminations, truncations, infos = act(env, 1, 1, 1)
    assert set(terminations.values()) == {False}
    assert set(truncations.values()) == {True}
    assert not infos["agent_0"]["won"]


def test_illegal_actions_stop_the_unit():
    env = SmacV1("3m")
    env.reset(seed=0)
    act(env, 0, 4, 2)  # the stand-in asserts that only legal actions arrive
    act(env, 1, 1, 2)
    act(env, 1, 1, 6)  # fallen
    assert Game.made[-1].lives == 3


def test_a_broken_connection_is_an_error():
    env = SmacV1("corridor")
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="'smac_v1/corridor' lost its battle: the connection to StarCraft II broke"):
        act(env, 1, 1, 1)


def test_the_first_seed_launches_the_game():
    env = SmacV1("3m")
    assert not any(game.launched for game in Game.made)
    env.reset(seed=2**31 + 5)
    env.reset(seed=6)
    assert [game.seed_given for game in Game.made if game.launched] == [5]  # the game takes 31 bits
    again = SmacV1("3m")
    again.reset(seed=2**31 + 5)
    assert np.array_equal(again.reset(seed=77)[0]["agent_0"], env.reset(seed=8)[0]["agent_0"]) is False
    assert Game.made[0].closed


@pytest.mark.parametrize("make", [SmacV1, SmacV2])
def test_fresh_games_follow_every_seed(make):
    def play(env, seed):
        obs, _ = env.reset(seed=seed)
        after, *_ = act(env, 1, 1, 2)
        return np.stack([obs["agent_0"], after["agent_0"]])

    env = make(fresh_games=True)
    first, other, again = play(env, 1), play(env, 2), play(env, 1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sum(game.launched for game in Game.made) == 3


def test_teams_and_places_of_v2_follow_every_seed():
    env = SmacV2()
    drawn = []
    for seed in (1, 2, 1):
        env.reset(seed=seed)
        drawn.append(Game.made[-1].drawn)
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize(("make", "package"), [(SmacV1, "smac"), (SmacV2, "smacv2")])
def test_missing_package_says_how_to_install(make, package, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    message = rf"SMAC needs the package {package} .*pip install git\+https://github.com/oxwhirl/{package}.git.*SC2PATH"
    with pytest.raises(ImportError, match=message):
        make()


def test_unknown():
    with pytest.raises(ValueError, match="unknown map of SMAC '4m'; choose one of: 3m, 8m"):
        SmacV1("4m")
    with pytest.raises(ValueError, match="unknown scenario of SMACv2 'protoss'; choose one of: terran_5_vs_5"):
        SmacV2("protoss")
    assert set(smac.INSTALLATION) == {"smac", "smacv2"}
