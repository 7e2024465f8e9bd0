"""What networks are built from: how many agents see and do how much, and whether they remember."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_modules.networks.encoders import Encoder, EncoderKind


@dataclass(frozen=True)
class TeamShape:
    """Sizes of a team's observations, states and actions, and what its networks know of the past.

    A network that sees or answers something else than the team's agents do takes ``dataclasses.replace(shape, …)``.

    Attributes:
        n_agents: Number of agents N, at least 1; 0 for a network that sees the whole team at once, without numbers of
            agents.
        obs_dim: Size O of an observation, at least 1.
        state_dim: Size S of the global state, at least 1.
        action_dim: Number of choices, or size of the action vector: A, at least 1. Encoded actions have this size, too.
        discrete: Whether actions are choices; otherwise they are vectors in [-1, 1].
        encoder: Whether networks see the present only (``mlp``) or remember what was before it (``gru``).
        memory_dim: Size H of the memory, at least 1; without a meaning for ``mlp``.
    """

    n_agents: int
    obs_dim: int
    state_dim: int
    action_dim: int
    discrete: bool
    encoder: EncoderKind = "mlp"
    memory_dim: int = 64

    def agent_encoder(self) -> Encoder:
        """A new encoder of the agents' observations (…, N, O)."""
        return Encoder(self.obs_dim, self.n_agents, self.encoder, self.memory_dim)

    def state_encoder(self) -> Encoder:
        """A new encoder of the global state (…, S)."""
        return Encoder(self.state_dim, 0, self.encoder, self.memory_dim)
