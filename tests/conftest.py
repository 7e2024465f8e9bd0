"""Settings for all tests: nothing is sent anywhere, and small networks run on one thread."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping

import pytest
import torch

from tests.wandb_files import Logged, offline_run

os.environ["WANDB_MODE"] = "disabled"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_run_stays_open() -> Iterator[None]:
    """Ends what a test began to log: the logger of the next test in this process would go on with that run."""
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()


@pytest.fixture(scope="session")
def logged_runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Logged]:
    """A short run of each of two algorithms on the matrix game, as Weights & Biases logged it offline."""
    pytest.importorskip("wandb")
    from environments.recording import record

    directory = tmp_path_factory.mktemp("logged")
    record("embedded/matrix/xor", "Mixed", directory / "vaults", episodes=100, progress=False)
    with contextlib.chdir(directory):
        return {name: offline_run(name, directory) for name in ("VGM2P", "BC")}
