"""Copies of an environment in worker processes, for simulators that cannot be written as arrays, and may crash or hang.

    copies 0 1 2 | 3 4 5 | 6 7        split over the workers as evenly as possible
           worker   worker  worker    each steps its own, one after the other, and answers with stacked arrays

Only arrays travel, through one pipe per worker; the simulator is made inside. A worker that dies, raises an error or
does not answer in time is killed and replaced. The episodes that it was playing are *lost*: ``VectorStep.lost`` marks
them, they count as truncated with reward 0, and the other copies play on. The next ``reset`` finds all copies there
again.

Workers are fresh interpreters that import this package and what ``make`` names, not the main program as those of
``multiprocessing`` would: no deep learning library is loaded into them. Each leads a process group, which is killed as
a whole, with the games that it has started. POSIX systems only.
"""

import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any

import numpy as np
from pettingzoo import ParallelEnv

from environments.vector import Array, ParallelVectorEnv, VectorStep, blank_step, check_actions, check_seeds

#: How often in a row a worker may fail to start, or to start its episodes, before that is an error.
ATTEMPTS = 3
START_SECONDS = 120.0  # to import a simulator and to make the copies
_SIZES = ("name", "n_agents", "obs_dim", "state_dim", "action_dim", "discrete", "can_be_won")
_log = logging.getLogger(__name__)


class WorkerLost(RuntimeError):
    """A worker died, raised an error or did not answer in time."""


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


class ProcessVectorEnv:
    """E copies of any PettingZoo ``ParallelEnv`` in W worker processes; a ``VectorEnv``.

    Equal to :class:`environments.vector.ParallelVectorEnv` with the same seeds, as long as no worker fails.

    Args:
        make: Makes one copy, inside a worker; a function that can be pickled, such as
            ``functools.partial(make_env, "mamujoco/2halfcheetah")``.
        n_envs: Number of copies E.
        name: Scenario, for messages; the environment's own name if empty.
        n_workers: Number of processes W; by default as many as there are cores, at most E.
        timeout: Seconds that a worker may take to reset its copies or to step them.

    Attributes:
        lost_episodes: How many episodes were lost since the copies were made.

    Raises:
        ValueError: If ``n_envs`` or ``n_workers`` is not positive.
        Exception: Whatever ``make`` raises in the workers, such as ImportError if a simulator is not installed.
        WorkerLost: If a worker cannot be started.
    """

    def __init__(
        self,
        make: Callable[[], ParallelEnv],
        n_envs: int,
        name: str = "",
        n_workers: int | None = None,
        timeout: float = 120.0,
    ) -> None:
        if n_envs < 1 or (n_workers is not None and n_workers < 1):
            raise ValueError(f"expected at least one copy and one worker, got n_envs={n_envs}, n_workers={n_workers}")
        n_workers = min(n_envs, n_workers or available_cores())
        self.n_envs = n_envs
        self.lost_episodes = 0
        shares = np.array_split(np.arange(n_envs), n_workers)
        self._copies = [slice(int(share[0]), int(share[-1]) + 1) for share in shares]
        self._workers: list[_Worker] = []
        self._now: VectorStep | None = None
        try:
            for share in shares:  # all start before any is waited for
                self._workers.append(_Worker(make, len(share), name, timeout))
            sizes = [worker.sizes() for worker in self._workers]
        except BaseException:
            self.close()
            raise
        self.name: str = sizes[0]["name"]
        self.n_agents: int = sizes[0]["n_agents"]
        self.obs_dim: int = sizes[0]["obs_dim"]
        self.state_dim: int = sizes[0]["state_dim"]
        self.action_dim: int = sizes[0]["action_dim"]
        self.discrete: bool = sizes[0]["discrete"]
        self.can_be_won: bool = sizes[0]["can_be_won"]

    def reset(self, seeds: Sequence[int]) -> VectorStep:
        """Start one episode per copy; a worker that fails is replaced and tries again.

        Args:
            seeds: One seed in [0, 2**32) per copy.

        Returns:
            The first observations; rewards and flags are zero.

        Raises:
            ValueError: If number or range of the seeds is not as expected.
            WorkerLost: If a worker fails several times in a row.
        """
        checked = check_seeds(seeds, self.n_envs, self.name)
        self._now = blank_step(self)
        waiting = list(range(len(self._workers)))
        for attempt in range(1, ATTEMPTS + 1):
            failures = self._ask(waiting, "reset", [checked[copies].tolist() for copies in self._copies])
            waiting = list(failures)
            if not waiting:
                return self._now.copied()
            for worker in waiting:
                _log.warning("'%s': %s; starting it anew (attempt %d)", self.name, failures[worker], attempt)
                self._workers[worker].restart()
        raise WorkerLost(f"'{self.name}' could not start its episodes in {ATTEMPTS} attempts; the last time {failures}")

    def step(self, actions: Array) -> VectorStep:
        """Go one step on in every unfinished copy; the episodes of a worker that fails are lost.

        Args:
            actions: (E, N) integers if discrete, else (E, N, A) floats in [-1, 1]; finished copies drop theirs.

        Returns:
            What the copies show now; lost ones show what they showed last.

        Raises:
            RuntimeError: If ``reset`` was not called before.
            ValueError: If shape, type or range of the actions is not as expected.
            WorkerLost: If a worker that failed cannot be replaced.
        """
        now = self._now
        if now is None:
            raise RuntimeError(f"'{self.name}' has no running episodes: expected reset(seeds) before step()")
        checked = check_actions(actions, self)
        now.rewards[:] = 0.0
        now.agent_rewards[:] = 0.0
        playing = [i for i, copies in enumerate(self._copies) if not now.finished[copies].all()]
        for worker, reason in self._ask(playing, "step", [checked[copies] for copies in self._copies]).items():
            self._lose(now, worker, reason)
        return now.copied()

    def _ask(self, workers: Sequence[int], command: str, arguments: Sequence[Any]) -> dict[int, str]:
        """Let workers do something at the same time and take over what they show; returns who failed, and why."""
        assert self._now is not None, "callers have made room for the answers"
        failures = {}
        for i in workers:
            self._workers[i].send(command, arguments[i])
        for i in workers:
            try:
                shown = self._workers[i].receive()
            except WorkerLost as error:
                failures[i] = str(error)
            else:
                for whole, part in zip(self._now, shown, strict=True):
                    whole[self._copies[i]] = part
        return failures

    def _lose(self, now: VectorStep, worker: int, reason: str) -> None:
        """Count the unfinished episodes of a worker as lost, and replace it."""
        copies = np.arange(self.n_envs)[self._copies[worker]]
        copies = copies[~now.finished[copies]]
        now.lost[copies] = now.truncations[copies] = True
        self.lost_episodes += len(copies)
        _log.warning("'%s': %s; %d episodes are lost, starting it anew", self.name, reason, len(copies))
        self._workers[worker].restart()

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.stop()
        self._workers = []
        self._now = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


