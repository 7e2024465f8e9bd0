"""Diffusions of actions that climb critics of their own: what those algorithms share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.denoising import Denoised
from lightning_modules.flows.diffusion import DiffusionSampler
from lightning_modules.joint_steps import JointSteps
from lightning_modules.local_value_learning import LocalValueLearning
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import lambda_returns, td_mask
from lightning_modules.networks.actions import decode_actions, encode_actions
from lightning_modules.networks.denoiser import Denoiser
from lightning_modules.networks.diffusion_policies import DiffusionPolicy


@dataclass(frozen=True)
class ClimbingDiffusion:
    """Values of what a diffusion does, and the actions with which it climbs them.

        L_Q = Σ_k E mean_i (Q_k(o_i, a_i) - G_i)²,   G_i from V(o'_i) = min_k max_p Q̄_k(o'_i, x̄_p),   p = 1..P

    with x̄_p drawn from the averaged copy of the diffusion (Diffusion-QL, Wang et al., arXiv:2208.06193).

    Attributes:
        values: Critics Q_k of agents, and their lagged copies.
        denoiser: The diffusion that learns.
        averaged: Its lagged copy.
        steps: Network calls of a draw.
        sampler: How it is drawn.
        eta: How much chance the steps of ``ddim`` have.
        candidates: P >= 1.
    """

    values: LocalValueLearning
    denoiser: Denoiser
    averaged: Denoiser
    steps: int
    sampler: DiffusionSampler = "ddpm"
    eta: float = 0.0
    candidates: int = 1

    def drawing(self, denoiser: Denoiser) -> DiffusionPolicy:
        """One of the two diffusions as it draws in training."""
        return DiffusionPolicy(denoiser, self.steps, self.sampler, self.eta)

    def own_actions(
        self, steps: JointSteps, features: Tensor, generator: torch.Generator, cloned: Denoised | None = None
    ) -> Tensor:
        """What agents would do at M steps, with gradients, (M, N, A): actions, or chances of choices.

        Args:
            steps: M recorded steps.
            features: From the denoiser's encoder, (M, N, F).
            generator: Source of noise.
            cloned: Take what was found in one call in noisy recorded actions instead of drawing by a chain (EDP).
        """
        own = (
            self.drawing(self.denoiser).generate(features, steps.legal_actions, 1, generator).squeeze(0)
            if cloned is None
            else cloned.endpoint
        )
        return (own + 1) / 2 if self.values.discrete else own

    def td_loss(self, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """L_Q of the class, a scalar; it moves the critics only."""
        errors = self.values.recorded_values(batch) - self.targets(batch, generator)  # (2, N, B, T-1)
        return masked_mean(errors.square().sum(dim=0), td_mask(batch.valid, batch.terminals))

    @torch.no_grad()
    def targets(self, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """TD(λ) targets of every agent, (N, B, T-1)."""
        values, legal = self.values, batch.legal_actions
        features = self.averaged.encoder(batch.obs)
        drawn = self.drawing(self.averaged).generate(features, legal, self.candidates, generator)
        twins = values.target_critic.of_features(values.target_critic.features(batch.obs), self._done(drawn, legal))
        following = twins.amax(dim=1).amin(dim=0).movedim(-1, 0)  # of (2, P, B, T, N)
        ends = (batch.rewards, batch.terminals, batch.valid)
        return lambda_returns(*ends, following, values.discount, values.trace_decay)

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done, of single draws, and of the targets."""
        generator = torch.Generator(batch.obs.device).manual_seed(0)
        usable, obs, legal = td_mask(batch.valid, batch.terminals), batch.obs[:, :-1], batch.legal_actions[:, :-1]
        drawn = self.drawing(self.denoiser).generate(self.denoiser.encoder(obs), legal, 1, generator).squeeze(0)
        own = self.values.critic(obs, self._done(drawn, legal)).movedim(-1, 1)  # (2, N, B, T-1)
        return {
            "q_mean": masked_mean(self.values.recorded_values(batch), usable),
            "q_policy_mean": masked_mean(own, usable),
            "target_mean": masked_mean(self.targets(batch, generator), usable),
        }

    def _done(self, drawn: Tensor, legal_actions: Tensor) -> Tensor:
        """Drawn vectors as the actions that are then done, encoded."""
        discrete, size = self.values.discrete, drawn.shape[-1]
        return encode_actions(decode_actions(drawn, legal_actions, discrete), size, discrete).to(drawn.dtype)
