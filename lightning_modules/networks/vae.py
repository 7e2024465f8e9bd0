"""Variational auto-encoder of the actions that were recorded, given what an agent knows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.team_shape import TeamShape

LATENT_BOUND = 0.5
"""Latent variables that actions are generated from are clipped to this: near the middle actions are the most usual."""


class ActionVAE(nn.Module):
    """A generative model of each agent's continuous action, shared by all agents, with 2A latent variables.

        z ~ N(m(o, a), s(o, a)²)  when learning,  z ~ N(0, 1) clipped to ±.5  when generating;   â = tanh D(o, z)

    (BCQ, Fujimoto et al., arXiv:1812.02900; clipping as in https://github.com/sfujim/BCQ.)

    Args:
        shape: The team's sizes and memory; actions are continuous.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.latent_dim = 2 * shape.action_dim
        self.encoder = shape.agent_encoder()
        known = self.encoder.features_dim
        self.recogniser = MLP(known + shape.action_dim, hidden_dims, 2 * self.latent_dim)
        self.decoder = MLP(known + self.latent_dim, hidden_dims, shape.action_dim)

    def recognise(self, features: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the deviation of an action's latent variables, (…, N, 2A) each.

        Args:
            features: From ``encoder``, (…, N, F).
            actions: (…, N, A).
        """
        mean, log_std = self.recogniser(torch.cat([features, actions], dim=-1)).chunk(2, dim=-1)
        return mean, log_std.clamp(-4.0, 15.0)

    def decode(self, features: Tensor, latents: Tensor) -> Tensor:
        """Actions (…, N, A) in [-1, 1] of latent variables (…, N, 2A), which may have further leading axes."""
        features = features.expand(*latents.shape[:-1], features.shape[-1])
        actions: Tensor = self.decoder(torch.cat([features, latents], dim=-1)).tanh()
        return actions

    def generate(
        self, features: Tensor, count: int, generator: torch.Generator | None = None, shared_noise: bool = False
    ) -> Tensor:
        """Draws actions.

        Args:
            features: From ``encoder``, (…, N, F).
            count: How many for each agent.
            generator: Source of the latent variables.
            shared_noise: All agents of a team use the same ones.

        Returns:
            (count, …, N, A).
        """
        *leading, n_agents, _ = features.shape
        shape = (count, *leading, 1 if shared_noise else n_agents, self.latent_dim)
        latents = torch.randn(shape, generator=generator, device=features.device, dtype=features.dtype)
        latents = latents.clamp(-LATENT_BOUND, LATENT_BOUND)
        return self.decode(features, latents.expand(count, *leading, n_agents, self.latent_dim))
