"""One-step team games with a table of rewards: coordination and nothing else."""

import numpy as np
from numpy.typing import NDArray

from environments.array_env import ArrayVector, OneCopy
from environments.drawing import Picture, draw_table
from environments.vector import Array, VectorStep

#: Team reward by the two agents' actions. XOR pays only for opposite actions: both (0, 1) and (1, 0) are optimal, and
#: the average of the two, each agent tossing its own coin, earns half.
PAYOFFS = {"xor": np.array([[0.0, 1.0], [1.0, 0.0]])}


class MatrixVector(ArrayVector):
    """E copies of a matrix game: all agents choose once, at the same time, and all receive the table's entry.

    Observation and state are the constant 1: there is nothing to see, and the seed changes nothing. The episode is
    terminal after the one step; it is won with the table's highest entry.

    Args:
        n_envs: Number of copies E.
        name: Which table, a key of ``PAYOFFS``: "xor".

    Raises:
        ValueError: If there is no such table, or ``n_envs`` is not positive.
    """

    frames_per_second = 1

    def __init__(self, n_envs: int, name: str = "xor") -> None:
        if name not in PAYOFFS:
            raise ValueError(f"unknown matrix game '{name}'; choose one of: {', '.join(PAYOFFS)}")
        self._payoffs = PAYOFFS[name]
        super().__init__(
            name=f"matrix/{name}",
            n_envs=n_envs,
            agents=[f"agent_{i}" for i in range(self._payoffs.ndim)],
            obs_dim=1,
            state_dim=1,
            action_dim=self._payoffs.shape[0],
            discrete=True,
            can_be_won=True,
        )
        self._chosen: tuple[int, int] | None = None  # in the first copy
        self._ones = np.ones((n_envs, self.n_agents, 1)), np.ones((n_envs, 1))

    def _start(self, seeds: NDArray[np.uint32]) -> VectorStep:
        """The only moment there is."""
        self._chosen = None
        return self._shown(*self._ones)

    def _advance(self, actions: Array) -> VectorStep:
        """Pay out."""
        self._chosen = int(actions[0, 0]), int(actions[0, 1])
        paid = self._payoffs[tuple(actions.T)]
        rewards = np.repeat(paid[:, None], self.n_agents, axis=1)
        return self._shown(*self._ones, rewards, terminals=np.ones(self.n_envs, bool), won=paid == self._payoffs.max())

    def draw(self, caption: str) -> Picture:
        """The table, and what was chosen in the first copy.

        Args:
            caption: Above the picture.

        Returns:
            (320, 448, 3) uint8.
        """
        return draw_table(self._payoffs, self._chosen, caption)


class MatrixGame(OneCopy):
    """One copy of a matrix game as a PettingZoo ``ParallelEnv``, see :class:`MatrixVector`.

    Args:
        name: Which table, a key of ``PAYOFFS``: "xor".

    Raises:
        ValueError: If there is no such table.
    """

    def __init__(self, name: str = "xor") -> None:
        super().__init__(lambda n_envs: MatrixVector(n_envs, name))
