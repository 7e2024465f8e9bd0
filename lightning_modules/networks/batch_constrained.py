"""Policies that choose only among what the recorded behaviour would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.networks.actions import decode_actions, mask_illegal
from lightning_modules.networks.critics import LocalActionValue, LocalValue
from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.policies import ActionHead
from lightning_modules.networks.team_shape import TeamShape
from lightning_modules.networks.vae import ActionVAE


def likely_actions(logits: Tensor, legal_actions: Tensor, threshold: float) -> Tensor:
    """Legal choices that the behaviour makes often enough.

    β(a | o) / max_b β(b | o) >= threshold        (discrete BCQ, Fujimoto et al., arXiv:1910.01708)

    Args:
        logits: Of the cloned behaviour β, (…, A).
        legal_actions: (…, A) bool; β is zero elsewhere.
        threshold: In [0, 1]; 0 leaves all legal choices, 1 the most likely one.

    Returns:
        (…, A) bool.
    """
    logits = mask_illegal(logits, legal_actions)
    return legal_actions & ((logits - logits.amax(dim=-1, keepdim=True)).exp() >= threshold)


class Perturbation(nn.Module):
    """A small correction of a generated action, a + Φ tanh f(o, a), clipped to [-1, 1].

    Args:
        shape: The team's sizes and memory; actions are continuous.
        hidden_dims: Widths of the hidden blocks.
        bound: Φ, the largest change of an entry.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int], bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.encoder = shape.agent_encoder()
        self.mlp = MLP(self.encoder.features_dim + shape.action_dim, hidden_dims, shape.action_dim)

    def of_features(self, features: Tensor, actions: Tensor) -> Tensor:
        """Corrected actions (…, N, A), given the encoder's features (…, N, F); actions may have leading axes."""
        features = features.expand(*actions.shape[:-1], features.shape[-1])
        change: Tensor = self.mlp(torch.cat([features, actions], dim=-1)).tanh()
        return (actions + self.bound * change).clamp(-1.0, 1.0)


@dataclass(frozen=True)
class LikelyGreedyPolicy:
    """Takes the choice of the largest value among those that the behaviour makes often enough; without chance.

    Attributes:
        network: Values of all choices.
        behaviour: The cloned behaviour.
        threshold: See ``likely_actions``.
    """

    network: LocalActionValue
    behaviour: ActionHead
    threshold: float
    network_calls: int = 2

    def initial_state(self, n_envs: int) -> tuple[Tensor | None, Tensor | None]:
        """The memories of both networks, if they have any."""
        return self.network.encoder.initial_memory(n_envs), self.behaviour.encoder.initial_memory(n_envs)

    def act(
        self, obs: Tensor, legal_actions: Tensor, state: Any, generator: torch.Generator | None = None
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
        """See ``Policy.act``."""
        features, memory = self.network.encoder.step(obs, state[0])
        known, behaviour_memory = self.behaviour.encoder.step(obs, state[1])
        allowed = likely_actions(self.behaviour.of_features(known), legal_actions, self.threshold)
        actions = mask_illegal(self.network.all_of_features(features), allowed).argmax(dim=-1)
        return actions, (memory, behaviour_memory)


@dataclass(frozen=True)
class BestCandidatePolicy:
    """Generates candidates like recorded actions, corrects them and takes the one of the largest value.

    Attributes:
        vae: Generates.
        perturbation: Corrects.
        value: Q_i(o_i, a_i).
        candidates: How many; all go through the networks side by side.
        shared_noise: All agents of a team use the same noise: a common seed, not communication.
    """

    vae: ActionVAE
    perturbation: Perturbation
    value: LocalValue
    candidates: int = 10
    shared_noise: bool = False

    @property
    def network_calls(self) -> int:
        """Forward passes per decision: each candidate goes through the decoder, the perturbation and the value."""
        return 3 * self.candidates

    def initial_state(self, n_envs: int) -> tuple[Tensor | None, ...]:
        """The memories of the three networks, if they have any."""
        return tuple(part.encoder.initial_memory(n_envs) for part in (self.vae, self.perturbation, self.value))

    def act(
        self, obs: Tensor, legal_actions: Tensor, state: Any, generator: torch.Generator | None = None
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """See ``Policy.act``."""
        encoders = (self.vae.encoder, self.perturbation.encoder, self.value.encoder)
        stepped = [encoder.step(obs, memory) for encoder, memory in zip(encoders, state, strict=True)]
        generating, correcting, judging = (features for features, _ in stepped)
        drawn = self.vae.generate(generating, self.candidates, generator, self.shared_noise)
        actions = self.perturbation.of_features(correcting, drawn)  # (P, E, N, A)
        actions = decode_actions(actions, legal_actions, discrete=False)
        values = self.value.of_features(judging.expand(*actions.shape[:-1], judging.shape[-1]), actions)
        best = values.argmax(dim=0)[None, ..., None].expand(1, *actions.shape[1:])
        return actions.gather(0, best).squeeze(0), tuple(memory for _, memory in stepped)
