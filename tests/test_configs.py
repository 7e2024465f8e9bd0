"""Every shipped configuration, of benchmark and of algorithm, runs a few updates of every stage on tiny recordings."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from callbacks import rollout
from datamodules.catalogue import published_as, vault_directory
from datamodules.vaults import is_vault
from environments.recording import record
from environments.registry import make_env, make_vector_env
from environments.vector import ParallelVectorEnv, VectorEnv, VectorStep
from tests.datamodules.recordings import leaves_as_published, write_vault
from vgm2p_cli import main

CONFIGS = Path(__file__).parent.parent / "configs"
BENCHMARKS = sorted(CONFIGS.glob("*.yaml"))
MODELS = sorted((CONFIGS / "model").glob("*.yaml"))
STAGED = {"awr", "cfgrl", "vgm2p"}  # start from a global critic
#: Models that refuse one kind of action, and what they say there.
REFUSED = {
    "omar": ("choices", "actions are choices; use"),
    "iql_cql": ("continuous", "must be 'joint' for continuous actions (ma_cql.yaml; one agent at a time: CFCQL)"),
}
CONTINUOUS = {"mpe", "mamujoco"}
#: What each benchmark's rollouts play, where that can be installed from an index.
PLAYED = {
    "matrix": "matrix/xor",
    "mpe": "mpe/simple_spread",
    "smac": "smax/3m",
    "mamujoco": "mamujoco/2halfcheetah-og_marl",
    "rware": "rware/tiny-2ag-alberdice",
}
NEED_STARCRAFT = ("smac_v1", "smac_v2")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def vaults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vaults")


def settings(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def test_there_is_something_to_test():
    assert {path.stem for path in BENCHMARKS} == {*PLAYED, *NEED_STARCRAFT}
    assert {path.stem for path in MODELS} >= {"awr", "bc", "vgm2p"}


@pytest.fixture
def short_rollouts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rollouts in this process that end after a few steps; the scenarios that were played."""
    played = []

    def make(scenario: str, n_envs: int) -> Shortened:
        played.append(scenario)
        own = scenario.startswith(("mamujoco/", "rware/"))  # others are quick, and compiled only once
        env = ParallelVectorEnv(partial(make_env, scenario), n_envs, scenario) if own else None
        return Shortened(env or make_vector_env(scenario, n_envs))

    monkeypatch.setattr(rollout, "make_vector_env", make)
    return played


class Shortened:
    """Copies of an environment whose episodes are cut after three steps."""

    def __init__(self, env: VectorEnv) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, seeds: Sequence[int]) -> VectorStep:
        self._steps = 0
        return self._env.reset(seeds)

    def step(self, actions: Any) -> VectorStep:
        self._steps += 1
        shown = self._env.step(actions)
        return shown._replace(truncations=shown.truncations | (~shown.terminals & (self._steps >= 3)))


def make_data(data: dict[str, Any], root: Path) -> None:
    """A recording of a few episodes; of published data, which would have to be downloaded, one of the same shapes."""
    card = published_as(data["dataset"], data["quality"])
    if card is None:
        # SMAX compiles for every number of copies: as many episodes as a trial run plays are one shape.
        episodes = 2 if data["dataset"].startswith("embedded/smax") else 20
        record(data["dataset"], data["quality"], root, episodes=episodes, progress=False)
    elif not is_vault(vault_directory(root, data["dataset"], data["quality"])):
        write_vault(root, data["dataset"], data["quality"], leaves_as_published(card, (12, 20, 9, 19)))


#: All algorithms where simulators are quick, one for each kind of action; elsewhere the default and the plainest.
PAIRS = [
    (benchmark, model)
    for benchmark in BENCHMARKS
    for model in MODELS
    if benchmark.stem in ("matrix", "mpe") or model.stem in ("vgm2p", "bc")
]


@pytest.mark.parametrize(("benchmark", "model"), PAIRS, ids=lambda path: path.stem)
def test_benchmarks_run_with_algorithms(
    benchmark: Path,
    model: Path,
    vaults: Path,
    tmp_path: Path,
    short_rollouts: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    config = settings(benchmark)
    try:
        make_data(config["data"]["init_args"], vaults)
        if benchmark.stem in PLAYED:
            make_env(PLAYED[benchmark.stem]).close()
    except ImportError as error:
        pytest.skip(str(error))
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(without_rollouts(config) if benchmark.stem in NEED_STARCRAFT else config))
    stages = ("critic", "credit") if model.stem in STAGED else ()
    short = [f"--model.init_args.{stage}_updates=1" for stage in stages]
    words = ["--config", str(file), "--model", str(model), "--data.init_args.root", str(vaults), *short]
    # A trial run is one epoch: the only training episode has to last for four batches.
    words += ["--data.init_args.validation_fraction", "0.5", "--data.init_args.batch_size", "2"]
    kind, message = REFUSED.get(model.stem, ("", ""))
    if kind == ("continuous" if benchmark.stem in CONTINUOUS else "choices"):
        with pytest.raises(SystemExit):
            main(["fit", *words, "--trainer.fast_dev_run", "4"])
        assert message in capsys.readouterr().err
        return
    main(["fit", *words, "--trainer.fast_dev_run", "4"])
    table = capsys.readouterr().out
    if benchmark.stem in NEED_STARCRAFT:
        assert short_rollouts == []
    else:
        assert "the data" in table and "policy" in table
        assert short_rollouts == [PLAYED[benchmark.stem]]
    assert not (tmp_path / "runs").exists(), "fast_dev_run leaves nothing behind"


def without_rollouts(config: dict[str, Any]) -> dict[str, Any]:
    trainer = config["trainer"]
    callbacks = [entry for entry in trainer["callbacks"] if entry["class_path"] != "callbacks.RolloutEvaluation"]
    assert len(callbacks) == len(trainer["callbacks"]) - 1
    return {**config, "trainer": {**trainer, "callbacks": callbacks}}


@pytest.mark.parametrize("benchmark", NEED_STARCRAFT)
def test_without_the_game_a_run_says_how_to_install_it(
    benchmark: str, vaults: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    package = {"smac_v1": "smac", "smac_v2": "smacv2"}[benchmark]
    monkeypatch.setitem(sys.modules, f"{package}.env", None)  # as if it were not installed
    monkeypatch.setattr(rollout, "make_vector_env", lambda scenario, n_envs: make_env(scenario))  # no worker process
    make_data(settings(CONFIGS / f"{benchmark}.yaml")["data"]["init_args"], vaults)
    words = ["fit", "--config", str(CONFIGS / f"{benchmark}.yaml"), "--data.init_args.root", str(vaults)]
    with pytest.raises(SystemExit):
        main([*words, "--trainer.fast_dev_run", "2"])
    assert "install StarCraft II" in capsys.readouterr().err


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_says_only_what_differs_and_no_dimension(path: Path):
    config = settings(path)
    assert isinstance(config["seed_everything"], int)
    given = config["model"].get("init_args", {})
    assert not {"n_agents", "obs_dim", "state_dim", "action_dim", "discrete"} & set(given)
    for entry in (config["model"], config["data"], *config["trainer"]["callbacks"], *config["trainer"]["logger"]):
        assert "." in entry["class_path"], "full paths in shipped files"
