import functools
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from environments.landmarks import LandmarksVector
from environments.processes import ATTEMPTS, ProcessVectorEnv, WorkerLost, available_cores
from environments.registry import make_env, make_vector_env
from environments.team_env import Moment, TeamEnv
from environments.vector import ParallelVectorEnv

LENGTH = 5


class Faulty(TeamEnv):
    """Counts its steps and shows its process; does what the action of its first agent says.

    Actions: 0 goes on, 1 raises an error, 2 hangs, 3 exits. ``trap``: a file that makes the next starts fail.
    """

    def __init__(self, trap=""):
        self.trap = Path(trap) if trap else None
        super().__init__("test/faulty", ["a", "b"], 2, 2, 4, discrete=True, can_be_won=True)

    def _start(self, seed):
        if self.trap and self.trap.exists() and int(self.trap.read_text()) > 0:
            self.trap.write_text(str(int(self.trap.read_text()) - 1))
            os._exit(7)
        self.seed, self.steps = seed, 0
        return self._moment()

    def _advance(self, actions):
        if actions[0] == 1:
            raise ZeroDivisionError("a unit fell through the floor")
        if actions[0] == 2:
            time.sleep(600)
        if actions[0] == 3:
            os._exit(3)
        self.steps += 1
        return self._moment()

    def _moment(self):
        over = self.steps == LENGTH
        return Moment(
            obs=np.full((2, 2), [self.seed, self.steps], np.float32),
            state=np.array([self.steps, os.getpid()], np.float32),
            legal_actions=np.ones((2, 4), bool),
            rewards=np.full(2, float(self.steps > 0), np.float32),
            terminal=over,
            truncated=False,
            won=over,
        )


def unlikely():
    raise ImportError("no simulator here: pip install one")


