"""The network that takes the noise out of what a team saw over a stretch of time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules.networks.encoders import Encoder
from lightning_modules.networks.noise_factors import AgentWeights
from lightning_modules.networks.team_shape import TeamShape

N_FREQUENCIES = 4
IMAGINED, SHOWN, ABSENT = 0.0, 1.0, -1.0
"""Roles of an observation: found by the sampler; known; nothing, because it is hidden or behind an episode's end."""


class ResidualBlock(nn.Module):
    """Mixes what one agent's row holds: h + W_2 GELU(W_1 LayerNorm(h) + W_3 e), with e the level of noise and goal.

    Args:
        width: Size C of a row.
        embedding_dim: Size of e.
    """

    def __init__(self, width: int, embedding_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.rise = nn.Linear(width, 2 * width)
        self.embedding = nn.Linear(embedding_dim, 2 * width)
        self.fall = nn.Linear(2 * width, width)

    def forward(self, rows: Tensor, embedding: Tensor) -> Tensor:
        """Rows (R, N, C) given e (R, E)."""
        hidden = functional.gelu(self.rise(self.norm(rows)) + self.embedding(embedding).unsqueeze(1))
        mixed: Tensor = rows + self.fall(hidden)
        return mixed


class AgentAttention(nn.Module):
    """Lets the rows of a team see each other: h + W softmax(q k' / √d) v, with LayerNorm before.

    Args:
        width: Size C of a row.
        heads: Number of heads; C / 2 is a multiple of it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * (width // 2))
        self.output = nn.Linear(width // 2, width)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (R, N, C); a permutation of agents permutes the result."""
        parts = self.queries_keys_values(self.norm(rows)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # (R, heads, N, d) each
        weights = (queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])).softmax(dim=-1)
        seen: Tensor = rows + self.output((weights @ values).transpose(1, 2).flatten(2))
        return seen


class TrajectoryDenoiser(nn.Module):
    """The clean trajectories x̂ that noisy observations of a team imply, (R, T, N, O).

    An agent's whole trajectory is one row. Blocks mix the times of a row, attention between them mixes the agents; the
    weights of attention depend on all times, and what is mixed is all times of one agent. The answer is

        x̂ = √ᾱ z - √(1 - ᾱ) f(z),        f the layers' output,        so that the noise is ε̂ = √(1 - ᾱ) z + √ᾱ f(z)

    (f estimates the "velocity" of Salimans & Ho, arXiv:2202.00512): layers whose rows are narrower than a trajectory
    need not carry its noise through, and the noise end is learned as well as the other.

    Args:
        shape: The team's sizes; there is no memory.
        length: Longest trajectory T.
        width: Size of a row between the layers, a multiple of twice the number of heads.
        n_blocks: Number of blocks, each with an attention behind it.
        heads: Heads of the attention.
        attention: Whether agents see each other; without it each is denoised for itself.
        weighted: Whether f of each agent has a learned weight (``AgentWeights``).

    Raises:
        ValueError: If the width does not suit the heads.
    """

    frequencies: Tensor

    def __init__(
        self,
        shape: TeamShape,
        length: int,
        width: int = 96,
        n_blocks: int = 2,
        heads: int = 4,
        attention: bool = True,
        weighted: bool = False,
    ) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width must be a multiple of {2 * heads}, two for each of {heads} heads, got {width}")
        self.n_agents, self.obs_dim, self.length = shape.n_agents, shape.obs_dim, length
        self.encoder = Encoder(length * (shape.obs_dim + 1), shape.n_agents)
        self.embedding = nn.Sequential(
            nn.Linear(1 + 2 * N_FREQUENCIES + 2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.inputs = nn.Linear(self.encoder.features_dim, width)
        self.blocks = nn.ModuleList(ResidualBlock(width, width) for _ in range(n_blocks))
        self.attentions = nn.ModuleList(
            AgentAttention(width, heads) if attention else nn.Identity() for _ in range(n_blocks)
        )
        self.outputs = nn.Linear(width, length * shape.obs_dim)
        self.factors = AgentWeights(shape.n_agents) if weighted else nn.Identity()
        self.register_buffer("frequencies", math.pi / 2 * 2.0 ** torch.arange(N_FREQUENCIES), persistent=False)

    def forward(self, z: Tensor, roles: Tensor, time: Tensor, signal: Tensor, goal: Tensor) -> Tensor:
        """Clean trajectories x̂.

        Args:
            z: Observations: noisy where imagined, as they were where shown, anything where absent, (R, T, N, O).
            roles: ``IMAGINED``, ``SHOWN`` or ``ABSENT``, (R, T, N) float.
            time: How noisy z is, from 0 (data) to 1 (noise), (R, 1).
            signal: √ᾱ at that time, (R, 1).
            goal: (value, known): which return to aim at, in [0, 1]; (0, 0) is the null condition, (R, 2).

        Returns:
            (R, T, N, O); meaningful where imagined.

        Raises:
            ValueError: If trajectories are longer than ``length``.
        """
        steps = z.shape[1]
        if steps > self.length:
            raise ValueError(f"expected trajectories of at most {self.length} steps, got {steps}; raise the horizon")
        present = z.masked_fill((roles == ABSENT).unsqueeze(-1), 0.0)
        inputs = torch.cat([present, roles.unsqueeze(-1)], dim=-1).transpose(1, 2)  # (R, N, T, O+1)
        missing = inputs.new_zeros(*inputs.shape[:2], self.length - steps, inputs.shape[-1])
        missing[..., -1] = ABSENT
        rows = self.inputs(self.encoder(torch.cat([inputs, missing], dim=2).flatten(2)))
        angles = time * self.frequencies
        embedding = self.embedding(torch.cat([time, angles.sin(), angles.cos(), goal], dim=-1))
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            rows = attention(block(rows, embedding))
        output = self.outputs(rows).unflatten(-1, (self.length, -1))[:, :, :steps].transpose(1, 2)
        signal = signal[..., None, None]
        noise: Tensor = self.factors(output)
        return signal * present - (1 - signal.square()).sqrt() * noise


def execution_roles(
    steps: int, history: int, n_agents: int, knower: Tensor | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """Which observations of a team are known when it acts.

        knower = None: all agents            knower = 1 of 2 agents
        time       0  1  2  3                time       0  1  2  3
        agent 0    +  +  .  .                agent 0       .  .  .        + shown, . imagined, else absent
        agent 1    +  +  .  .                agent 1    +  +  .  .        (history = 1: the present is time 1)

    Args:
        steps: Length T.
        history: Number H of observations before the present one; the present is at position H.
        n_agents: Number of agents N.
        knower: The agent that knows its own past and present, and nothing of the others', (R,) int64; None where
            everybody's are known.
        device: Where the roles are made.

    Returns:
        Roles, (R, T, N) float; (1, T, N) where everybody's are known.
    """
    agents = torch.arange(n_agents, device=device)
    knows = torch.ones_like(agents, dtype=torch.bool).unsqueeze(0) if knower is None else agents == knower.unsqueeze(-1)
    position = torch.arange(steps, device=device).unsqueeze(-1)  # (T, 1)
    shown = (position <= history) & knows.unsqueeze(1)
    hidden = (position < history) & ~knows.unsqueeze(1)
    return torch.full(shown.shape, IMAGINED, device=device).masked_fill(shown, SHOWN).masked_fill(hidden, ABSENT)
