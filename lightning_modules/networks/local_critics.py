"""Several values of each agent's action from what this agent alone knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lightning_modules.networks.critics import LocalValue
from lightning_modules.networks.encoders import EncoderKind


class LocalCritics(nn.Module):
    """K values Q_k(o_i, a_i) with their own initial weights, each shared by all agents.

    Args:
        n_critics: K.
        n_agents: Number of agents N.
        obs_dim: Observation size O.
        action_dim: Size A of the encoded action.
        hidden_dims: Widths of the hidden blocks.
        encoder: Whether the networks see the present observation (``mlp``) or remember (``gru``).
        memory_dim: Size of the memory.
    """

    def __init__(
        self,
        n_critics: int,
        n_agents: int,
        obs_dim: int,
        action_dim: int,
        hidden_dims: Sequence[int],
        encoder: EncoderKind = "mlp",
        memory_dim: int = 64,
    ) -> None:
        super().__init__()
        dims = (n_agents, obs_dim, action_dim)
        self.members = nn.ModuleList(LocalValue(*dims, hidden_dims, encoder, memory_dim) for _ in range(n_critics))

    @property
    def first(self) -> LocalValue:
        """The one that actors follow."""
        return cast(LocalValue, self.members[0])

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Values (K, …, N) of observations (…, N, O) and encoded actions (…, N, A)."""
        return self.of_features(self.features(obs), actions)

    def features(self, obs: Tensor) -> tuple[Tensor, ...]:
        """What each of the K knows, (…, N, F), which does not depend on actions."""
        return tuple(cast(LocalValue, member).encoder(obs) for member in self.members)

    def of_features(self, features: Sequence[Tensor], actions: Tensor) -> Tensor:
        """As ``forward``, from ``features``; actions may have further leading axes, such as one of proposals."""
        values = []
        for member, known in zip(self.members, features, strict=True):
            known = known.expand(*actions.shape[:-1], known.shape[-1])
            values.append(cast(LocalValue, member).of_features(known, actions))
        return torch.stack(values, dim=0)
