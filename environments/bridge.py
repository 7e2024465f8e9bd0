"""The bridge: two agents have to pass a narrow bridge one after the other, and it does not matter who goes first.

    A . # # # . b      A starts at the left and has to reach a, B at the right and has to reach b.
    . . . . . . .      The middle row is the only way: three squares wide enough for one.
    a . # # # . B      # is water.

Two best teams exist, "A first" and "B first". A mixture of the two, each agent choosing for itself, meets on the bridge
or waits for nothing.

Original: the task is that of AlberDICE (Matsunaga et al., 2023, arXiv:2311.02194), whose grid and rewards differ.
"""

import numpy as np
from numpy.typing import NDArray

from environments.array_env import ArrayVector
from environments.drawing import BLUE, ORANGE, PALE, SKY, Legend, Picture, Piece, draw_grid, faded
from environments.vector import Array, VectorStep

HEIGHT, WIDTH = 3, 7
MAX_STEPS = 30
STARTS = np.array([[0, 0], [2, 6]])  # row and column
GOALS = np.array([[2, 6], [0, 0]])
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
LAND = np.ones((HEIGHT, WIDTH), bool)
LAND[[0, 2], 2:5] = False
STEP_REWARD, CRASH_REWARD, GOAL_REWARD = -0.1, -1.0, 10.0


class BridgeVector(ArrayVector):
    """E copies of the bridge.

    Rules, in this order:

    1. Each agent stays (0), or goes up (1), down (2), left (3) or right (4). Moves into water or off the map are
       illegal. An agent that has reached its goal can only stay.
    2. If both would be on the same square, or would change places, or if both would be on the bridge (the middle row's
       three squares), nobody moves: a crash.
    3. The team receives -0.1 per step, -1 more for a crash, and 10 when the second agent reaches its goal, which
       is won and terminal. After 30 steps the episode is cut (truncated).

    Each agent starts in its corner, shifted by a row down or up with probability one half: the only thing that the seed
    decides. Observation: own row and column, the other's row and column, scaled to [-1, 1], and 1 or 0 for being the
    first agent. State: both agents' rows and columns, and the time as a share of the limit.

    Args:
        n_envs: Number of copies E.

    Raises:
        ValueError: If ``n_envs`` is not positive.
    """

    frames_per_second = 4

    def __init__(self, n_envs: int) -> None:
        super().__init__(
            name="matrix/bridge",
            n_envs=n_envs,
            agents=("agent_0", "agent_1"),
            obs_dim=5,
            state_dim=5,
            action_dim=len(MOVES),
            discrete=True,
            can_be_won=True,
        )
        self._place = np.zeros((n_envs, 2, 2), np.int64)
        self._steps = 0

    def _start(self, seeds: NDArray[np.uint32]) -> VectorStep:
        """Put both agents into their corners, or next to them."""
        shifts = np.stack([np.random.default_rng(int(seed)).integers(0, 2, 2) for seed in seeds])  # (E, 2)
        self._place = np.tile(STARTS, (self.n_envs, 1, 1))
        self._place[:, :, 0] += shifts * np.array([1, -1])
        self._steps = 0
        return self._look()

    def _advance(self, actions: Array) -> VectorStep:
        """Move both agents, or nobody."""
        legal = np.take_along_axis(self._legal(), actions[..., None].astype(np.int64), axis=-1)[..., 0]
        wanted = self._place + MOVES[np.where(legal, actions, 0)]  # illegal actions have no effect
        crash = self._crashes(wanted)
        self._place = np.where(crash[:, None, None], self._place, wanted)
        self._steps += 1
        won: NDArray[np.bool_] = np.asarray(self._arrived().all(axis=1))
        rewards = STEP_REWARD + CRASH_REWARD * crash + GOAL_REWARD * won
        return self._look(np.repeat(rewards[:, None], 2, axis=1), won)

    def _crashes(self, wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the agents get in each other's way, (E,)."""
        same = (wanted[:, 0] == wanted[:, 1]).all(axis=1)
        swapped = (wanted == self._place[:, ::-1]).all(axis=(1, 2))
        on_bridge = (wanted[..., 0] == 1) & (wanted[..., 1] >= 2) & (wanted[..., 1] <= 4)
        crashes: NDArray[np.bool_] = same | swapped | on_bridge.all(axis=1)
        return crashes

    def _arrived(self) -> NDArray[np.bool_]:
        """Who is at the goal, (E, 2)."""
        arrived: NDArray[np.bool_] = (self._place == GOALS).all(axis=2)
        return arrived

    def _legal(self) -> NDArray[np.bool_]:
        """Legal actions, (E, 2, 5)."""
        to = self._place[:, :, None] + MOVES  # (E, 2, 5, 2)
        inside = ((to >= 0) & (to < [HEIGHT, WIDTH])).all(axis=-1)
        row, column = np.clip(to[..., 0], 0, HEIGHT - 1), np.clip(to[..., 1], 0, WIDTH - 1)
        legal: NDArray[np.bool_] = inside & LAND[row, column]
        legal[self._arrived()] = np.arange(len(MOVES)) == 0
        return legal

    def draw(self, caption: str) -> Picture:
        """The first copy from above; goals are pale, a is that of A and b that of B.

        Args:
            caption: Above the picture.

        Returns:
            (224, 448, 3) uint8.
        """
        places = np.concatenate([GOALS, self._place[0]]).tolist()
        colors = (faded(BLUE), faded(ORANGE), BLUE, ORANGE)
        looks = zip(places, colors, "abAB", strict=True)
        pieces = [Piece(row, column, color, word) for (row, column), color, word in looks]
        return draw_grid(np.where(LAND, 0, 1), (PALE, SKY), pieces, caption, [Legend(SKY, "water")])

    def _look(self, rewards: Array | None = None, won: NDArray[np.bool_] | None = None) -> VectorStep:
        """What both agents see."""
        places = self._place / [(HEIGHT - 1) / 2, (WIDTH - 1) / 2] - 1.0  # (E, 2, 2)
        first = np.tile([[1.0], [0.0]], (self.n_envs, 1, 1))
        share = np.full((self.n_envs, 1), self._steps / MAX_STEPS)
        over = np.full(self.n_envs, self._steps >= MAX_STEPS)
        return self._shown(
            np.concatenate([places, places[:, ::-1], first], axis=-1),
            np.concatenate([places.reshape(self.n_envs, -1), share], axis=-1),
            rewards,
            legal_actions=self._legal(),
            terminals=won,
            truncations=over if won is None else over & ~won,
            won=won,
        )
