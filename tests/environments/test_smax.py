import importlib
import sys

import numpy as np
import pytest

from environments import smax
from environments.smax import MAPS, STOP_ACTION, Smax, SmaxVector, simulator

COPIES = 4  # as in the other tests, so that 3m is compiled once for all of them


def with_battlefield(env, **changes):
    """Put something into JaxMARL's own state of a battle that has begun."""
    from jax import numpy as jnp

    simulation = env._battle.simulation
    field = simulation.state.replace(
        **{name: jnp.asarray(value, getattr(simulation.state, name).dtype) for name, value in changes.items()}
    )
    env._battle = env._battle._replace(simulation=simulation.replace(state=field))


def stop(env):
    return env.step(dict.fromkeys(env.agents, STOP_ACTION))


def test_all_maps_of_jaxmarl_are_there():
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

    assert set(MAPS) == set(MAP_NAME_TO_SCENARIO)


@pytest.mark.parametrize("map_name", MAPS)
def test_every_map_can_be_played(map_name):
    """Traced, not compiled: what a battle shows has the stated sizes and the same types after every step."""
    import jax

    compiled = simulator(map_name)
    n, o, s, a = len(compiled.agents), compiled.obs_dim, compiled.state_dim, compiled.action_dim
    start = jax.eval_shape(compiled.start, np.uint32(0))
    after = jax.eval_shape(compiled.advance, start, jax.ShapeDtypeStruct((n,), np.int32))
    assert jax.tree.all(jax.tree.map(lambda one, two: (one.shape, one.dtype) == (two.shape, two.dtype), start, after))
    assert (start.obs.shape, start.state.shape, start.legal_actions.shape) == ((n, o), (s,), (n, a))
    assert not start.obs.weak_type


@pytest.mark.slow
def test_smacv2_draws_units_and_places_by_the_seed():
    env = SmaxVector("smacv2_5_units", COPIES)
    shown, again = env.reset([1, 2, 3, 4]), env.reset([4, 3, 2, 1])
    assert np.array_equal(shown.obs, again.obs[::-1])
    units = shown.state[:, :60].reshape(COPIES, 5, 12)[:, :, -6:]  # a unit's last six numbers tell its type
    assert len({one.tobytes() for one in units}) > 1
    generator = np.random.default_rng(0)
    while not shown.finished.all():
        actions = (generator.random(shown.legal_actions.shape) * shown.legal_actions).argmax(axis=-1)
        shown = env.step(actions)
    assert (shown.terminals | shown.truncations).all()


def test_sizes_of_3m():
    env = SmaxVector("3m", COPIES)
    # 5 others x 13 features and 10 own; 6 units x 12; 4 moves, stop, 3 enemies
    assert (env.n_agents, env.obs_dim, env.state_dim, env.action_dim) == (3, 75, 72, 8)
    assert env.discrete
    assert env.can_be_won


@pytest.mark.parametrize(
    ("health", "won", "reward"),
    [
        ([45, 45, 45, 0, 0, 0], True, 1.0),  # the enemy is dead: battle bonus
        ([0, 0, 0, 45, 45, 45], False, 0.0),
        ([0, 0, 0, 0, 0, 0], False, 0.0),  # nobody is left: a draw is not won
        ([0, 0, 45, 0, 0, 0], True, 1.0),  # one of ours is enough
    ],
)
def test_decided_battles_are_terminal(health, won, reward):
    env = Smax("3m")
    env.reset(seed=0)
    with_battlefield(env, unit_health=health)
    _, rewards, terminations, truncations, infos = stop(env)
    assert set(terminations.values()) == {True}
    assert set(truncations.values()) == {False}
    assert {info["won"] for info in infos.values()} == {won}
    assert set(rewards.values()) == {reward}


def test_reward_is_the_enemies_relative_loss_of_health():
    env = Smax("3m")
    env.reset(seed=0)
    ours, theirs = [[10.0, 10.0], [10.0, 12.0], [10.0, 14.0]], [[13.0, 10.0], [25.0, 25.0], [25.0, 28.0]]
    with_battlefield(env, unit_positions=ours + theirs)
    _, rewards, *_ = env.step({"ally_0": 5, "ally_1": STOP_ACTION, "ally_2": STOP_ACTION})
    assert rewards["ally_0"] == rewards["ally_2"] == pytest.approx(9 / 45 / 3)  # one hit of 9, 45 health, 3 enemies


def test_undecided_battles_are_truncated_at_the_limit():
    env = Smax("3m")
    env.reset(seed=0)
    with_battlefield(env, step=99)
    for expected in (False, True):
        _, _, terminations, truncations, infos = stop(env)
        assert set(truncations.values()) == {expected}
        assert set(terminations.values()) == {False}
    assert not infos["ally_0"]["won"]
    assert int(env._battle.simulation.state.step) == 101


def test_decision_at_the_limit_is_terminal():
    env = Smax("3m")
    env.reset(seed=0)
    with_battlefield(env, step=100, unit_health=[45, 0, 0, 0, 0, 0])
    *_, terminations, truncations, infos = stop(env)
    assert terminations["ally_0"]
    assert not truncations["ally_0"]
    assert infos["ally_0"]["won"]


def test_fallen_units_stay_and_can_only_stop():
    env = Smax("3m")
    env.reset(seed=0)
    with_battlefield(env, unit_health=[0, 45, 45, 45, 45, 45])
    obs, _, terminations, _, infos = stop(env)
    assert env.agents == ["ally_0", "ally_1", "ally_2"]
    assert not terminations["ally_0"]
    assert np.flatnonzero(infos["ally_0"]["action_mask"]).tolist() == [STOP_ACTION]
    assert infos["ally_1"]["action_mask"][: STOP_ACTION + 1].all()
    assert not obs["ally_0"].any()


