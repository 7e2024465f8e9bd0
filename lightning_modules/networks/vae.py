"""Variational auto-encoder of the actions that were recorded, given what an agent knows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks.encoders import Encoder, EncoderKind
from lightning_modules.networks.mlp import MLP

LATENT_BOUND = 0.5
"""Latent variables that actions are generated from are clipped to this: near the middle actions are the most usual."""


class ActionVAE(nn.Module):
    """A generative model of each agent's continuous action, shared by all agents.

        z ~ N(m(o, a), s(o, a)²)  when learning,  z ~ N(0, 1) clipped to ±.5  when generating;   â = tanh D(o, z)

    (BCQ, Fujimoto et al., arXiv:1812.02900; clipping as in https://github.com/sfujim/BCQ.)

    Args:
        n_agents: Number of agents N.
        obs_dim: Observation size O.
        action_dim: Size A of an action; there are 2A latent variables.
        hidden_dims: Widths of the hidden blocks.
        encoder: Whether the model sees the present observation (``mlp``) or remembers (``gru``).
        memory_dim: Size of the memory.
    """

    def __init__(
        self,
        n_agents: int,
        obs_dim: int,
        action_dim: int,
        hidden_dims: Sequence[int],
        encoder: EncoderKind = "mlp",
        memory_dim: int = 64,
    ) -> None:
        super().__init__()
        self.latent_dim = 2 * action_dim
        self.encoder = Encoder(obs_dim, n_agents, encoder, memory_dim)
        known = self.encoder.features_dim
        self.recogniser = MLP(known + action_dim, hidden_dims, 2 * self.latent_dim)
        self.decoder = MLP(known + self.latent_dim, hidden_dims, action_dim)

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
