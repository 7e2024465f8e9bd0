import json
import logging
import mmap
import multiprocessing
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import cache
from datamodules.cache import decoded_bytes, fingerprint, is_whole, open_cache
from datamodules.vaults import Stream, Vault, read_vault, read_vaults
from tests.datamodules.recordings import make_leaves, write_vault

PAGE = mmap.PAGESIZE

LENGTHS = (3, 1, 4)
DATASET = "made_up/game/map"
FIELDS = ("obs", "state", "actions", "rewards", "terminals", "truncations", "legal_actions")


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    return write_vault(tmp_path, DATASET, "Mixed", make_leaves(LENGTHS, copies=2))


def assert_same(stream: Stream, expected: Stream) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(stream, name), getattr(expected, name), err_msg=name)
        assert getattr(stream, name).dtype == getattr(expected, name).dtype


@pytest.mark.parametrize("change", ["discrete", "continuous", "no state", "no legal actions"])
def test_what_is_mapped_is_what_was_recorded(change: str, tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS, copies=2, discrete=change != "continuous")
    if change.startswith("no "):
        del leaves["infos"]["state" if change == "no state" else "legals"]
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    stream, _ = open_cache(tmp_path / "cache", [Vault(vault)])
    assert_same(stream, read_vault(vault))
    again, _ = open_cache(tmp_path / "cache", [Vault(vault)])
    assert_same(again, read_vault(vault))


def test_several_vaults_lie_one_behind_the_other(tmp_path: Path) -> None:
    paths = [write_vault(tmp_path, DATASET, f"Q{seed}", make_leaves(LENGTHS, seed=seed)) for seed in (1, 2)]
    vaults = [Vault(path) for path in paths]
    stream, _ = open_cache(tmp_path / "cache", vaults)
    assert_same(stream, read_vaults(vaults))
    assert fingerprint(vaults) != fingerprint(vaults[::-1])


def test_files_are_plain_numpy_arrays_of_the_stated_size(vault: Path, tmp_path: Path) -> None:
    open_cache(tmp_path / "cache", [Vault(vault)])
    (steps,) = (tmp_path / "cache").glob("steps-*")
    arrays = {path.stem: np.load(path, allow_pickle=False) for path in steps.glob("*.npy")}
    assert sum(array.nbytes for array in arrays.values()) == decoded_bytes([Vault(vault)])
    # 16 steps of 3 agents: obs 4, state 5, actions 8 bytes, reward, two flags, 3 legal actions
    assert decoded_bytes([Vault(vault)]) == 16 * (3 * 4 * 4 + 5 * 4 + 3 * 8 + 4 + 1 + 1 + 3 * 3)
    np.testing.assert_array_equal(arrays["obs"], read_vault(vault).obs)


def test_decoding_happens_once(vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_cache(tmp_path / "cache", [Vault(vault)])

    def refuse(*_: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "_decode", refuse)
    open_cache(tmp_path / "cache", [Vault(vault)])


def test_a_changed_vault_is_decoded_again_and_the_old_copy_removed(vault: Path, tmp_path: Path) -> None:
    first, _ = open_cache(tmp_path / "cache", [Vault(vault)])
    shutil.rmtree(vault)
    write_vault(tmp_path, DATASET, "Mixed", make_leaves((4, 4), seed=5))
    second, _ = open_cache(tmp_path / "cache", [Vault(vault)])
    assert_same(second, read_vault(vault))
    assert len(first) == 16, "whoever still reads the old copy keeps it"
    assert first.obs.sum() != second.obs.sum()
    assert len(list((tmp_path / "cache").glob("steps-*"))) == 1


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "index", "other format"])
def test_a_damaged_copy_is_found_and_made_again(damage: str, vault: Path, tmp_path: Path) -> None:
    open_cache(tmp_path / "cache", [Vault(vault)])
    (steps,) = (tmp_path / "cache").glob("steps-*")
    file, index = steps / "rewards.npy", steps / "index.json"
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[:-4])
    elif damage == "gone":
        file.unlink()
    elif damage == "index":
        index.write_text(index.read_text()[:-20])
    else:
        index.write_text(json.dumps({**json.loads(index.read_text()), "format": 0}))
    assert not is_whole(steps)
    stream, _ = open_cache(tmp_path / "cache", [Vault(vault)])
    assert_same(stream, read_vault(vault))


def test_a_copy_that_was_only_moved_is_still_good(vault: Path, tmp_path: Path) -> None:
    open_cache(tmp_path / "cache", [Vault(vault)])
    shutil.copytree(tmp_path / "cache", tmp_path / "elsewhere", copy_function=shutil.copyfile)  # new times
    (steps,) = (tmp_path / "elsewhere").glob("steps-*")
    assert is_whole(steps)