def test_attacks_are_legal_exactly_within_range():
    env = Smax("3m")
    env.reset(seed=0)
    ours, theirs = [[10.0, 10.0], [2.0, 16.0], [2.0, 20.0]], [[14.5, 10.0], [15.5, 10.0], [30.0, 10.0]]
    with_battlefield(env, unit_positions=ours + theirs, unit_health=[45, 45, 45, 45, 45, 45])
    from jax import numpy as jnp

    mask = simulator("3m").game.get_avail_actions(env._battle.simulation)["ally_0"]
    assert jnp.flatnonzero(mask[STOP_ACTION + 1 :]).tolist() == [0]  # marines reach 5 far


def test_shots_are_those_that_hurt():
    """A marine takes 9 of 45 per shot, and cannot fire twice in a step: health lost is 9 per shot that is drawn."""
    env = Smax("3m")
    _, infos = env.reset(seed=3)
    assert env._shots() == []
    fired = np.zeros(2, int)
    while env.agents:
        before = np.array(env._battle.simulation.state.unit_health)
        legal = {agent: np.flatnonzero(infos[agent]["action_mask"]) for agent in env.agents}
        actions = {  # attack where one can, else go right, towards the enemy
            agent: int(able[-1]) if (able > STOP_ACTION).any() else 1 if 1 in able else STOP_ACTION
            for agent, able in legal.items()
        }
        _, _, _, _, infos = env.step(actions)
        shots = env._shots()
        hits = np.bincount([target for _, target in shots], minlength=6)
        after = np.array(env._battle.simulation.state.unit_health)
        assert np.allclose(after, np.maximum(before - 9.0 * hits, 0.0), atol=1e-3)
        assert all((shooter < 3) != (target < 3) for shooter, target in shots)
        fired += [sum(shooter < 3 for shooter, _ in shots), sum(shooter >= 3 for shooter, _ in shots)]
    assert (fired >= 5).all(), "both sides fought"
    assert env.render().shape == (432, 640, 3)


def test_units_are_drawn_with_type_team_and_health(monkeypatch):
    env = Smax("3m")
    env.reset(seed=0)
    with_battlefield(env, unit_health=[45, 9, 0, 45, 45, 45], unit_alive=[True, True, False, True, True, True])
    drawn = {}
    monkeypatch.setattr(smax, "draw_battle", lambda **numbers: drawn.update(numbers))
    env.render()
    assert drawn["health"].tolist() == pytest.approx([1.0, 0.2, 0.0, 1.0, 1.0, 1.0])
    assert drawn["letters"] == ["m"] * 6 and drawn["n_allies"] == 3 and drawn["shots"] == []
    assert (drawn["position"][:3, 0] < 11).all() and (drawn["position"][3:, 0] > 21).all(), "ours at the left"
    assert drawn["radius"].tolist() == [0.375] * 6


def test_nothing_is_compiled_twice():
    import jax

    def kinds(battle):
        return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(battle)]

    compiled = simulator("3m")
    started = jax.eval_shape(compiled.start, np.uint32(0))
    advanced = jax.eval_shape(compiled.advance, started, np.zeros(3, np.int32))
    assert kinds(started) == kinds(advanced)  # else the second step would be compiled anew

    def sizes():
        functions = (compiled.start, compiled.advance, compiled.start_many, compiled.advance_many)
        return [function._cache_size() for function in functions]

    def play():
        env, copies = Smax("3m"), SmaxVector("3m", COPIES)
        env.reset(seed=0)
        copies.reset(range(COPIES))
        for _ in range(3):
            stop(env)
            copies.step(np.full((COPIES, 3), STOP_ACTION))

    play()
    before = sizes()
    play()  # with new instances
    assert sizes() == before
    assert simulator("3m") is compiled


def test_copies_do_not_influence_each_other():
    env = SmaxVector("3m", COPIES)
    actions = np.random.default_rng(0).integers(0, STOP_ACTION, (10, 3))
    alone = env.reset([7] * COPIES), *(env.step(np.tile(action, (COPIES, 1))) for action in actions)
    mixed = env.reset([1, 7, 2, 3]), *(env.step(np.tile(action, (COPIES, 1))) for action in actions)
    for one, other in zip(alone, mixed, strict=True):
        assert np.array_equal(one.obs[0], other.obs[1])
        assert np.array_equal(one.state[3], other.state[1])


def test_importing_jaxmarl_leaves_the_streams_alone(capsys):
    streams = sys.stdout, sys.stderr, sys.__stdout__
    with smax._streams_kept():
        print("greeting")
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # what JaxMARL's import does
        print("greeting")
    assert (sys.stdout, sys.stderr, sys.__stdout__) == streams
    assert "greeting" not in capsys.readouterr().out


def test_jax_stays_on_the_cpu_unless_told_otherwise(monkeypatch):
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    smax.keep_jax_on_cpu()
    assert smax.os.environ["JAX_PLATFORMS"] == "cpu"
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    smax.keep_jax_on_cpu()
    assert smax.os.environ["JAX_PLATFORMS"] == "cuda"


def test_missing_jaxmarl(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"SMAX needs JaxMARL .* pip install '.\[smax\]'"):
        simulator.__wrapped__("25m")  # past the ones that were loaded before


def test_unknown_map():
    with pytest.raises(ValueError, match="unknown SMAX map '3n'; choose one of: 3m, 2s3z"):
        SmaxVector("3n", 2)
