import subprocess
import sys

import pytest

from environments import bridge, landmarks, mamujoco, matrix_game, mpe, particle_games, rware, smac, smax
from environments.array_env import OneCopy
from environments.registry import SCENARIOS, make_env, make_vector_env, scenario_of, split_scenario


def test_every_family_has_its_scenarios():
    families = {scenario.split("/")[0] for scenario in SCENARIOS}
    assert families == {"smax", "mpe", "mamujoco", "rware", "smac_v1", "smac_v2", "matrix"}
    names = (smax.MAPS, mpe.NAMES, mamujoco.NAMES, rware.NAMES, smac.V1_MAPS, smac.V2_SCENARIOS)
    assert len(SCENARIOS) == len(set(SCENARIOS)) == sum(map(len, names)) + 3
    assert split_scenario("smax/5m_vs_6m") == ("smax", "5m_vs_6m")


@pytest.mark.parametrize(
    ("scenario", "one", "many"),
    [
        ("smax/3m", smax.Smax, smax.SmaxVector),
        ("mpe/simple_spread", mpe.Mpe, particle_games.SpreadVector),
        ("mpe/simple_tag_discrete", mpe.Mpe, particle_games.TagVector),
        ("mpe/simple_world_comm", mpe.Mpe, particle_games.WorldVector),
        ("mpe/simple_spread-omar", OneCopy, particle_games.SpreadVector),
        ("matrix/xor", matrix_game.MatrixGame, matrix_game.MatrixVector),
        ("matrix/bridge", OneCopy, bridge.BridgeVector),
        ("matrix/landmarks", OneCopy, landmarks.LandmarksVector),
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


@pytest.mark.parametrize(
    ("dataset", "scenario"),
    [
        ("embedded/smax/3m", "smax/3m"),
        ("og_marl/mamujoco/2halfcheetah", "mamujoco/2halfcheetah-og_marl"),
        ("omar/mamujoco/2halfcheetah", "mamujoco/2halfcheetah-omar"),
        ("omiga/mamujoco/3hopper", "mamujoco/3hopper-omiga"),
        ("omar/mpe/simple_world", "mpe/simple_world-omar"),
        ("alberdice/rware/small-6ag", "rware/small-6ag-alberdice"),
        ("cfcql/smac_v1/5m_vs_6m", "smac_v1/5m_vs_6m"),
        ("og_marl/smac_v2/zerg_5_vs_5", "smac_v2/zerg_5_vs_5"),
    ],
)
def test_datasets_are_played_in_their_sources_variant(dataset, scenario):
    assert scenario_of(dataset) == scenario


def test_datasets_that_cannot_be_played():
    with pytest.raises(ValueError, match="'omiga/smac_v1/corridor' cannot be played: it was recorded in MAPPO's own"):
        scenario_of("omiga/smac_v1/corridor")
    with pytest.raises(ValueError, match="unknown scenario 'mamujoco/2halfchetah'; did you mean mamujoco/2halfcheetah"):
        scenario_of("og_marl/mamujoco/2halfchetah")
    with pytest.raises(ValueError, match="expected a dataset '<source>/<environment>/<scenario>', got 'smax/3m'"):
        scenario_of("smax/3m")


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
    heavy = "{'jax', 'jaxmarl', 'mpe2', 'pygame', 'mujoco', 'rware', 'smac', 'flashbax', 'torch'}"
    code = f"import sys, {modules}; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
