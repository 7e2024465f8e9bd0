"""Diffusion-QL for teams: each agent's diffusion clones what was done and climbs a critic of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require
from lightning_modules.denoising import Denoised, denoised_actions
from lightning_modules.flows.diffusion import DiffusionSampler
from lightning_modules.flows.noise_schedules import NoiseSchedule
from lightning_modules.joint_steps import JointSteps, joint_steps, some_windows
from lightning_modules.local_value_learning import LocalValueLearning
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import lambda_returns, td_mask
from lightning_modules.networks.actions import decode_actions, encode_actions
from lightning_modules.networks.denoiser import Denoiser
from lightning_modules.networks.diffusion_policies import DiffusionPolicy
from lightning_modules.networks.noise import Noise
from lightning_modules.networks.targets import target_copy


class DiffusionQL(OfflineModule):
    """Diffusion-QL (Wang et al., arXiv:2208.06193), every agent for itself from the team's reward.

        L_Q = Σ_k E mean_i (Q_k(o_i, a_i) - G_i)²,   G_i from V(o'_i) = min_k max_p Q̄_k(o'_i, x̄_p),   p = 1..P
        L_π = L_d - η E mean_i Q(o_i, x_i) / E|Q|,   Q the mean of both Q_k,   E|Q| held fixed

    L_d clones: a diffusion learns to find the noise in recorded actions (``denoising``). x_i is drawn by S steps of
    that diffusion from noise, and the gradient of Q goes back through all of them; x̄_p are draws of its averaged copy.
    P = 1 draws are compared in the targets, or more ("max-Q backup"). Acting draws several candidates and does one of
    them, with chances in proportion to exp(min_k Q̄_k). As in
    https://github.com/Zhendong-Wang/Diffusion-Policies-for-Offline-RL.

    EDP (Kang et al., arXiv:2305.20081, https://github.com/sail-sg/edp), with ``action_approximation``: x_i is what the
    network finds in one call in the noisy recorded action of L_d, x̂_i(z_k), in place of the chain; ``sampler:
    dpm_solver`` draws actions for targets and acting in few steps of many levels (configs/model/edp.yaml).

    Choices, which the originals do not know, are one-hot vectors in {-1, 1}. Deviation: for them the network answers
    chances of choices and L_d is their cross entropy (``denoising``); x = 2 p - 1 at the end of a chain, and
    Σ_a p_a Q(o, a) takes the place of Q(o, x); the largest of p is done.

    Differences from the originals: agents share networks, which know the agent's number; truncated last steps have no
    target; memory is an option; LayerNorm in all networks. Deviation: L_π takes the mean of both critics and its own
    size (there one of them, drawn by chance, and the size of the other); the averaged copy follows after every update
    (there after every fifth, from the thousandth on); 10 candidates (there 50); the level is given to the network as
    k/K, its sines and cosines, √ᾱ and √(1 - ᾱ); ``windows_per_update`` and ``steps_per_update``.

    Args:
        levels: K >= 1, levels of noise.
        schedule: Which ᾱ_k: ``vp``, ``linear`` or ``cosine``, see ``flows.noise_schedules``.
        sampler: How actions are drawn, in training and when acting: ``ddpm``, ``ddim`` (with chance as ``eta`` says) or
            ``dpm_solver`` (without, of second order).
        sampling_steps: S in 1..K, network calls of a draw; null visits all levels.
        eta: η of ``ddim`` in [0, 1].
        action_approximation: Whether one call takes the place of the chain in L_π.
        q_weight: η >= 0 of L_π; 0 is cloning.
        target_candidates: P >= 1.
        acting_candidates: Candidates when acting; 1 asks no critic.
        noise: ``normal`` draws from N(0, I); ``zero`` puts 0 in place of all noise. When acting only.
        shared_noise: When acting, agents of a team share all noise: the first, that in between, and the draw among
            candidates.
        windows_per_update: Windows of an update that critics learn from, drawn from the batch, because every target
            takes S network calls; null takes all of them.
        steps_per_update: Recorded joint steps of an update that the diffusion learns from, drawn from the batch; null
            takes all of them.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window.
        critic_hidden_dims: Widths of the critics' hidden blocks.
        critic_learning_rate: Adam's step size for the critics.
        target_rate: Rate in (0, 1] at which target networks follow.
        ema_rate: Rate in (0, 1] at which the averaged copy of the diffusion follows.
        hidden_dims: Widths of the diffusion's hidden blocks.
        learning_rate: Adam's step size for the diffusion.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        levels: int = 5,
        schedule: NoiseSchedule = "vp",
        sampler: DiffusionSampler = "ddpm",
        sampling_steps: int | None = None,
        eta: float = 0.0,
        action_approximation: bool = False,
        q_weight: float = 1.0,
        target_candidates: int = 1,
        acting_candidates: int = 10,
        noise: Noise = "normal",
        shared_noise: bool = False,
        windows_per_update: int | None = 32,
        steps_per_update: int | None = 256,
        discount: float = 0.99,
        trace_decay: float = 0.0,
        critic_hidden_dims: Sequence[int] = (192, 192, 192),
        critic_learning_rate: float = 5e-4,
        target_rate: float = 0.005,
        ema_rate: float = 0.005,
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 3e-4,
        **team_options: Any,
    ) -> None:
        super().__init__(**team_options)
        self.save_hyperparameters()
        require(levels >= 1, "levels", "at least 1", levels)
        fits = sampling_steps is None or 1 <= sampling_steps <= levels
        require(fits, "sampling_steps", f"in 1..{levels}, the levels, or null", sampling_steps)
        require(0 <= eta <= 1, "eta", "in [0, 1]", eta)
        require(q_weight >= 0, "q_weight", "at least 0", q_weight)
        require(target_candidates >= 1, "target_candidates", "at least 1", target_candidates)
        require(acting_candidates >= 1, "acting_candidates", "at least 1", acting_candidates)
        enough = windows_per_update is None or windows_per_update >= 1
        require(enough, "windows_per_update", "at least 1 or null", windows_per_update)
        require(0 < ema_rate <= 1, "ema_rate", "in (0, 1]", ema_rate)
        self.sampling_steps = levels if sampling_steps is None else sampling_steps
        self.sampler: DiffusionSampler = sampler
        self.noise: Noise = noise
        self.eta, self.shared_noise = eta, shared_noise
        self.action_approximation, self.q_weight = action_approximation, q_weight
        self.target_candidates, self.acting_candidates = target_candidates, acting_candidates
        self.windows_per_update, self.steps_per_update = windows_per_update, steps_per_update
        self.discount, self.trace_decay = discount, trace_decay
        self.critic_learning_rate, self.learning_rate, self.ema_rate = critic_learning_rate, learning_rate, ema_rate
        dims, memory = (self.n_agents, self.obs_dim, self.action_dim, self.discrete), (self.encoder, self.memory_dim)
        returns = (discount, trace_decay, target_rate)
        self.values = LocalValueLearning(*dims, critic_hidden_dims, "alone", "min", *returns, *memory)
        self.denoiser = Denoiser(*dims, hidden_dims, schedule, levels, *memory)
        self.averaged_denoiser = target_copy(self.denoiser)

    @property
    def policy(self) -> DiffusionPolicy:
        """Draws candidates and does one of them."""
        acting = replace(self._drawing(self.denoiser), noise=self.noise, shared_noise=self.shared_noise)
        return replace(acting, critics=self.values.target_critic, candidates=self.acting_candidates)

    def evaluation_policies(self) -> Mapping[str, DiffusionPolicy]:
        """The policy, other noise, and a single candidate."""
        one = {"policy, 1 candidate": replace(self.policy, candidates=1)} if self.acting_candidates > 1 else {}
        return {"policy": self.policy, **self.policy.with_other_noise(), **one}

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Critics and diffusion."""
        critics = parameter_group(self.critic_learning_rate, self.values.critic)
        return (critics, parameter_group(self.learning_rate, self.denoiser))

    def target_pairs(self) -> Sequence[TargetPair]:
        """Critics and diffusion."""
        averaged = TargetPair(self.denoiser, self.averaged_denoiser, self.ema_rate)
        return (*self.values.target_pairs(), averaged)

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        steps = joint_steps(batch, self.steps_per_update, generator)
        features = steps.features(self.denoiser.encoder)
        cloned = denoised_actions(self.denoiser, steps, features, generator)
        policy = cloned.loss
        if self.q_weight > 0:
            own = self._own_actions(steps, features, cloned, generator)
            policy = policy + self.q_weight * self.values.climbing_loss(steps, own, "expected", normalise=True)
        return {
            "q": self._td_loss(some_windows(batch, self.windows_per_update, generator), generator),
            "policy": policy,
        }

    def _drawing(self, denoiser: Denoiser) -> DiffusionPolicy:
        return DiffusionPolicy(denoiser, self.sampling_steps, self.sampler, self.eta)

    def _own_actions(self, steps: JointSteps, features: Tensor, cloned: Denoised, generator: torch.Generator) -> Tensor:
        """What agents would do at M steps, (M, N, A): actions, or chances of choices."""
        if self.action_approximation:
            own = cloned.endpoint
        else:
            own = self._drawing(self.denoiser).generate(features, steps.legal_actions, 1, generator).squeeze(0)
        return (own + 1) / 2 if self.discrete else own

    def _td_loss(self, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        errors = self.values.recorded_values(batch) - self._targets(batch, generator)  # (2, N, B, T-1)
        return masked_mean(errors.square().sum(dim=0), td_mask(batch.valid, batch.terminals))

    @torch.no_grad()
    def _targets(self, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """TD(λ) targets of every agent, (N, B, T-1)."""
        target, legal = self.values.target_critic, batch.legal_actions
        features = self.averaged_denoiser.encoder(batch.obs)
        drawn = self._drawing(self.averaged_denoiser).generate(features, legal, self.target_candidates, generator)
        actions = encode_actions(decode_actions(drawn, legal, self.discrete), self.action_dim, self.discrete)
        twins = target.of_features(target.features(batch.obs), actions.to(drawn.dtype))  # (2, P, B, T, N)
        values = twins.amax(dim=1).amin(dim=0).movedim(-1, 0)
        return lambda_returns(batch.rewards, batch.terminals, batch.valid, values, self.discount, self.trace_decay)

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done, of single draws, and of the targets."""
        generator = torch.Generator(batch.obs.device).manual_seed(0)
        usable, obs, legal = td_mask(batch.valid, batch.terminals), batch.obs[:, :-1], batch.legal_actions[:, :-1]
        drawn = self._drawing(self.denoiser).generate(self.denoiser.encoder(obs), legal, 1, generator).squeeze(0)
        own = encode_actions(decode_actions(drawn, legal, self.discrete), self.action_dim, self.discrete)
        values = self.values.critic(obs, own.to(drawn.dtype)).movedim(-1, 1)  # (2, N, B, T-1)
        return {
            "q_mean": masked_mean(self.values.recorded_values(batch), usable),
            "q_policy_mean": masked_mean(values, usable),
            "target_mean": masked_mean(self._targets(batch, generator), usable),
        }
