"""What a network knows of the world: the present observation, or also what was seen before."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules.networks.actions import append_agent_id
from lightning_modules.networks.recurrent import GRU

EncoderKind = Literal["mlp", "gru"]


class Encoder(nn.Module):
    """Turns observations into features, which the layers behind it map to whatever they answer.

        mlp    features = (o, i)
        gru    features = (o, i, h),  h = GRU(ReLU(W (o, i)), h of the step before)

    The memory h is zero at the start of a sequence. Sequences never cross an episode's end (``datamodules.episodes``),
    so it is never carried from one episode into the next. Deviation from OG-MARL's recurrent networks
    (https://github.com/instadeepai/og-marl), which pass h alone on: an agent need not learn to remember what it sees.

    Args:
        input_dim: Size of an observation or state.
        n_agents: Number of agents N whose number i is appended to their observations; 0 for the team's state.
        kind: ``mlp`` or ``gru``.
        memory_dim: Size H of the memory.
    """

    def __init__(self, input_dim: int, n_agents: int, kind: EncoderKind = "mlp", memory_dim: int = 64) -> None:
        super().__init__()
        self.n_agents, self.recurrent, self.memory_dim = n_agents, kind == "gru", memory_dim
        self.features_dim = input_dim + n_agents
        if self.recurrent:
            self.embedding = nn.Linear(self.features_dim, memory_dim)
            self.memory = GRU(memory_dim, memory_dim)
            self.features_dim += memory_dim

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (B, T, …, F) of sequences (B, T, N, O) or (B, T, S); without memory any leading shape will do."""
        own = self._numbered(inputs)
        if not self.recurrent:
            return own
        sequences = functional.relu(self.embedding(own)).transpose(0, 1)  # (T, B, …, H)
        outputs, _ = self.memory(sequences.flatten(1, -2))
        return torch.cat([own, outputs.view(sequences.shape).transpose(0, 1)], dim=-1)

    def initial_memory(self, n_envs: int) -> Tensor | None:
        """Memory at the start of E episodes, (E, N, H); None without one."""
        if not self.recurrent:
            return None
        return self.embedding.weight.new_zeros(n_envs, self.n_agents, self.memory_dim)

    def step(self, obs: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Goes one step on, when acting.

        Args:
            obs: (E, N, O).
            memory: From ``initial_memory`` or the last call.

        Returns:
            Features (E, N, F) and the new memory.
        """
        own = self._numbered(obs)
        if not self.recurrent:
            return own, None
        assert memory is not None, "a policy with memory starts from initial_state()"
        embedded = functional.relu(self.embedding(own))
        _, last = self.memory(embedded.flatten(0, -2).unsqueeze(0), memory.flatten(0, -2))
        memory = last.view(memory.shape)
        return torch.cat([own, memory], dim=-1), memory

    def _numbered(self, inputs: Tensor) -> Tensor:
        return append_agent_id(inputs) if self.n_agents else inputs
