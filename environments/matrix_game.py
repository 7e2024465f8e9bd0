"""One-step team games with a table of rewards: coordination and nothing else."""

import numpy as np

from environments.team_env import Array, Moment, TeamEnv

#: Team reward by the two agents' actions. XOR pays only for opposite actions: both (0, 1) and (1, 0) are optimal, and
#: the average of the two, each agent tossing its own coin, earns half.
PAYOFFS = {"xor": np.array([[0.0, 1.0], [1.0, 0.0]])}


class MatrixGame(TeamEnv):
    """Two agents choose once, at the same time, and both receive the table's entry.

    Observation and state are the constant 1: there is nothing to see. The episode is terminal after the one step; it is
    won with the table's highest entry.

    Args:
        name: Which table, a key of ``PAYOFFS``: "xor".

    Raises:
        ValueError: If there is no such table.
    """

    def __init__(self, name: str = "xor") -> None:
        if name not in PAYOFFS:
            raise ValueError(f"unknown matrix game '{name}'; choose one of: {', '.join(PAYOFFS)}")
        self._payoffs = PAYOFFS[name]
        super().__init__(
            name=f"matrix/{name}",
            agents=[f"agent_{i}" for i in range(self._payoffs.ndim)],
            obs_dim=1,
            state_dim=1,
            action_dim=self._payoffs.shape[0],
            discrete=True,
            can_be_won=True,
        )

    def _start(self, seed: int) -> Moment:
        """The only moment there is; the seed changes nothing."""
        del seed
        return self._moment(reward=0.0, terminal=False)

    def _advance(self, actions: Array) -> Moment:
        """Pay out."""
        return self._moment(reward=float(self._payoffs[tuple(actions)]), terminal=True)

    def _moment(self, reward: float, terminal: bool) -> Moment:
        """The constant observation with a reward for every agent."""
        n_agents = self._payoffs.ndim
        return Moment(
            obs=np.ones((n_agents, 1), np.float32),
            state=np.ones(1, np.float32),
            legal_actions=np.ones((n_agents, self.action_dim), bool),
            rewards=np.full(n_agents, reward, np.float32),
            terminal=terminal,
            truncated=False,
            won=terminal and reward == self._payoffs.max(),
        )
