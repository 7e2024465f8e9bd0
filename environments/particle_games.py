"""Three games of the particle worlds: cover the landmarks; tag the prey; tag the prey among forests."""

import numpy as np
from numpy.typing import NDArray

from environments.particles import Bodies, Floats, ParticleVector, Prey, Rules


class SpreadVector(ParticleVector):
    """simple_spread: three agents have to cover three landmarks without touching each other.

    mpe2: half of the team's term (minus the distance of each landmark to its nearest agent, summed) and half of the own
    one (minus 1 for each agent touched): ``local_ratio`` .5. OMAR: for each landmark the inverse distance of its
    nearest agent, at most 10, minus 5 for each agent touched.

    Observation: own velocity 2, own position 2, ways to the landmarks 3 x 2 and to the other agents 2 x 2, their
    (silent) messages 2 x 2.

    Args:
        n_envs: Number of copies E.
        rules: Whose rules.
        name: Scenario.
    """

    def __init__(self, n_envs: int, rules: Rules = "continuous", name: str = "mpe/simple_spread") -> None:
        bodies = Bodies(
            names=("agent_0", "agent_1", "agent_2"),
            sizes=np.full(3, 0.15),
            thrust=np.full(3, 5.0),
            max_speed=np.full(3, np.inf),
            landmark_sizes=np.full(3, 0.05),
            n_obstacles=0,
            velocity_first=rules == "omar",
        )
        super().__init__(name, n_envs, rules, bodies, obs_dim=18)

    def _place(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Agents and landmarks anywhere in the square."""
        return generator.uniform(-1.0, 1.0, (3, 2)), generator.uniform(-1.0, 1.0, (3, 2))

    def _observe(self) -> Floats:
        """Observations in mpe2's order."""
        others = self._ways_to_others().reshape(self.n_envs, 3, -1)
        messages = np.zeros((self.n_envs, 3, 4))
        return np.concatenate([*self._own(), self._ways(self._landmarks), others, messages], axis=-1)

    def _rewards(self) -> Floats:
        """Landmarks covered and agents touched."""
        nearest = self._distances(self._position, self._landmarks).min(axis=1)  # (E, landmarks)
        touched = (self._distances(self._position, self._position) < 2 * 0.15).sum(axis=2) - 1  # minus itself
        rewards: Floats = -0.5 * nearest.sum(axis=1)[:, None] - 0.5 * touched
        if self._rules == "omar":
            rewards = np.minimum(1.0 / np.maximum(nearest, 1e-12), 10.0).sum(axis=1)[:, None] - 5.0 * touched
        return rewards


class _Chase(ParticleVector):
    """Predators that are rewarded for every one of them that touches a prey."""

    def _caught(self) -> Floats:
        """How many pairs of predator and prey touch, (E, 1)."""
        reach = self._bodies.sizes[: self._n_predators, None] + self._bodies.sizes[self._n_predators :]
        caught: Floats = (self._to_preys() < reach).sum(axis=(1, 2))[:, None].astype(np.float64)
        return caught

    def _to_preys(self) -> Floats:
        """Distances of predators to preys, (E, P, preys)."""
        return self._distances(self._position[:, : self._n_predators], self._position[:, self._n_predators :])

    def _filled_up(self, obs: Floats, preys: Floats) -> Floats:
        """Observations of the predators (E, P, O) and of the preys that are shown, padded with zeros."""
        surplus = (0, self.obs_dim - preys.shape[-1])
        return np.concatenate([obs, np.pad(preys, ((0, 0), (0, 0), surplus))], axis=1)


class TagVector(_Chase):
    """simple_tag: three slow predators hunt one fast prey around two obstacles.

    mpe2: every predator receives 10 for each predator that touches the prey. OMAR: the same, minus .1 times the
    distance of every predator to the prey.

    Observation: own velocity 2, own position 2, ways to the obstacles 2 x 2 and to the other agents 3 x 2 (prey last),
    the prey's velocity 2; the prey itself, shown under OMAR's rules, has no such velocity and two zeros instead.

    Args:
        n_envs: Number of copies E.
        rules: Whose rules.
        name: Scenario.
        prey: Policy of the prey, under OMAR's rules; by default it flees.
    """

    def __init__(
        self, n_envs: int, rules: Rules = "continuous", name: str = "mpe/simple_tag", prey: Prey | None = None
    ) -> None:
        omar = rules == "omar"
        bodies = Bodies(
            names=tuple(f"adversary_{i}" for i in range(3)) + ("agent_0",) * omar,
            sizes=np.array([0.075] * 3 + [0.05]),
            thrust=np.array([3.0] * 3 + [4.0]) ** (2 if omar else 1),
            max_speed=np.array([1.0] * 3 + [1.3]),
            landmark_sizes=np.full(2, 0.2),
            n_obstacles=2,
            velocity_first=omar,
        )
        super().__init__(name, n_envs, rules, bodies, obs_dim=16, prey=prey)

    @property
    def _n_predators(self) -> int:
        """Three, whoever is shown."""
        return 3

    def _observe(self) -> Floats:
        """Observations in mpe2's order."""
        others = self._ways_to_others().reshape(self.n_envs, self.n_agents, -1)
        seen = np.concatenate([*self._own(), self._ways(self._landmarks), others], axis=-1)
        prey_velocity = np.repeat(self._velocity[:, 3:], 3, axis=1)
        predators = np.concatenate([seen[:, :3], prey_velocity], axis=-1)
        return self._filled_up(predators, seen[:, 3:])

    def _rewards(self) -> Floats:
        """Touches, and distances under OMAR's rules, the same for everybody."""
        rewards = 10.0 * self._caught()
        if self._rules == "omar":
            rewards = rewards - 0.1 * self._to_preys().min(axis=2).sum(axis=1)[:, None]
        return np.repeat(rewards, self.n_agents, axis=1)


class WorldVector(_Chase):
    """simple_world_comm: predators hunt preys that forests can hide, led by one that sees everything and can speak.

    mpe2: four predators, the first of which leads, and two preys; every predator receives 5 for each touch of a
    predator and a prey, minus .1 times its own distance to the nearest prey. OMAR (there called simple_world): three
    predators that all see everything and are silent, and one prey; minus .1 times the distances of all predators.

    Whoever is in a forest sees only who is in the same one; whoever is in none sees only who is in none. The leader
    sees everybody. Observation: own velocity 2, own position 2, ways to obstacle, two pieces of food and two forests 5
    x 2, to the other agents and the preys' velocities (zero if not seen), 1 or -1 for each forest one is in or not, and
    the leader's message 4 (not under OMAR's rules). The prey that is shown there has no prey's velocity and two zeros
    at the end.

    Args:
        n_envs: Number of copies E.
        rules: Whose rules.
        name: Scenario.
        prey: Policy of the prey, under OMAR's rules; by default it flees.
    """

    def __init__(
        self, n_envs: int, rules: Rules = "continuous", name: str = "mpe/simple_world_comm", prey: Prey | None = None
    ) -> None:
        omar = rules == "omar"
        self._predators, preys = (3, 1) if omar else (4, 2)
        first = "adversary_0" if omar else "leadadversary_0"
        rest = tuple(f"adversary_{i if omar else i - 1}" for i in range(1, self._predators))
        bodies = Bodies(
            names=(first, *rest) + ("agent_0",) * omar,
            sizes=np.array([0.075] * self._predators + [0.045] * preys),
            thrust=np.array([3.0] * self._predators + [4.0] * preys) ** (2 if omar else 1),
            max_speed=np.array([1.0] * self._predators + [1.3] * preys),
            landmark_sizes=np.array([0.2, 0.03, 0.03, 0.3, 0.3]),  # obstacle, food, forests
            n_obstacles=1,
            velocity_first=omar,
        )
        super().__init__(name, n_envs, rules, bodies, 24 if omar else 34, 0 if omar else 4, prey)

    @property
    def _n_predators(self) -> int:
        """Whoever is not a prey."""
        return self._predators

    def _place(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """As mpe2 does, which draws the places of food and forests twice and keeps the second."""
        position, landmarks = super()._place(generator)
        landmarks[1:] = generator.uniform(-0.9, 0.9, (4, 2))
        return position, landmarks

    def _observe(self) -> Floats:
        """Observations in mpe2's order."""
        p, e = self._n_predators, self.n_envs
        inside = self._distances(self._position, self._landmarks[:, 3:]) < self._bodies.sizes[:, None] + 0.3
        seen = self._seen(inside)  # (E, N, M - 1)
        ways = (self._ways_to_others() * seen[..., None]).reshape(e, self.n_agents, -1)
        forests = np.where(inside[:, : self.n_agents], 1.0, -1.0)
        common = [*self._own(), self._ways(self._landmarks), ways]
        preys = np.concatenate([*(part[:, p:] for part in common), forests[:, p:]], axis=-1)
        velocities = (self._velocity[:, None, p:] * seen[:, :p, p - 1 :, None]).reshape(e, p, -1)
        words = np.repeat(self._message[:, None], p, axis=1)
        predators = [*(part[:, :p] for part in common), velocities, forests[:, :p], words]
        return self._filled_up(np.concatenate(predators, axis=-1), preys)

    def _seen(self, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether each shown agent sees each other one, (E, N, M - 1), by the forests that each is in, (E, M, 2)."""
        together = (inside[:, :, None] & inside[:, None]).any(axis=-1)  # (E, M, M)
        outside = np.asarray(~inside.any(axis=-1))
        sees = together | (outside[:, :, None] & outside[:, None])
        sees[:, 0] = True
        if self._rules == "omar":
            sees[:] = True
        return np.stack([np.delete(sees[:, i], i, axis=1) for i in range(self.n_agents)], axis=1)

    def _rewards(self) -> Floats:
        """Touches and distances."""
        nearest = self._to_preys().min(axis=2)  # (E, P)
        caught = 5.0 * self._caught()
        if self._rules == "omar":
            return np.repeat(caught - 0.1 * nearest.sum(axis=1)[:, None], self.n_agents, axis=1)
        rewards: Floats = caught - 0.1 * nearest
        return rewards
