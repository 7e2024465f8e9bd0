"""What an agent did, from what it saw and how that changed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks.encoders import Encoder
from lightning_modules.networks.mlp import MLP


class InverseDynamics(nn.Module):
    """I(o_i, Δo_i, i): logits of a choice, or a continuous action in [-1, 1] through tanh; shared by agents.

    Args:
        n_agents: Number of agents N.
        obs_dim: Observation size O.
        action_dim: Number of actions, or size of the action vector A.
        discrete: Whether actions are choices.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(
        self, n_agents: int, obs_dim: int, action_dim: int, discrete: bool, hidden_dims: Sequence[int]
    ) -> None:
        super().__init__()
        self.discrete = discrete
        self.encoder = Encoder(2 * obs_dim, n_agents)
        self.mlp = MLP(self.encoder.features_dim, hidden_dims, action_dim)

    def forward(self, obs: Tensor, changes: Tensor) -> Tensor:
        """Logits or actions (…, N, A) given observations (…, N, O) and what a step changes of them."""
        output: Tensor = self.mlp(self.encoder(torch.cat([obs, changes], dim=-1)))
        return output if self.discrete else output.tanh()
