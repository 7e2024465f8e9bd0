"""Values of continuous actions that a model of the recorded behaviour generates: batch-constrained Q-learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from datamodules.batch import TeamBatch
from lightning_modules.base import TargetPair
from lightning_modules.losses.cloning import squared_cloning_error, standard_normal_divergence
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import lambda_returns, td_mask
from lightning_modules.networks.batch_constrained import BestCandidatePolicy, Perturbation
from lightning_modules.networks.local_critics import LocalCritics
from lightning_modules.networks.mixers import QMixer, VDNMixer
from lightning_modules.networks.targets import frozen, target_copy
from lightning_modules.networks.team_shape import TeamShape
from lightning_modules.networks.vae import ActionVAE

CandidateMixer = Literal["none", "vdn", "qmix"]

_DIVERGENCE_WEIGHT = 0.5  # of the latent variables against the squared error, as in https://github.com/sfujim/BCQ
_CAUTION = 0.75  # weight of the smaller of two values, as there


class CandidateLearning(nn.Module):
    """Twin values, a generative model G of each agent's action, and a small perturbation ξ of what it generates.

        L_G = E mean_i [ |a_i - D(o_i, z_i)|² / A + KL(z_i | N(0, 1)) / 2 ]
        L_Q = Σ_k E (mix_i Q_k(o_i, a_i) - G^λ)²,   G^λ from V(s') = mix_i max_â q(o'_i, ξ̄(o'_i, â)),
        q = ¾ min_k Q̄_k + ¼ max_k Q̄_k
        L_ξ = -E mean_i Q_1(o_i, ξ(o_i, â)),   â ~ G(o_i)

    (BCQ, Fujimoto et al., arXiv:1812.02900.)

    Args:
        shape: The team's sizes and memory; actions are continuous.
        critic_hidden_dims: Widths of the values' hidden blocks.
        hidden_dims: Widths of the other networks' hidden blocks.
        mixer: What is made of the agents' values: ``vdn``, ``qmix``, or ``none``: each is for itself.
        candidates: How many generated actions are compared in a target.
        perturbation_bound: Largest change of an entry of an action by ξ.
        discount: γ.
        trace_decay: λ of the targets along a window; 0 looks one step ahead.
        target_rate: Rate of the target networks.
    """

    def __init__(
        self,
        shape: TeamShape,
        critic_hidden_dims: Sequence[int],
        hidden_dims: Sequence[int],
        mixer: CandidateMixer,
        candidates: int,
        perturbation_bound: float,
        discount: float,
        trace_decay: float,
        target_rate: float,
    ) -> None:
        super().__init__()
        self.candidates, self.target_rate = candidates, target_rate
        self.discount, self.trace_decay = discount, trace_decay
        self.vae = ActionVAE(shape, hidden_dims)
        self.perturbation = Perturbation(shape, hidden_dims, perturbation_bound)
        self.critic = LocalCritics(shape, critic_hidden_dims)
        self.mixer: VDNMixer | QMixer | None = None
        if mixer != "none":
            self.mixer = VDNMixer() if mixer == "vdn" else QMixer(shape.n_agents, shape.state_dim)
        self.target_perturbation, self.target_critic = target_copy(self.perturbation), target_copy(self.critic)
        self.target_mixer = None if self.mixer is None else target_copy(self.mixer)

    def policy(self, candidates: int) -> BestCandidatePolicy:
        """Acts with the best of so many generated actions."""
        return BestCandidatePolicy(self.vae, self.perturbation, self.critic.first, candidates)

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """L_Q, L_G and L_ξ of the class; each moves only its own networks."""
        errors = self.recorded_values(batch) - self.targets(batch, generator)  # (2, B, T-1) or (2, N, B, T-1)
        learning, features = batch.valid[:, :-1, None], self.vae.encoder(batch.obs[:, :-1])
        return {
            "q": masked_mean(errors.square().sum(dim=0), td_mask(batch.valid, batch.terminals)),
            "behaviour": masked_mean(self._cloning_error(features, batch, generator), learning),
            "policy": -masked_mean(self._perturbed_values(features.detach(), batch, generator), learning),
        }

    def recorded_values(self, batch: TeamBatch) -> Tensor:
        """Mixed values of recorded actions at positions 0..T-2, (2, B, T-1); for ``none`` (2, N, B, T-1)."""
        values = self.critic(batch.obs[:, :-1], batch.actions[:, :-1])  # (2, B, T-1, N)
        return self._mixed(self.mixer, values, batch.state[:, :-1])

    @torch.no_grad()
    def targets(self, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """TD(λ) targets, (B, T-1); for ``none`` (N, B, T-1)."""
        drawn = self.vae.generate(self.vae.encoder(batch.obs), self.candidates, generator)  # (P, B, T, N, A)
        known = self.target_perturbation.encoder(batch.obs)
        actions = self.target_perturbation.of_features(known, drawn).masked_fill(~batch.legal_actions, 0.0)
        twins = self.target_critic.of_features(self.target_critic.features(batch.obs), actions)  # (2, P, B, T, N)
        cautious = _CAUTION * twins.amin(dim=0) + (1 - _CAUTION) * twins.amax(dim=0)
        values = self._mixed(self.target_mixer, cautious.amax(dim=0), batch.state)
        return lambda_returns(batch.rewards, batch.terminals, batch.valid, values, self.discount, self.trace_decay)

    def value_parameters(self) -> list[nn.Parameter]:
        """What L_Q trains."""
        return [*self.critic.parameters(), *(() if self.mixer is None else self.mixer.parameters())]

    def actor_parameters(self) -> list[nn.Parameter]:
        """What L_G and L_ξ train."""
        return [*self.vae.parameters(), *self.perturbation.parameters()]

    def target_pairs(self) -> Sequence[TargetPair]:
        """Values, their mixer and the perturbation."""
        pairs: list[tuple[nn.Module, nn.Module]] = [
            (self.critic, self.target_critic),
            (self.perturbation, self.target_perturbation),
        ]
        if isinstance(self.mixer, QMixer) and self.target_mixer is not None:
            pairs.append((self.mixer, self.target_mixer))
        return tuple(TargetPair(source, target, self.target_rate) for source, target in pairs)

    def _mixed(self, mixer: VDNMixer | QMixer | None, values: Tensor, state: Tensor) -> Tensor:
        """Values (…, B, T) of the team from those of agents (…, B, T, N); without a mixer (…, N, B, T)."""
        if mixer is None:
            return values.movedim(-1, -3)
        mixed: Tensor = mixer(values, state)
        return mixed

    def _cloning_error(self, features: Tensor, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """What L_G is the mean of, (B, T-1, N)."""
        recorded = batch.actions[:, :-1]
        mean, log_std = self.vae.recognise(features, recorded)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        again = self.vae.decode(features, mean + log_std.exp() * noise)
        divergence = standard_normal_divergence(mean, log_std).mean(dim=-1)
        return squared_cloning_error(again, recorded, batch.legal_actions[:, :-1]) + _DIVERGENCE_WEIGHT * divergence

    def _perturbed_values(self, features: Tensor, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """Q_1 of perturbed generated actions, (B, T-1, N); gradients reach the perturbation only."""
        obs, legal = batch.obs[:, :-1], batch.legal_actions[:, :-1]
        with torch.no_grad():
            drawn = self.vae.generate(features, 1, generator).squeeze(0)
        actions = self.perturbation.of_features(self.perturbation.encoder(obs), drawn).masked_fill(~legal, 0.0)
        with frozen(self.critic):
            values: Tensor = self.critic.first(obs, actions)
        return values
