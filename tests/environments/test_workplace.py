import multiprocessing
import os
import signal

import pytest

from environments.workplace import workplace


def test_it_is_beside_the_target_and_goes_away(tmp_path):
    target = tmp_path / "deep" / "result"
    with workplace(target) as directory:
        assert directory.parent == target.parent
        assert directory.name.startswith(".result.")
        (directory / "part").mkdir()
        (directory / "part").rename(target)
    assert list(target.parent.iterdir()) == [target]


def test_it_goes_away_when_interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt), workplace(tmp_path / "result") as directory:
        (directory / "half").write_text("written")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_one_in_use_is_left_alone(tmp_path):
    with workplace(tmp_path / "result") as first:
        (first / "work").write_text("of the first")
        with workplace(tmp_path / "result") as second:
            assert second != first
            assert (first / "work").read_text() == "of the first"
        assert first.exists()
        assert not second.exists()


def work_until_killed(target, ready):
    with workplace(target) as directory:
        (directory / "half").write_text("written")
        ready.set()
        signal.pause()


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=work_until_killed, args=(tmp_path / "result", ready))
    process.start()
    assert ready.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (leftover,) = tmp_path.iterdir()
    (tmp_path / ".other.123").mkdir()  # belongs to another target
    with workplace(tmp_path / "result"):
        assert not leftover.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".other.123"]
