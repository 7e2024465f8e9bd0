import subprocess
import sys

import pytest

from environments import matrix_game, mpe, smax
from environments.registry import SCENARIOS, make_env, make_vector_env, split_scenario
from environments.vector import ParallelVectorEnv


def test_every_family_has_its_scenarios():
    assert {scenario.split("/")[0] for scenario in SCENARIOS} == {"smax", "mpe", "matrix"}
    assert len(SCENARIOS) == len(set(SCENARIOS)) == len(smax.MAPS) + 2
    assert split_scenario("smax/5m_vs_6m") == ("smax", "5m_vs_6m")


@pytest.mark.parametrize(
    ("scenario", "one", "many"),
    [
        ("smax/3m", smax.Smax, smax.SmaxVector),
        ("mpe/simple_spread", mpe.SimpleSpread, mpe.SimpleSpreadVector),
        ("matrix/xor", matrix_game.MatrixGame, ParallelVectorEnv),
    ],
)
def test_the_fastest_way_is_chosen(scenario, one, many):
    env, copies = make_env(scenario), make_vector_env(scenario, 2)
    assert type(env) is one
    assert type(copies) is many
    assert str(env) == copies.name == scenario
    assert copies.n_envs == 2
    assert copies.n_agents == len(env.possible_agents)
    assert copies.can_be_won == env.can_be_won


@pytest.mark.parametrize("make", [make_env, lambda scenario: make_vector_env(scenario, 2)])
def test_unknown_scenario_suggests_the_nearest(make):
    with pytest.raises(ValueError, match="unknown scenario 'smax/3mm'; did you mean smax/3m"):
        make("smax/3mm")
    with pytest.raises(ValueError, match="unknown scenario '###'; choose one of: smax/3m, "):
        make("###")


def test_importing_the_package_loads_no_simulator():
    modules = (
        "environments, environments.registry, environments.recording, environments.behaviours, environments.scores"
    )
    heavy = "{'jax', 'jaxmarl', 'mpe2', 'pygame', 'flashbax', 'tensorstore', 'torch'}"
    code = f"import sys, {modules}; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
