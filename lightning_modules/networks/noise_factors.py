"""How a team's noise is made of its agents'."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_modules.networks.denoiser import Denoiser
from lightning_modules.networks.team_shape import TeamShape

NoiseFactors = Literal["concat", "w_concat"]


class AgentWeights(nn.Module):
    """Multiplies what is answered for agent i by w_i / mean_j w_j, with w learned from 1 on.

    Args:
        n_agents: Number of agents N.
    """

    def __init__(self, n_agents: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(n_agents))

    def forward(self, answers: Tensor) -> Tensor:
        """Answers (…, N, D), weighted."""
        return answers * (self.weights / self.weights.mean()).unsqueeze(-1)


class WeightedDenoiser(Denoiser):
    """A denoiser of actions whose answers have a weight for each agent: its noise, or the logits of its choices.

    Args:
        shape: The team's sizes and memory.
        *arguments: The other arguments of ``Denoiser``.
        **options: Likewise.
    """

    def __init__(self, shape: TeamShape, *arguments: Any, **options: Any) -> None:
        super().__init__(shape, *arguments, **options)
        self.factors = AgentWeights(shape.n_agents)

    def forward(self, z: Tensor, level: Tensor, features: Tensor, legal_actions: Tensor) -> Tensor:
        """See ``Denoiser``."""
        answer: Tensor = self.factors(super().forward(z, level, features, legal_actions))
        return answer
