"""The landmark diagnostic: who goes where is free, but no two agents may go to the same place.

Three landmarks on a circle around three agents. All six assignments are equally good: the best joint action has six
modes, and the average of two of them covers fewer landmarks than either.
"""

import numpy as np
from numpy.typing import NDArray

from environments.array_env import ArrayVector
from environments.drawing import Picture, draw_particles
from environments.vector import Array, VectorStep

N_AGENTS = 3
RADIUS = 0.7
REACH = 0.2


class LandmarksVector(ArrayVector):
    """E copies of the landmark diagnostic: one step, continuous.

    The seed turns the circle of three landmarks by any angle. Every agent sees all landmarks, in the order around the
    circle, 6 numbers, which are the state as well. Its action is the point in the square [-1, 1]^2 that it jumps to.

        reward = mean over landmarks of max(0, 1 - distance of the nearest agent / RADIUS)

    for everybody: 1 if every landmark is met exactly, 0 if all stay in the middle; a third at most if all go to one.
    The episode is terminal after the step, and won if every landmark has an agent within REACH = .2.

    Args:
        n_envs: Number of copies E.

    Raises:
        ValueError: If ``n_envs`` is not positive.
    """

    frames_per_second = 1

    def __init__(self, n_envs: int) -> None:
        super().__init__(
            name="matrix/landmarks",
            n_envs=n_envs,
            agents=[f"agent_{i}" for i in range(N_AGENTS)],
            obs_dim=2 * N_AGENTS,
            state_dim=2 * N_AGENTS,
            action_dim=2,
            discrete=False,
            can_be_won=True,
        )
        self._landmarks = np.zeros((n_envs, N_AGENTS, 2))
        self._place = np.zeros((n_envs, N_AGENTS, 2))  # before they jump, the middle

    def _start(self, seeds: NDArray[np.uint32]) -> VectorStep:
        """Turn the circle."""
        turns = np.array([np.random.default_rng(int(seed)).random() for seed in seeds])
        angles = 2.0 * np.pi * (turns[:, None] + np.arange(N_AGENTS) / N_AGENTS)
        self._place = np.zeros_like(self._place)
        self._landmarks = RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        return self._look()

    def _advance(self, actions: Array) -> VectorStep:
        """Jump."""
        self._place = actions.astype(np.float64)
        distances = np.linalg.norm(self._landmarks[:, :, None] - actions[:, None], axis=-1)  # (E, landmarks, N)
        nearest = distances.min(axis=2)
        rewards = np.maximum(0.0, 1.0 - nearest / RADIUS).mean(axis=1)
        return self._look(np.repeat(rewards[:, None], N_AGENTS, axis=1), (nearest <= REACH).all(axis=1))

    def draw(self, caption: str) -> Picture:
        """The first copy from above; a landmark's ring is as large as REACH.

        Args:
            caption: Above the picture.

        Returns:
            (512, 480, 3) uint8.
        """
        sizes, reaches = np.full(N_AGENTS, 0.06), np.full(N_AGENTS, REACH)
        return draw_particles(self._place[0], sizes, N_AGENTS, self._landmarks[0], reaches, 0, caption)

    def _look(self, rewards: Array | None = None, won: NDArray[np.bool_] | None = None) -> VectorStep:
        """What everybody sees."""
        state = self._landmarks.reshape(self.n_envs, -1)
        over = None if rewards is None else np.ones(self.n_envs, bool)
        return self._shown(np.repeat(state[:, None], N_AGENTS, axis=1), state, rewards, terminals=over, won=won)
