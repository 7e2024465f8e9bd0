"""A recording that is killed at any moment leaves nothing, or all of it."""

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from datamodules.vaults import read_vault

pytest.importorskip("flashbax")

DATASET, EPISODES = "embedded/matrix/xor", 50


def record_quietly(root: str, begun: Any) -> None:
    import jax  # noqa: F401  (imported before the clock starts)

    from environments.recording import record

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    begun.set()
    record(DATASET, "Mixed", root, episodes=EPISODES, progress=False)


def digest(vault: Path) -> str:
    stream = read_vault(vault)
    return hashlib.sha256(stream.obs.tobytes() + stream.actions.tobytes() + stream.rewards.tobytes()).hexdigest()


@pytest.mark.slow
def test_killed_at_any_moment_the_next_start_records_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["environments.recording", "flashbax", "datamodules.vaults"])

    def start(root: Path) -> Any:
        begun = context.Event()
        process = context.Process(target=record_quietly, args=(str(root), begun))
        process.start()
        assert begun.wait(120)
        return process

    whole = start(tmp_path / "whole")
    clock = time.monotonic()
    whole.join()
    duration = time.monotonic() - clock
    vault = Path(DATASET.rpartition("/")[0]) / "xor.vlt" / "Mixed"
    expected, generator, killed = digest(tmp_path / "whole" / vault), random.Random(0), 0
    for _ in range(10):
        process = start(tmp_path / "often")  # what is left over is there for the next one
        process.join(generator.random() * 0.6 * duration)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if (tmp_path / "often" / vault).exists():
            assert digest(tmp_path / "often" / vault) == expected
            shutil.rmtree(tmp_path / "often" / vault)  # or the next one would find it and have nothing to do
    assert killed >= 3
    last = start(tmp_path / "often")
    last.join()
    assert last.exitcode == 0
    assert digest(tmp_path / "often" / vault) == expected
    left = [path.name for path in (tmp_path / "often" / vault).parent.iterdir()]
    assert left == ["Mixed"], "leftovers of killed processes were not cleared away"
