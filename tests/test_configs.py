"""Every shipped configuration runs a few updates of every stage with every algorithm, on tiny recordings."""

from pathlib import Path

import pytest
import yaml

from environments.recording import record
from vgm2p_cli import main

CONFIGS = Path(__file__).parent.parent / "configs"
BENCHMARKS = sorted(CONFIGS.glob("*.yaml"))
MODELS = sorted((CONFIGS / "model").glob("*.yaml"))

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def vaults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vaults")


def settings(path: Path) -> dict[str, object]:
    loaded: dict[str, object] = yaml.safe_load(path.read_text())
    return loaded


def test_there_is_something_to_test():
    assert {path.stem for path in BENCHMARKS} == {"matrix", "mpe", "smac"}
    assert {path.stem for path in MODELS} == {"awr", "bc", "vgm2p"}


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.stem)
def test_every_benchmark_runs_with_every_algorithm(
    benchmark: Path, model: Path, vaults: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    data = settings(benchmark)["data"]["init_args"]
    # SMAX compiles for every number of copies: as many episodes as a trial run plays are one shape.
    episodes = 2 if data["dataset"].startswith("embedded/smax") else 20
    try:
        record(data["dataset"], data["quality"], vaults, episodes=episodes, progress=False)
    except ImportError as error:
        pytest.skip(str(error))
    short = [f"--model.init_args.{stage}_updates=1" for stage in ("critic", "credit")] if model.stem != "bc" else []
    words = ["--config", str(benchmark), "--model", str(model), "--data.init_args.root", str(vaults), *short]
    # A trial run is one epoch: the only training episode has to last for four batches.
    words += ["--data.init_args.validation_fraction", "0.5", "--data.init_args.batch_size", "2"]
    main(["fit", *words, "--trainer.fast_dev_run", "4"])
    table = capsys.readouterr().out
    assert "the data" in table and "policy" in table
    assert not (tmp_path / "runs").exists(), "fast_dev_run leaves nothing behind"


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_says_only_what_differs_and_no_dimension(path: Path):
    config = settings(path)
    assert isinstance(config["seed_everything"], int)
    given = config["model"].get("init_args", {})
    assert not {"n_agents", "obs_dim", "state_dim", "action_dim", "discrete"} & set(given)
    for entry in (config["model"], config["data"], *config["trainer"]["callbacks"], *config["trainer"]["logger"]):
        assert "." in entry["class_path"], "full paths in shipped files"
