"""What an agent did, from what it saw and how that changed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks.encoders import Encoder
from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.team_shape import TeamShape


class InverseDynamics(nn.Module):
    """I(o_i, Δo_i, i): logits of a choice, or a continuous action in [-1, 1] through tanh; shared by agents.

    Args:
        shape: The team's sizes; there is no memory.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.discrete = shape.discrete
        self.encoder = Encoder(2 * shape.obs_dim, shape.n_agents)
        self.mlp = MLP(self.encoder.features_dim, hidden_dims, shape.action_dim)

    def forward(self, obs: Tensor, changes: Tensor) -> Tensor:
        """Logits or actions (…, N, A) given observations (…, N, O) and what a step changes of them."""
        output: Tensor = self.mlp(self.encoder(torch.cat([obs, changes], dim=-1)))
        return output if self.discrete else output.tanh()
