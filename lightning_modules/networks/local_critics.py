"""Several values of each agent's action from what this agent alone knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lightning_modules.networks.critics import LocalValue
from lightning_modules.networks.team_shape import TeamShape


class LocalCritics(nn.Module):
    """K values Q_k(o_i, a_i) with their own initial weights, each shared by all agents.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
        n_critics: K, twins by default.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int], n_critics: int = 2) -> None:
        super().__init__()
        self.members = nn.ModuleList(LocalValue(shape, hidden_dims) for _ in range(n_critics))

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
