"""The network that finds an agent's action in its noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.flows.diffusion import endpoint_from_noise
from lightning_modules.flows.noise_schedules import NoiseSchedule, noise_schedule
from lightning_modules.networks.actions import mask_illegal
from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.one_step import counted_entries
from lightning_modules.networks.team_shape import TeamShape

N_FREQUENCIES = 3
#: What is answered for continuous actions.
DenoiserOutput = Literal["endpoint", "noise"]


class Denoiser(nn.Module):
    """What a noisy action z_k = √ᾱ_k x + √(1 - ᾱ_k) ε says of x or ε, given an agent's observation.

    For continuous actions the network answers the clean action, and the endpoint x̂ is that answer, clipped to [-1, 1];
    or it answers the noise ε̂, and x̂ = (z - √(1 - ᾱ) ε̂)/√ᾱ, clipped (DDPM, Ho et al., arXiv:2006.11239). For choices,
    one-hot vectors in {-1, 1}, it answers logits of the legal ones, and x̂ = 2 p - 1 is the mean of the one-hot vectors
    under their chances p (Dieleman et al., arXiv:2211.15089): always between legal choices, and differentiable as
    chances.

    Features come from ``encoder`` and are computed once, however often the network is asked. Entries that only pad a
    continuous action are not seen, and answered with 0.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
        schedule: Which ᾱ_k.
        levels: K >= 1, levels of noise.
        output: What is answered for continuous actions: clean actions (``endpoint``) or the ``noise``.
    """

    kept: Tensor
    frequencies: Tensor

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        schedule: NoiseSchedule,
        levels: int,
        output: DenoiserOutput = "endpoint",
    ) -> None:
        super().__init__()
        self.action_dim, self.discrete, self.levels = shape.action_dim, shape.discrete, levels
        self.output: DenoiserOutput = output
        self.encoder = shape.agent_encoder()
        inputs = shape.action_dim + 2 * N_FREQUENCIES + 3 + self.encoder.features_dim
        self.mlp = MLP(inputs, hidden_dims, shape.action_dim)
        self.register_buffer("kept", noise_schedule(schedule, levels), persistent=False)
        self.register_buffer("frequencies", math.pi / 2 * 2.0 ** torch.arange(N_FREQUENCIES), persistent=False)

    def forward(self, z: Tensor, level: Tensor, features: Tensor, legal_actions: Tensor) -> Tensor:
        """Predicted actions or noise, or masked logits of choices.

        Args:
            z: Noisy action vectors, (…, N, A).
            level: k of each, (…, N, 1) int64 in 1..K.
            features: From ``encoder``, (…, N, F); may lack leading axes of z.
            legal_actions: (…, N, A) bool; may lack leading axes of z.

        Returns:
            (…, N, A).
        """
        counts = counted_entries(legal_actions, self.discrete)
        t, kept = level.to(z.dtype) / self.levels, self.kept[level]
        angles = t * self.frequencies
        noisiness = torch.cat([t, kept.sqrt(), (1 - kept).sqrt(), angles.sin(), angles.cos()], dim=-1)
        known = features.expand(*z.shape[:-1], features.shape[-1])
        answer: Tensor = self.mlp(torch.cat([z.masked_fill(~counts, 0.0), noisiness, known], dim=-1))
        return mask_illegal(answer, legal_actions) if self.discrete else answer.masked_fill(~counts, 0.0)

    def endpoint(self, z: Tensor, level: Tensor, answer: Tensor, legal_actions: Tensor) -> Tensor:
        """The action vectors x̂ in [-1, 1] that answers of ``forward`` to (z, level) imply, (…, N, A)."""
        if self.discrete:
            return 2 * answer.softmax(dim=-1) - 1
        if self.output == "endpoint":
            return answer.clamp(-1.0, 1.0)  # 0 where an action is padded
        return endpoint_from_noise(z, answer, self.kept[level], bound=1.0).masked_fill(~legal_actions, 0.0)

    def predicted(self, z: Tensor, level: int, features: Tensor, legal_actions: Tensor) -> Tensor:
        """x̂ where everything is at the same level, for samplers; other arguments as in ``forward``."""
        levels = z.new_full((*z.shape[:-1], 1), level, dtype=torch.int64)
        return self.endpoint(z, levels, self(z, levels, features, legal_actions), legal_actions)
