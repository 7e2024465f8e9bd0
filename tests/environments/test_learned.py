import json
import re

import numpy as np
import pytest

from environments import learned
from environments.behaviours import _RECIPES, LEARNED, make_behaviour
from environments.learned import (
    STAGES,
    WEIGHTS,
    LearnedTeam,
    TeamNetwork,
    digest,
    read_team,
    shipped_stages,
    weights_file,
    write_team,
)
from environments.registry import split_scenario
from environments.vector import VectorStep

LARGEST = 2**20  # bytes


def network(discrete=True, activation="relu", **changed):
    """Two agents, one number seen, hidden width 2, two actions."""
    tensors = {
        "obs_mean": [1.0],
        "obs_scale": [2.0],
        "layers.0.weight": [[1.0, 1.0, 0.0], [-1.0, 0.0, 3.0]],  # what is seen, number 0, number 1
        "layers.0.bias": [0.0, 0.5],
        "layers.1.weight": [[1.0, 0.0], [0.0, 2.0]],
        "layers.1.bias": [0.0, 1.0],
        **({} if discrete else {"log_std": [0.0, -20.0]}),
        **changed,
    }
    arrays = {name: np.array(values, np.float32) for name, values in tensors.items()}
    return TeamNetwork("matrix/xor", activation, 2, 1, 2, discrete, arrays)


def shown(obs, legal=None):
    obs = np.asarray(obs, np.float32)[..., None]
    legal = np.ones((*obs.shape[:2], 2), bool) if legal is None else np.broadcast_to(legal, (*obs.shape[:2], 2))
    blank = np.zeros(len(obs), np.float32)
    flags = np.zeros(len(obs), bool)
    return VectorStep(obs, blank[:, None], legal, blank, flags, flags, flags, obs[..., 0])


def test_outputs_by_hand():
    # Seen 5 is (5 - 1) / 2 = 2: agent 0 has relu(2 + 1, -2 + .5) = (3, 0), agent 1 relu(2, -2 + 3 + .5) = (2, 1.5).
    said = network()(np.full((1, 2, 1), 5.0, np.float32))
    np.testing.assert_allclose(said, [[[3.0, 1.0], [2.0, 4.0]]])
    said = network(activation="tanh")(np.full((1, 2, 1), 5.0, np.float32))
    np.testing.assert_allclose(said[0, 0], [np.tanh(3.0), 2 * np.tanh(-1.5) + 1], rtol=1e-6)
    far = network()(np.array([[[1e6], [21.0]]], np.float32))  # both are 10 standard deviations away, or count as such
    np.testing.assert_allclose(far[0], [[11.0, 1.0], [10.0, 1.0]])


def test_choices_are_drawn_from_the_softmax():
    team = LearnedTeam(network(**{"layers.1.bias": [0.0, -3.0]}))  # agent 1 says (2, 0), agent 0 (3, -3)
    drawn = team.act(shown(np.full((100_000, 2), 5.0)), np.random.default_rng(0))
    assert drawn.shape == (100_000, 2)
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / (1 + np.exp([6.0, 2.0])), atol=0.004)  # 4 standard errors


def test_the_mode_is_the_likeliest_legal_choice():
    team = LearnedTeam(network(), mode=True)
    generator = np.random.default_rng(0)
    assert team.act(shown([[5.0, 5.0]]), generator).tolist() == [[0, 1]]
    assert team.act(shown([[5.0, 5.0]], [False, True]), generator).tolist() == [[1, 1]]
    assert generator.random() == np.random.default_rng(0).random(), "nothing is drawn"


def test_illegal_actions_are_never_drawn():
    drawn = LearnedTeam(network()).act(shown(np.full((5000, 2), 5.0), [False, True]), np.random.default_rng(0))
    assert (drawn == 1).all()


def test_vectors_are_drawn_from_the_gaussian_and_clipped():
    weak = network(discrete=False, **{"layers.1.weight": [[0.1, 0.0], [0.0, 0.2]], "layers.1.bias": [0.0, 0.0]})
    drawn = LearnedTeam(weak).act(shown(np.full((50_000, 2), 5.0)), np.random.default_rng(0))
    assert drawn.dtype == np.float32 and drawn.shape == (50_000, 2, 2)
    # Mean .3 and standard deviation 1 in the first entry, which is at least 1 with probability 1 - Phi(.7) = .242
    assert (drawn[:, 0, 0] == 1.0).mean() == pytest.approx(0.242, abs=0.008)
    assert np.median(drawn[:, 0, 0]) == pytest.approx(0.3, abs=0.03)
    np.testing.assert_allclose(drawn[:, 1, 1], 0.3, atol=1e-6)  # hardly any deviation
    modal = LearnedTeam(weak, mode=True).act(shown([[5.0, 5.0]]), np.random.default_rng(0))
    np.testing.assert_allclose(modal, [[[0.3, 0.0], [0.2, 0.3]]], atol=1e-6)


