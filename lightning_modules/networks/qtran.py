"""QTRAN's networks: a team's value that is not bound to be monotone in what each agent expects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks.mlp import MLP


class AdditiveJointValue(nn.Module):
    """Q(s, Σ_i Enc([features_i, a_i])): agents' actions meet in a sum of vectors, so it does not grow with the team.

    From QTRAN (Son et al., arXiv:1905.05408) as in https://github.com/oxwhirl/pymarl. Differences: blocks have
    LayerNorm and GELU as all networks here, and the sum has its own width instead of that of its input.

    Args:
        features_dim: Size F of what is known of an agent.
        state_dim: State size S.
        action_dim: Size A of an encoded action.
        hidden_dims: Widths of the hidden blocks behind the sum.
        embed_dim: Width of the sum.
    """

    def __init__(
        self, features_dim: int, state_dim: int, action_dim: int, hidden_dims: Sequence[int], embed_dim: int = 64
    ) -> None:
        super().__init__()
        self.action_embedding = MLP(features_dim + action_dim, (embed_dim,), embed_dim)
        self.joint = MLP(state_dim + embed_dim, hidden_dims, 1)

    def forward(self, features: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """Values of joint actions.

        Args:
            features: (…, N, F).
            state: (…, S).
            actions: Encoded, (…, N, A); may have further leading axes, such as one of proposals.

        Returns:
            Shape of ``actions`` without its last two axes.
        """
        features = features.expand(*actions.shape[:-1], features.shape[-1])
        embedded: Tensor = self.action_embedding(torch.cat([features, actions], dim=-1)).sum(dim=-2)
        values: Tensor = self.joint(torch.cat([state.expand(*embedded.shape[:-1], state.shape[-1]), embedded], dim=-1))
        return values.squeeze(-1)


class QTRANNetwork(nn.Module):
    """The team's value Q_jt and the state's V(s), which together say what the sum of agents' values should be.

    Differences from https://github.com/oxwhirl/pymarl (``qtran_base``): see ``AdditiveJointValue``.

    Args:
        features_dim: Size F of what is known of an agent.
        state_dim: State size S.
        action_dim: Size A of an encoded action.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(
        self, features_dim: int, state_dim: int, action_dim: int, hidden_dims: Sequence[int] = (64, 64)
    ) -> None:
        super().__init__()
        self.q = AdditiveJointValue(features_dim, state_dim, action_dim, hidden_dims)
        self.value = MLP(state_dim, hidden_dims, 1)

    def forward(self, features: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """Q_jt, as ``AdditiveJointValue``."""
        values: Tensor = self.q(features, state, actions)
        return values

    def state_value(self, state: Tensor) -> Tensor:
        """V(s), (…), of states (…, S)."""
        values: Tensor = self.value(state)
        return values.squeeze(-1)
