import sys

import numpy as np
import pytest

from environments.imported import ImportedBehaviour, import_function, is_import_path, make_imported
from environments.registry import make_vector_env
from environments.vector import ParallelVectorEnv
from tests.environments.test_vector import Relay

RELAY = "tests.environments.test_vector:Relay"


def random_moves():
    def decide(obs, legal_actions, generator):
        obs[:] = np.nan
        return generator.random(legal_actions.shape)

    return decide


def nothing():
    return None


def test_a_class_is_as_good_as_a_function():
    assert is_import_path(RELAY) and not is_import_path("smax/3m")
    assert import_function(RELAY) is Relay
    env = make_vector_env(RELAY, 3)
    assert isinstance(env, ParallelVectorEnv)
    assert (env.name, env.n_envs, env.obs_dim, env.state_dim, env.action_dim) == (RELAY, 3, 2, 4, 2)


def test_behaviours_decide_from_a_copy_of_what_is_recorded():
    behaviour = ImportedBehaviour(f"{__name__}:random_moves")
    env = make_vector_env(RELAY, 2)
    shown = env.reset([3, 2])
    behaviour.reset(2)
    actions = behaviour.act(shown, np.random.default_rng(1))
    np.testing.assert_array_equal(actions, np.random.default_rng(1).random((2, 2, 2)))
    assert np.isfinite(shown.obs).all()


def test_modules_in_the_current_directory_are_found_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_module_of_this_test.py").write_text("def make():\n    return 3\n")
    (tmp_path / "numpy.py").write_text("raise RuntimeError('hides numpy')")
    assert import_function("own_module_of_this_test:make")() == 3
    assert sys.path[-1] == str(tmp_path)
    assert import_function("numpy:zeros") is np.zeros


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("nowhere_at_all:make", ImportError, "could not import 'nowhere_at_all' of 'nowhere_at_all:make'.*PYTHONPATH"),
        (":make", ValueError, "expected an import path 'package.module:function', got ':make'"),
        ("json:make me", ValueError, "expected an import path"),
        ("json:mke", ValueError, "expected a function 'mke' in '.*json.*'; there are: .*dumps"),
        (
            f"{__name__}:nothing",
            TypeError,
            r"a PettingZoo ParallelEnv from .*nothing\(\)', got a NoneType without poss",
        ),
    ],
)
def test_wrong_paths(path, error, message):
    with pytest.raises(error, match=message):
        make_imported(path)


def test_a_behaviour_has_to_be_callable():
    with pytest.raises(TypeError, match=r"nothing\(\)' to return a callable \(obs, legal_actions, generator\) -> act"):
        ImportedBehaviour(f"{__name__}:nothing")