def test_a_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "deep" / "team.safetensors"
    facts = {"seed": 3, "evaluation": {"won": None, "return_mean": 0.5}, "command": "python -m online.ppo 'a b'"}
    write_team(path, network(discrete=False), facts)
    again, said = read_team(path)
    assert said == facts
    assert (again.scenario, again.activation, again.n_agents, again.obs_dim, again.action_dim, again.discrete) == (
        *("matrix/xor", "relu"),
        *(2, 1, 2, False),
    )
    assert all(np.array_equal(again.tensors[name], tensor) for name, tensor in network(discrete=False).tensors.items())
    assert [file.name for file in path.parent.iterdir()] == ["team.safetensors"], "nothing else is left"


def test_digests_tell_weights_apart_and_nothing_else(tmp_path):
    teams = {"one": network(), "other": network(**{"obs_mean": [1.5]}), "third": network(activation="tanh")}
    for name, team in teams.items():
        write_team(tmp_path / name, team, {})
    write_team(tmp_path / "said", network(), {"command": "python -m online.ppo", "seed": 1})
    assert digest(tmp_path / "one") == digest(tmp_path / "said")
    assert len({digest(tmp_path / name) for name in teams}) == 3


def test_files_that_are_none(tmp_path):
    path = tmp_path / "team.safetensors"
    with pytest.raises(
        FileNotFoundError, match=r"expected weights of a team in '.*', found none; python -m online.ppo"
    ):
        read_team(path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(
        ValueError, match=r"expected weights of a team in '.*', the file is none or damaged \(Safetenso"
    ):
        read_team(path)
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"the file is none or damaged \(KeyError: 'scenario'\); python -m online.ppo"):
        read_team(path)
    plain = {"scenario": "matrix/xor", "activation": "sine", "n_agents": 2, "obs_dim": 1, "action_dim": 2}
    save_file(network().tensors, path, {k: json.dumps(v) for k, v in (plain | {"discrete": True}).items()})
    with pytest.raises(ValueError, match="the file is none or damaged"):
        read_team(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers.1.bias": [0.0]}, r"layers.1.bias to be \(\(2,\), 'float32'\) in 'here', got \(\(1,\), 'float32'\)"),
        ({"obs_mean": [0.0, 0.0]}, r"obs_mean to be \(\(1,\), 'float32'\) in 'here', got \(\(2,\)"),
        ({"log_std": [0.0, 0.0]}, r"log_std to be absent in 'here', got"),
    ],
)
def test_weights_that_do_not_fit_together(changed, message):
    with pytest.raises(ValueError, match=rf"expected {message}.*the file is damaged: python -m online.ppo matrix/xor"):
        network(**changed).check("here")


def test_weights_of_another_environment_are_refused():
    with pytest.raises(
        ValueError,
        match=re.escape(
            "'learned-good' expects agents, observations and actions of (2, 1, 2), as in 'matrix/xor', got (3, 1, 2); "
            "play it there, or train one here"
        ),
    ):
        LearnedTeam(network(), name="learned-good").act(shown(np.zeros((4, 3))), np.random.default_rng(0))


# What comes with the project


def test_recipes_and_weights_agree():
    needed = {
        weights_file(scenario, behaviour.removeprefix(LEARNED))
        for scenario, qualities in _RECIPES.items()
        for recipe in qualities.values()
        for behaviour in recipe.shares
        if behaviour.startswith(LEARNED)
    }
    assert sorted(needed) == sorted(WEIGHTS.glob("*"))


@pytest.mark.parametrize("path", sorted(WEIGHTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_weights_are_small_and_say_how_they_were_made(path):
    assert path.stat().st_size <= LARGEST
    team, facts = read_team(path)
    family, name = split_scenario(team.scenario)
    assert path.stem.startswith(f"{family}-{name}-") and path.stem.removeprefix(f"{family}-{name}-") in STAGES
    assert facts["command"].startswith(f"python -m online.ppo {team.scenario} --seed {facts['seed']} ")
    assert {"updates", "environment_steps", "evaluation", "versions"} <= set(facts)
    assert set(facts["evaluation"]) == {"episodes", "return_mean", "return_std", "won"}


def test_a_shipped_team_plays_under_its_name(monkeypatch, tmp_path):
    monkeypatch.setattr(learned, "WEIGHTS", tmp_path)
    learned.shipped_team.cache_clear()
    write_team(weights_file("matrix/xor", "medium"), network(), {})
    assert shipped_stages("matrix/xor") == ("medium",)
    team = make_behaviour("matrix/xor", "learned-medium")
    team.reset(1)
    assert team.act(shown([[5.0, 5.0]]), np.random.default_rng(0)).shape == (1, 2)
    with pytest.raises(
        ValueError, match="unknown behaviour 'learned-good' for 'matrix/xor'; choose one of: uniform, lea"
    ):
        make_behaviour("matrix/xor", "learned-good")
    learned.shipped_team.cache_clear()
