"""Robotic warehouses (RWARE): robots fetch requested shelves, deliver them and bring them back.

The simulator is rware's ``rware-<size>-<n>ag-easy-v2`` with its defaults: the "easy" tasks, in which two shelves per
robot are requested at any time, because AlberDICE's data comes from them. A robot that delivers a shelf receives 1.
Actions: nothing, forward, left, right, load or unload; all are legal always. Episodes are cut after 500 steps:
*truncated*, never terminal, and nothing is won.

An observation has 71 numbers: the robot itself and the 3 x 3 places around it. The state is AlberDICE's: x, y and
direction of each robot, x and y of each requested shelf, 7 numbers per robot.

"<size>-<n>ag-alberdice" is the same with AlberDICE's additional rewards: .003 while the robot stands under a requested
shelf (.006 while it carries it), .001 while it sees any.

Original: https://github.com/semitable/robotic-warehouse (Papoudakis et al., 2021, arXiv:2006.07869); the state and the
rewards: ``og_marl/custom_environments/warehouse`` in https://github.com/instadeepai/og-marl (Matsunaga et al., 2023,
arXiv:2311.02194).

Differences from the original:
    - OG-MARL's wrapper gives every robot the first one's reward; here each receives its own, and the team's reward is
      their mean.
    - The data was recorded with version 1 of the tasks, which are drawn from another random generator.
"""

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from environments.drawing import BLUE, GREEN, GREY, ORANGE, PALE, Legend, Picture, Piece, draw_grid
from environments.team_env import Array, Moment, TeamEnv

SIZES = ("tiny", "small")
NUMBERS_OF_AGENTS = (2, 4, 6)
_PLAIN = tuple(f"{size}-{n}ag" for size in SIZES for n in NUMBERS_OF_AGENTS)
NAMES = (*_PLAIN, *(f"{name}-alberdice" for name in _PLAIN))
OBS_DIM = 71
N_ACTIONS = 5


def import_rware() -> Any:
    """Import rware, which makes its tasks known to Gymnasium.

    Returns:
        The module ``gymnasium``.

    Raises:
        ImportError: If rware is not installed.
    """
    try:
        importlib.import_module("rware")
    except ImportError as error:
        raise ImportError(
            f"RWARE needs the package rware ({error}): pip install '.[rware]', or pip install rware"
        ) from error
    return importlib.import_module("gymnasium")


class Rware(TeamEnv):
    """One warehouse as a PettingZoo ``ParallelEnv``.

    Args:
        name: One of ``NAMES``, such as "tiny-2ag".

    Raises:
        ImportError: If rware is not installed.
        ValueError: If there is no such warehouse.
    """

    def __init__(self, name: str = "tiny-2ag") -> None:
        if name not in NAMES:
            raise ValueError(f"unknown RWARE scenario '{name}'; choose one of: {', '.join(NAMES)}")
        task = name.removesuffix("-alberdice")
        self._with_extras = task != name
        self._env = import_rware().make(f"rware-{task}-easy-v2", disable_env_checker=True).unwrapped
        n_agents = self._env.n_agents
        super().__init__(
            name=f"rware/{name}",
            agents=[f"agent_{i}" for i in range(n_agents)],
            obs_dim=OBS_DIM,
            state_dim=3 * n_agents + 2 * self._env.request_queue_size,
            action_dim=N_ACTIONS,
            discrete=True,
            can_be_won=False,
            frames_per_second=10,
        )

    def _start(self, seed: int) -> Moment:
        """Place the robots and request the first shelves."""
        obs, _ = self._env.reset(seed=seed)
        return self._moment(obs, np.zeros(len(obs)), over=False)

    def _advance(self, actions: Array) -> Moment:
        """Let all robots act."""
        obs, rewards, over, cut, _ = self._env.step(actions.tolist())
        return self._moment(obs, np.asarray(rewards, np.float64), over or cut)  # rware calls its step limit "done"

    def _moment(self, obs: Any, rewards: NDArray[np.float64], over: bool) -> Moment:
        """What the warehouse shows, stacked."""
        stacked = np.stack(obs).astype(np.float32)
        if self._with_extras:
            rewards = rewards + self._extras(stacked) * (self._env._cur_steps > 0)
        robots = [(robot.x, robot.y, robot.dir.value) for robot in self._env.agents]
        requested = [(shelf.x, shelf.y) for shelf in self._env.request_queue]
        return Moment(
            obs=stacked,
            state=np.concatenate([np.ravel(robots), np.ravel(requested)]).astype(np.float32),
            legal_actions=np.ones((len(stacked), N_ACTIONS), bool),
            rewards=rewards.astype(np.float32),
            terminal=False,
            truncated=bool(over),
            won=False,
        )

    @staticmethod
    def _extras(obs: NDArray[np.float32]) -> NDArray[np.float64]:
        """AlberDICE's additional rewards, (N,)."""
        places = obs[:, 8:].reshape(len(obs), 9, 7)  # robot, its direction 4, shelf, requested
        requested = (places[:, :, 5] == 1.0) & (places[:, :, 6] == 1.0)
        carrying = obs[:, 2] == 1.0
        extras: NDArray[np.float64] = requested[:, 4] * np.where(carrying, 0.006, 0.003) + 0.001 * requested.any(axis=1)
        return extras

    def _draw(self, caption: str) -> Picture:
        """The warehouse from above; robots that carry a shelf have a dark edge."""
        squares = np.zeros(self._env.grid_size, np.int64)
        for column, row in self._env.goals:
            squares[row, column] = 3
        for shelf in self._env.shelfs:
            squares[shelf.y, shelf.x] = 2 if shelf in self._env.request_queue else 1
        ahead = {"UP": (-1, 0), "DOWN": (1, 0), "LEFT": (0, -1), "RIGHT": (0, 1)}
        pieces = [
            Piece(robot.y, robot.x, BLUE, str(i), ahead[robot.dir.name], robot.carrying_shelf is not None)
            for i, robot in enumerate(self._env.agents)
        ]
        legend = [Legend(BLUE, "robot"), Legend(ORANGE, "requested"), Legend(GREEN, "goal")]
        return draw_grid(squares, (PALE, GREY, ORANGE, GREEN), pieces, caption, legend)

    def close(self) -> None:
        """Close rware's environment."""
        self._env.close()