class Shy(Exception):
    """Cannot be sent to another process."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def shy():
    raise Shy("one", "two")


@pytest.fixture
def env():
    """Four copies in two workers."""
    with_two = ProcessVectorEnv(Faulty, 4, n_workers=2)
    yield with_two
    with_two.close()


def told(*firsts):
    """Actions of four copies, by those of their first agents."""
    return np.array([[first, 0] for first in firsts])


def test_copies_in_processes_equal_copies_in_a_row():
    pytest.importorskip("gymnasium_robotics")
    make = functools.partial(make_env, "mamujoco/3hopper")
    apart, here = ProcessVectorEnv(make, 3, n_workers=2), ParallelVectorEnv(make, 3)
    for name in ("name", "n_envs", "n_agents", "obs_dim", "state_dim", "action_dim", "discrete", "can_be_won"):
        assert getattr(apart, name) == getattr(here, name)
    generator = np.random.default_rng(0)
    shown, expected = apart.reset([1, 2, 3]), here.reset([1, 2, 3])
    while not expected.finished.all():
        actions = generator.uniform(-1, 1, (3, 3, 1)).astype(np.float32)
        shown, expected = apart.step(actions), here.step(actions)
        for field, left, right in zip(shown._fields, shown, expected, strict=True):
            assert np.array_equal(left, right), field
            assert left.dtype == right.dtype, field
    again = apart.step(actions)
    assert not again.rewards.any()
    assert again.finished.all()
    apart.close()


def test_the_registry_chooses_processes():
    pytest.importorskip("rware")
    env = make_vector_env("rware/tiny-2ag", 2)
    assert isinstance(env, ProcessVectorEnv)
    assert len(env._workers) == min(2, available_cores())
    shown = env.reset([0, 1])
    assert shown.state.shape == (2, 14)
    assert env.step(np.zeros((2, 2), int)).rewards.tolist() == [0, 0]
    env.close()


def test_copies_are_split_over_the_workers(env):
    shown = env.reset([4, 5, 6, 7])
    assert shown.obs[:, 0, 0].tolist() == [4, 5, 6, 7]
    processes = shown.state[:, 1].tolist()
    assert processes[0] == processes[1] != processes[2] == processes[3]
    assert os.getpid() not in processes


def finish(env):
    """Play to the end; team rewards from now on."""
    rewards = np.zeros(4)
    while True:
        shown = env.step(told(0, 0, 0, 0))
        rewards += shown.rewards
        if shown.finished.all():
            return shown, rewards


def check_lost_and_found(env, shown, lost):
    """The copies of one worker are lost, the others play to the end, and the next round is complete again."""
    kept = [copy for copy in range(4) if copy not in lost]
    assert shown.lost.nonzero()[0].tolist() == lost
    assert shown.truncations.nonzero()[0].tolist() == lost
    assert not shown.terminals.any()
    assert shown.rewards[lost].tolist() == [0.0] * len(lost)
    assert shown.rewards[kept].tolist() == [1.0] * len(kept)
    assert env.lost_episodes == len(lost)
    shown, _ = finish(env)
    assert shown.won[kept].all()
    assert not shown.won[lost].any()
    assert not env.reset([0, 1, 2, 3]).lost.any()
    shown, rewards = finish(env)
    assert shown.won.all()
    assert rewards.tolist() == [LENGTH] * 4
    assert env.lost_episodes == len(lost)


def test_killed_worker(env, caplog):
    env.reset([0, 1, 2, 3])
    env.step(told(0, 0, 0, 0))
    os.kill(env._workers[1]._process.pid, signal.SIGKILL)
    shown = env.step(told(0, 0, 0, 0))
    assert "died with exit code -9; 2 episodes are lost" in caplog.text
    assert shown.obs[2:, 0].tolist() == [[2, 1], [3, 1]]  # what they showed last
    check_lost_and_found(env, shown, [2, 3])


def test_hanging_worker(env, caplog):
    env.reset([0, 1, 2, 3])
    for worker in env._workers:
        worker._timeout = 0.5
    hanging = env._workers[0]._process.pid
    shown = env.step(told(2, 0, 0, 0))
    assert "did not answer in time; 2 episodes are lost" in caplog.text
    with pytest.raises(ProcessLookupError):
        os.kill(hanging, 0)
    check_lost_and_found(env, shown, [0, 1])


@pytest.mark.parametrize(("action", "word"), [(1, "a unit fell through the floor"), (3, "died with exit code 3")])
def test_crashing_simulator(env, caplog, action, word):
    env.reset([0, 1, 2, 3])
    shown = env.step(told(0, 0, 0, action))
    assert word in caplog.text
    check_lost_and_found(env, shown, [2, 3])


def test_episodes_that_were_over_are_not_lost(env):
    env.reset([0, 1, 2, 3])
    finish(env)
    os.kill(env._workers[0]._process.pid, signal.SIGKILL)
    shown = env.step(told(0, 0, 0, 0))
    assert not shown.lost.any()
    assert shown.won.all()
    assert env.lost_episodes == 0
    assert env.reset([5, 6, 7, 8]).obs[:, 0, 0].tolist() == [5, 6, 7, 8]  # it is replaced now


@pytest.mark.parametrize(("failures", "works"), [(ATTEMPTS, True), (ATTEMPTS + 1, False)])
def test_starts_are_tried_several_times(tmp_path, failures, works):
    trap = tmp_path / "trap"
    env = ProcessVectorEnv(functools.partial(Faulty, str(trap)), 1)
    trap.write_text(str(failures))
    if works:
        assert env.reset([9]).obs[0, 0].tolist() == [9, 0]
    else:
        with pytest.raises(
            WorkerLost, match=f"no worker could be started in {ATTEMPTS} attempts; the last time: worker"
        ):
            env.reset([9])
    env.close()


def test_workers_that_never_start_an_episode(env):
    for worker in env._workers:
        worker.receive, worker.restart = functools.partial(fail, "gone"), lambda: None
    with pytest.raises(WorkerLost, match=f"'test/faulty' could not start its episodes in {ATTEMPTS} attempts.*gone"):
        env.reset([0, 1, 2, 3])


def fail(reason):
    raise WorkerLost(reason)


def test_errors_of_making_are_passed_on():
    with pytest.raises(ImportError, match="no simulator here: pip install one"):
        ProcessVectorEnv(unlikely, 2, n_workers=2)
    with pytest.raises(RuntimeError, match="Shy: one and two"):
        ProcessVectorEnv(shy, 1)


def test_closing_ends_the_processes(env):
    env.reset([0, 1, 2, 3])
    processes = [worker._process for worker in env._workers]
    env.close()
    assert all(process.returncode is not None for process in processes)
    env.close()  # once more does no harm


def test_wrong_use(env):
    with pytest.raises(RuntimeError, match="'test/faulty' has no running episodes"):
        env.step(told(0, 0, 0, 0))
    with pytest.raises(ValueError, match="'test/faulty' expects 4 seeds"):
        env.reset([1])
    env.reset([0, 1, 2, 3])
    with pytest.raises(ValueError, match="'test/faulty' expects actions of shape"):
        env.step(told(0, 0))
    for counts in ({"n_envs": 0}, {"n_envs": 1, "n_workers": 0}):
        with pytest.raises(ValueError, match="expected at least one copy and one worker"):
            ProcessVectorEnv(Faulty, **counts)


def test_arrays_lose_nothing():
    env = LandmarksVector(2)
    assert env.reset([0, 1]).lost.tolist() == [False, False]
