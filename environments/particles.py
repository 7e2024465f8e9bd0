"""Particle worlds as arrays: many copies of mpe2's games, and the games that OMAR's data was recorded in.

Every game has three sets of rules:

    continuous   mpe2's; actions of five pushes in [-1, 1], mapped to mpe2's [0, 1] by u = (a + 1) / 2: nothing, left,
                 right, down, up. The force on an agent is proportional to (right - left, up - down).
    discrete     mpe2's; the five pushes to choose from.
    omar         OMAR's; actions of two numbers in [-1, 1], the push along both axes. Velocities change before positions
                 do, pushes count as strong as the square of mpe2's (spread: the same), and rewards differ, see each
                 game.

Copies under mpe2's rules equal mpe2's own episodes with the same seeds up to rounding. Episodes only ever end by the
limit of 25 steps: truncated, never terminal, and neither won nor lost. The state is all observations in a row.

**Preys** of tag and world are not part of the learning team. They follow one fixed policy,
:func:`environments.preys.flee`: full thrust away from the nearest predator, and back inside near the border. Under
OMAR's rules a prey also appears as the last agent, as in OMAR's data: it has an observation and receives the predators'
reward, but its action is dropped; and it follows OMAR's own network if that is there
(:func:`environments.preys.omar_prey`).

Original: https://github.com/Farama-Foundation/MPE2; https://github.com/ling-pan/OMAR, ``multiagent-particle-envs``
(Pan et al., 2022, arXiv:2111.11188).

Differences from the original:
    - OMAR's starts come from the seed of each episode here, not from one global generator.
    - OG-MARL's wrapper of OMAR's spread plays 26 steps; here, as in the data, it is 25.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from environments.array_env import ArrayVector
from environments.drawing import Picture, draw_particles
from environments.preys import flee
from environments.vector import Array, VectorStep

Floats = NDArray[np.float64]
Rules = Literal["continuous", "discrete", "omar"]
#: Policy of the preys: their observations (E, M, O) -> their pushes (E, M, 2) in [-1, 1].
Prey = Callable[[Floats], Floats]

MAX_STEPS = 25
TIME_STEP, DAMPING = 0.1, 0.25
CONTACT_FORCE, CONTACT_MARGIN = 100.0, 0.001
PUSHES = np.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])  # of the five discrete actions
N_PUSHES = len(PUSHES)


def nearest_push(pushes: Floats) -> NDArray[np.int64]:
    """The discrete action that goes most the way of a push, (…, 2) -> (…): 1 to 4, or 0 for no push."""
    along = pushes @ PUSHES.T
    along[..., 0] = 0.0
    chosen: NDArray[np.int64] = along.argmax(axis=-1)
    return chosen


@dataclass(frozen=True)
class Bodies:
    """What is in a world: first the agents, predators before preys, then the landmarks.

    Attributes:
        names: Names of the agents that the game shows.
        sizes: Radius of each agent, (M,).
        thrust: Force of a full push of each agent, (M,).
        max_speed: Of each agent, (M,).
        landmark_sizes: Radius of each landmark, (L,).
        n_obstacles: How many of the landmarks cannot be entered; they come first.
        velocity_first: Whether velocities change before positions do.
    """

    names: tuple[str, ...]
    sizes: Floats
    thrust: Floats
    max_speed: Floats
    landmark_sizes: Floats
    n_obstacles: int
    velocity_first: bool


class ParticleVector(ArrayVector):
    """E copies of a particle world; what the game is about is up to the subclasses.

    Args:
        name: Scenario.
        n_envs: Number of copies E.
        rules: Whose rules.
        bodies: What is in the world.
        obs_dim: Length O of an observation.
        n_words: Length of the messages that the first agent sends; 0 for none. Its actions then are pushes and words,
            one behind the other if continuous, every pair of both if discrete (push + 5 word), and the other agents'
            are filled up with entries or illegal actions that have no effect.
        prey: Policy of the preys, which have to be shown; by default they flee.
    """

    frames_per_second = 8

    def __init__(
        self,
        name: str,
        n_envs: int,
        rules: Rules,
        bodies: Bodies,
        obs_dim: int,
        n_words: int = 0,
        prey: Prey | None = None,
    ) -> None:
        n, self._bodies, self._rules, self._prey = len(bodies.names), bodies, rules, prey
        action_dim = {"continuous": N_PUSHES + n_words, "discrete": N_PUSHES * max(n_words, 1), "omar": 2}[rules]
        super().__init__(
            name=name,
            n_envs=n_envs,
            agents=bodies.names,
            obs_dim=obs_dim,
            state_dim=n * obs_dim,
            action_dim=action_dim,
            discrete=rules == "discrete",
            can_be_won=False,
        )
        self._legal = np.ones((n_envs, n, action_dim), bool)
        if rules == "discrete":
            self._legal[:, 1:, N_PUSHES:] = False
        self._n_words = n_words
        self._steps = 0
        self._position = np.zeros((n_envs, len(bodies.sizes), 2))
        self._velocity = np.zeros_like(self._position)
        self._landmarks = np.zeros((n_envs, len(bodies.landmark_sizes), 2))
        self._message = np.zeros((n_envs, n_words))

    @property
    def _n_predators(self) -> int:
        """How many agents decide for themselves."""
        return self.n_agents

    def _place(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Where agents (M, 2) and landmarks (L, 2) start, drawn in mpe2's order."""
        position = generator.uniform(-1.0, 1.0, self._position.shape[1:])
        return position, generator.uniform(-0.9, 0.9, self._landmarks.shape[1:])

    @abstractmethod
    def _observe(self) -> Floats:
        """Observations, (E, N, O)."""

    @abstractmethod
    def _rewards(self) -> Floats:
        """Rewards, (E, N)."""

    def _start(self, seeds: NDArray[np.uint32]) -> VectorStep:
        """Place everything as mpe2 does with these seeds."""
        for copy, seed in enumerate(seeds):
            self._position[copy], self._landmarks[copy] = self._place(seeding.np_random(int(seed))[0])
        self._velocity[:] = 0.0
        self._message[:] = 0.0
        self._steps = 0
        obs = self._observe()
        return self._shown(obs, obs.reshape(self.n_envs, -1), legal_actions=self._legal)

    def _advance(self, actions: Array) -> VectorStep:
        """Push everybody."""
        if self._steps < MAX_STEPS:  # all copies end together
            self._move(self._pushes(actions))
            self._steps += 1
        obs = self._observe()
        over = np.full(self.n_envs, self._steps == MAX_STEPS)
        return self._shown(
            obs, obs.reshape(self.n_envs, -1), self._rewards(), legal_actions=self._legal, truncations=over
        )

    def _pushes(self, actions: Array) -> Floats:
        """Pushes of all agents, (E, M, 2); remembers the message of the first."""
        if self._rules == "discrete":
            pushes = PUSHES[actions % N_PUSHES]
            self._message = np.eye(self._n_words)[actions[:, 0] // N_PUSHES] if self._n_words else self._message
        elif self._rules == "continuous":
            shares = (actions + 1.0) / 2.0
            pushes = (shares[..., [2, 4]] - shares[..., [1, 3]]).astype(np.float64)
            self._message = shares[:, 0, N_PUSHES:].astype(np.float64)
        else:
            pushes = actions.astype(np.float64)
        pushes = pushes[:, : self._n_predators]
        predators = self._n_predators
        if self._prey is None:
            fleeing = flee(self._position[:, predators:], self._position[:, :predators])
        else:
            fleeing = self._prey(self._observe()[:, predators:])
        if self._rules == "discrete":
            fleeing = PUSHES[nearest_push(fleeing)]
        return np.concatenate([pushes, fleeing.astype(np.float32)], axis=1)  # as coarse as the actions of the others

    def _move(self, pushes: Floats) -> None:
        """mpe2's ``World.step``: damped motion with pushes and soft collisions, all masses 1."""
        bodies, m = self._bodies, len(self._bodies.sizes)
        others = np.concatenate([self._position, self._landmarks[:, : bodies.n_obstacles]], axis=1)
        sizes = np.concatenate([bodies.sizes, bodies.landmark_sizes[: bodies.n_obstacles]])
        away = self._position[:, :, None] - others[:, None]  # (E, M, M + obstacles, 2), from the second to the first
        distance = np.linalg.norm(away, axis=-1)
        distance[:, range(m), range(m)] = np.inf  # nobody collides with itself
        depth = np.logaddexp(0.0, (bodies.sizes[:, None] + sizes - distance) / CONTACT_MARGIN) * CONTACT_MARGIN
        force = pushes * bodies.thrust[:, None]
        force += (CONTACT_FORCE * away / distance[..., None] * depth[..., None]).sum(axis=2)
        before = self._velocity
        self._velocity = before * (1.0 - DAMPING) + force * TIME_STEP
        speed = np.linalg.norm(self._velocity, axis=-1)
        fast = speed > bodies.max_speed
        slowed = np.where(fast, bodies.max_speed, 1.0) / np.where(fast, speed, 1.0)
        self._velocity = self._velocity * slowed[..., None]
        self._position = self._position + (self._velocity if bodies.velocity_first else before) * TIME_STEP

    def draw(self, caption: str) -> Picture:
        """The first copy from above.

        Args:
            caption: Above the picture.

        Returns:
            (512, 480, 3) uint8.
        """
        return self.draw_places(self._position[0], self._landmarks[0], caption)

    def draw_places(self, position: Floats, landmarks: Floats, caption: str) -> Picture:
        """This game with agents (M, 2) and landmarks (L, 2) at given places, from above.

        Args:
            position: Of the agents, predators before preys.
            landmarks: Their positions.
            caption: Above the picture.

        Returns:
            (512, 480, 3) uint8.
        """
        bodies, n_team = self._bodies, self._n_predators
        hunted = n_team < len(position)
        return draw_particles(
            position,
            bodies.sizes,
            n_team,
            landmarks,
            bodies.landmark_sizes,
            bodies.n_obstacles,
            caption,
            words=("predators", "prey", "food", "forest") if hunted else ("team", "", "landmark", ""),
        )

    def _distances(self, first: Floats, second: Floats) -> Floats:
        """Of everything (E, A, 2) to everything (E, B, 2): (E, A, B)."""
        distances: Floats = np.linalg.norm(first[:, :, None] - second[:, None], axis=-1)
        return distances

    def _ways(self, to: Floats) -> Floats:
        """From every shown agent to places (E, K, 2), flat: (E, N, 2 K)."""
        ways = to[:, None] - self._position[:, : self.n_agents, None]
        return ways.reshape(self.n_envs, self.n_agents, -1)

    def _ways_to_others(self) -> Floats:
        """From every shown agent to all other agents, (E, N, M - 1, 2)."""
        ways = self._position[:, None] - self._position[:, : self.n_agents, None]
        return np.stack([np.delete(ways[:, i], i, axis=1) for i in range(self.n_agents)], axis=1)

    def _own(self) -> list[Floats]:
        """Own velocity and position, 2 x (E, N, 2)."""
        return [self._velocity[:, : self.n_agents], self._position[:, : self.n_agents]]