class _Worker:
    """One process with some of the copies, seen from outside.

    Args:
        make: Makes one copy.
        n_envs: Number of copies in this process.
        name: Scenario, or nothing.
        timeout: Seconds that an answer may take.
    """

    def __init__(self, make: Callable[[], ParallelEnv], n_envs: int, name: str, timeout: float) -> None:
        self._task = pickle.dumps((make, n_envs, name))
        self._timeout = timeout
        self._start()

    def _start(self) -> None:
        """Start the process; its first answer are the sizes."""
        ours, theirs = socket.socketpair()
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from environments.processes import serve; serve({theirs.fileno()})"],
                env={"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": paths},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # an interruption is for the main process, which then ends us
            )
        self._pipe = Connection(ours.detach())
        self._deadline = monotonic() + START_SECONDS
        with contextlib.suppress(OSError):
            self._pipe.send_bytes(self._task)

    def sizes(self) -> dict[str, Any]:
        """What the environment is like; to be asked once after each start."""
        sizes: dict[str, Any] = self.receive()
        return sizes

    def restart(self) -> None:
        """Kill the process, whatever it does, and start another.

        Raises:
            WorkerLost: If none starts in several attempts.
            Exception: What the environment raised when it was made.
        """
        for _ in range(ATTEMPTS):
            self.stop()
            self._start()
            try:
                self.sizes()
            except WorkerLost as error:
                reason = error
            else:
                return
        raise WorkerLost(f"no worker could be started in {ATTEMPTS} attempts; the last time: {reason}")

    def send(self, command: str, argument: Any) -> None:
        """Say what to do; that the process is gone shows when its answer is asked for."""
        self._deadline = monotonic() + self._timeout
        with contextlib.suppress(OSError):
            self._pipe.send((command, argument))

    def receive(self) -> Any:
        """The answer.

        Raises:
            WorkerLost: If there is none in time, or the process is gone or has raised an error while playing.
            Exception: What the environment raised when it was made.
        """
        pid = self._process.pid
        try:
            if not wait([self._pipe], max(self._deadline - monotonic(), 0.0)):
                raise WorkerLost(f"worker {pid} did not answer in time")
            kind, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
            raise WorkerLost(f"worker {pid} died with exit code {self._process.returncode}") from error
        if kind == "cannot be made":
            raise answer
        if kind == "failed":
            raise WorkerLost(f"worker {pid} failed:\n{answer}")
        return answer

    def stop(self) -> None:
        """Kill the process, if it still runs, and forget it."""
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def serve(descriptor: int) -> None:
    """What a worker does: make the copies, then do as it is told until the pipe ends.

    Args:
        descriptor: File descriptor of the worker's end of the pipe.
    """
    with Connection(descriptor) as pipe, contextlib.suppress(EOFError, OSError):
        try:
            env = ParallelVectorEnv(*pickle.loads(pipe.recv_bytes()))
        except Exception as error:
            pipe.send(("cannot be made", _picklable(error)))
            return
        pipe.send(("made", {size: getattr(env, size) for size in _SIZES}))
        try:
            while True:
                command, argument = pipe.recv()
                shown = env.reset(argument) if command == "reset" else env.step(argument)
                pipe.send(("done", tuple(shown)))
        except (EOFError, ConnectionError):
            pass  # the main process is through
        except Exception:
            pipe.send(("failed", traceback.format_exc()))
        finally:
            env.close()


def _picklable(error: Exception) -> Exception:
    """The error itself, or one that says the same if it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
