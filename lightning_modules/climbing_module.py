"""Diffusions of each agent's actions that clone what was done and climb critics: what Diffusion-QL and DoF share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require
from lightning_modules.climbing_diffusion import ClimbingDiffusion
from lightning_modules.denoising import Denoised, denoised_actions
from lightning_modules.flows.diffusion import DiffusionSampler
from lightning_modules.flows.noise_schedules import NoiseSchedule
from lightning_modules.joint_steps import JointSteps, joint_steps, some_windows
from lightning_modules.local_value_learning import LocalValueLearning
from lightning_modules.networks.denoiser import Denoiser, DenoiserOutput
from lightning_modules.networks.diffusion_policies import DiffusionPolicy
from lightning_modules.networks.noise import Noise
from lightning_modules.networks.targets import target_copy


class ClimbingModule(OfflineModule):
    """Cloning by ``denoised_actions``, values and draws by ``ClimbingDiffusion``.

        L = L_Q + L_d - η E mean_i Q(o_i, x_i) / E|Q|,   Q the mean of both critics,   E|Q| held fixed

    Args:
        network: Class of the diffusion's network.
        levels: Levels of noise, at least 1.
        schedule: Which ᾱ_k: ``vp``, ``linear`` or ``cosine``, see ``flows.noise_schedules``.
        q_weight: η >= 0; 0 is cloning.
        acting_candidates: Candidates when acting, of which one is done with chances in proportion to exp(min_k Q̄_k);
            1 asks no critic.
        sampler: How actions are drawn, in training and when acting: ``ddpm``, ``ddim`` (with chance as ``eta`` says) or
            ``dpm_solver`` (without, of second order).
        sampling_steps: Network calls of a draw, at most the levels; null visits all of them.
        eta: η of ``ddim`` in [0, 1].
        output: What the network finds for continuous actions: the clean action (``endpoint``) or the ``noise``.
        target_candidates: Draws that are compared in the critics' targets, at least 1.
        acting_noise: ``normal`` draws from N(0, I); ``zero`` puts 0 in place of all noise. When acting only.
        shared_noise: When acting, agents of a team share all noise: the first, that in between, and the draw among
            candidates.
        windows_per_update: Windows of an update that critics learn from, drawn from the batch, because every target
            takes as many network calls as a draw; null takes all of them.
        steps_per_update: Recorded joint steps of an update that the diffusion learns from, drawn from the batch; null
            takes all of them.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window.
        critic_hidden_dims: Widths of the critics' hidden blocks.
        critic_learning_rate: Adam's step size for the critics.
        target_rate: Rate in (0, 1] at which target critics follow.
        ema_rate: Rate in (0, 1] at which the averaged copy of the diffusion follows.
        hidden_dims: Widths of the diffusion's hidden blocks.
        learning_rate: Adam's step size for the diffusion.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        network: type[Denoiser],
        levels: int,
        schedule: NoiseSchedule,
        q_weight: float,
        acting_candidates: int,
        sampler: DiffusionSampler = "ddpm",
        sampling_steps: int | None = None,
        eta: float = 0.0,
        output: DenoiserOutput = "endpoint",
        target_candidates: int = 1,
        acting_noise: Noise = "normal",
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
        self.q_weight, self.acting_candidates = q_weight, acting_candidates
        self.acting_noise: Noise = acting_noise
        self.shared_noise = shared_noise
        self.windows_per_update, self.steps_per_update = windows_per_update, steps_per_update
        self.critic_learning_rate, self.learning_rate, self.ema_rate = critic_learning_rate, learning_rate, ema_rate
        returns = (discount, trace_decay, target_rate)
        self.values = LocalValueLearning(self.shape, critic_hidden_dims, "alone", "min", *returns)
        self.denoiser = network(self.shape, hidden_dims, schedule, levels, output)
        self.averaged_denoiser = target_copy(self.denoiser)
        drawing = (levels if sampling_steps is None else sampling_steps, sampler, eta, target_candidates)
        self.diffusion = ClimbingDiffusion(self.values, self.denoiser, self.averaged_denoiser, *drawing)

    @property
    def policy(self) -> DiffusionPolicy:
        """Draws candidates and does one of them."""
        drawing = self.diffusion.drawing(self.denoiser)
        acting = replace(drawing, noise=self.acting_noise, shared_noise=self.shared_noise)
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
            own = self.own_actions(steps, features, cloned, generator)
            policy = policy + self.q_weight * self.values.climbing_loss(steps, own, "expected", normalise=True)
        some = some_windows(batch, self.windows_per_update, generator)
        return {"q": self.diffusion.td_loss(some, generator), "policy": policy}

    def own_actions(self, steps: JointSteps, features: Tensor, cloned: Denoised, generator: torch.Generator) -> Tensor:
        """x_i of the class at M steps, (M, N, A): actions, or chances of choices.

        Args:
            steps: M recorded steps.
            features: From the denoiser's encoder, (M, N, F).
            cloned: What was found in noisy recorded actions.
            generator: Source of noise.
        """
        return self.diffusion.own_actions(steps, features, generator)

    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done, of single draws, and of the targets."""
        return self.diffusion.diagnostics(batch)
