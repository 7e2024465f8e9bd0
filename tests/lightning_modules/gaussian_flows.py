"""Flows of Gaussian data, for which everything is known exactly, in the form of a network that knows nothing else."""

from dataclasses import dataclass

import torch

from lightning_modules.networks.encoders import Encoder

MEAN, STD = 0.2, 0.15
"""Actions N(.2, .15²): inside [-1, 1] for all practical purposes."""


@dataclass(frozen=True)
class Gaussian:
    """Data N(mean, std²) under noise N(0, 1): z_t is N((1 - t) mean, s(t)²) with s(t)² = (1 - t)² std² + t²."""

    mean: float = MEAN
    std: float = STD

    def spread(self, t):
        return ((1 - t) ** 2 * self.std**2 + t**2).sqrt()

    def velocity(self, z, t):
        """E[noise - x | z_t = z] = -mean + (t - (1 - t) std²) / s(t)² (z - (1 - t) mean)."""
        slope = (t - (1 - t) * self.std**2) / self.spread(t) ** 2
        return -self.mean + slope * (z - (1 - t) * self.mean)

    def average_velocity(self, z, r, t):
        """(z_t - z_r) / (t - r) on the exact flow, along which (z_t - (1 - t) mean) / s(t) stays what it is."""
        end = (1 - r) * self.mean + self.spread(r) / self.spread(t) * (z - (1 - t) * self.mean)
        return torch.where(t > r, (z - end) / (t - r).clamp_min(1e-12), self.velocity(z, t))

    def spread_by_euler(self, steps):
        """Standard deviation that K steps of Euler draw: Π_k (1 - slope(k / K) / K), less than std, which it tends to.

        The velocity is linear in z, and so is every step.
        """
        spread = 1.0
        for k in range(1, steps + 1):
            t = k / steps
            spread *= 1 - (t - (1 - t) * self.std**2) / ((1 - t) ** 2 * self.std**2 + t**2) / steps
        return spread


class ExactNetwork:
    """Answers like a trained velocity network: ``good`` where good actions are asked for, ``all`` otherwise."""

    def __init__(self, good, every=None, n_agents=2):
        self.good, self.every = good, every or good
        self.encoder = Encoder(1, n_agents)
        self.action_dim, self.discrete = 1, False

    def __call__(self, z, r, t, context):
        asked = context.condition[:, 1:] > 0
        return torch.where(asked, self.good.average_velocity(z, r, t), self.every.average_velocity(z, r, t))


def played(policy, episodes=2000, seed=0, n_agents=2, memory=None):
    """Actions (episodes, N, 1) that a policy draws where there is nothing to see."""
    dtype = torch.get_default_dtype()
    legal = torch.ones(episodes, n_agents, 1, dtype=torch.bool)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return policy.act(torch.zeros(episodes, n_agents, 1, dtype=dtype), legal, memory, source)[0]