def test_unusable_data_leaves_nothing_behind(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS)
    leaves["rewards"][0, 7, 0] = np.nan
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    with pytest.raises(ValueError, match="'rewards', got nan at copy 0, step 7"):
        open_cache(tmp_path / "cache", [Vault(vault)])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_full_disk_is_told_beforehand(vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 2**20))
    with pytest.raises(OSError, match=r"expected 0.1 GB of free disk space .*found 0.0 GB; make room or set data.init"):
        open_cache(tmp_path / "cache", [Vault(vault)])


def test_pages_are_given_back(tmp_path: Path) -> None:
    leaves = make_leaves((2000,) * 10, n_agents=3)
    leaves["observations"] = np.zeros((1, 20_000, 3, 200), np.float32)  # 48 MB
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    stream, mapped = open_cache(tmp_path / "cache", [Vault(vault)])
    before = resident_file_bytes()
    assert stream.obs.sum() == 0
    touched = resident_file_bytes()
    assert touched - before > 40e6
    mapped.release()
    assert touched - resident_file_bytes() > 40e6
    assert stream.obs[-1].sum() == 0, "still readable"


def resident_file_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


def forkserver() -> Any:
    """Processes that need not import torch each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["datamodules.cache"])
    return context


def _open(directory: str, vault: str, results: Any) -> None:
    calls = []
    original = cache._decode

    def counted(*arguments: Any) -> None:
        calls.append(1)
        time.sleep(0.2)
        original(*arguments)

    cache._decode = counted
    stream, _ = open_cache(Path(directory), [Vault(Path(vault))], progress=False)
    results.put((len(calls), float(stream.obs.sum())))


def test_processes_that_start_together_decode_once(vault: Path, tmp_path: Path) -> None:
    context = forkserver()
    results = context.Queue()
    processes = [context.Process(target=_open, args=(str(tmp_path / "cache"), str(vault), results)) for _ in range(3)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    assert sum(calls for calls, _ in answers) == 1
    assert {total for _, total in answers} == {float(read_vault(vault).obs.sum())}


def _open_in_small_pieces(directory: str, vault: str, begun: Any) -> None:
    Vault.piece = 20  # type: ignore[assignment, misc]  # many small pieces: more moments to be killed in
    opened = [Vault(Path(vault))]
    begun.set()
    open_cache(Path(directory), opened, progress=False)


def test_killed_at_any_moment_the_next_start_finds_all_or_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vault = write_vault(tmp_path, DATASET, "Mixed", make_leaves((50,) * 40, copies=2))
    context = forkserver()
    expected, generator, killed = read_vault(vault), random.Random(0), 0

    def start(directory: Path) -> Any:
        begun = context.Event()
        process = context.Process(target=_open_in_small_pieces, args=(str(directory), str(vault), begun))
        process.start()
        assert begun.wait(60)
        return process

    undisturbed = start(tmp_path / "undisturbed")
    clock = time.monotonic()
    undisturbed.join()
    duration = time.monotonic() - clock
    for attempt in range(30):
        directory = tmp_path / f"cache{attempt % 3}"
        process = start(directory)
        process.join(generator.random() * duration)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        for steps in directory.glob("steps-*"):
            assert is_whole(steps)
        if attempt % 3 == 2:
            with caplog.at_level(logging.WARNING, "datamodules.cache"):
                stream, _ = open_cache(directory, [Vault(vault)], progress=False)
            assert_same(stream, expected)
            assert sorted(path.name[:6] for path in directory.iterdir()) == [".lock", "steps-"]
            shutil.rmtree(directory)
    assert killed >= 5
    assert not caplog.records, "a killed process leaves nothing that looks damaged"


def test_a_read_only_array_becomes_a_tensor_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    assert torch.equal(cache.read_only(array), torch.arange(3.0, dtype=torch.float64))
    assert not recwarn.list


@pytest.mark.parametrize(
    "places, size, expected",
    [
        ([5], 10, [(0, 15)]),
        ([0, 10, 20], 10, [(0, 30)]),  # windows that touch are one stretch
        ([PAGE + 7, 9 * PAGE], PAGE, [(PAGE, 2 * PAGE + 7), (9 * PAGE, 10 * PAGE)]),
        ([3, PAGE + 1, 2 * PAGE + 1], 5, [(0, 8), (PAGE, PAGE + 6), (2 * PAGE, 2 * PAGE + 6)]),
        ([3, PAGE - 1, PAGE + 6], 5, [(0, PAGE + 11)]),  # on the same pages
    ],
)
def test_stretches_of_pages_cover_the_windows(places: list[int], size: int, expected: list[tuple[int, int]]) -> None:
    assert list(cache._ranges(np.array(places), size)) == expected
