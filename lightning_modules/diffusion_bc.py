"""Diffusion BC: behaviour cloning by a diffusion over each agent's action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require
from lightning_modules.denoising import denoised_actions
from lightning_modules.flows.diffusion import DiffusionSampler
from lightning_modules.flows.noise_schedules import NoiseSchedule
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.denoiser import Denoiser, DenoiserOutput
from lightning_modules.networks.diffusion_policies import DiffusionPolicy
from lightning_modules.networks.noise import Noise
from lightning_modules.networks.targets import target_copy


class DiffusionBC(OfflineModule):
    """Clones every agent's recorded actions by a diffusion (DDPM, Ho et al., arXiv:2006.11239).

        L = E |a_i - x̂(z_k, k | o_i, i)|² / A,   z_k = √ᾱ_k a_i + √(1 - ᾱ_k) ε,   k uniform on 1..K

    Acting starts from noise and visits S of the K levels on its way to an action: S network calls. This is what
    Diffusion-QL (Wang et al., arXiv:2208.06193) has beside its critic; as a baseline of its own in
    https://github.com/Zhendong-Wang/Diffusion-Policies-for-Offline-RL (``bc_diffusion``). Agents share one network,
    which knows the agent's number.

    Choices are one-hot vectors in {-1, 1}. Deviation: for them the network answers chances p of choices, learns by
    their cross entropy in place of the squared error, and 2 p - 1 is the clean action (Dieleman et al.,
    arXiv:2211.15089); so x̂ is always between legal choices.

    Deviation: the network finds the clean action x̂; ``output: noise`` finds the noise, as in DDPM, with the loss
    E |ε - ε̂|² / A. From x̂ it learns sooner what actions depend on: the noise says little about observations.

    Differences from that code: memory is an option; an averaged copy acts; samplers of fewer steps. Deviation: our MLP
    with LayerNorm and GELU, to which the level is given as k/K, its sines and cosines, √ᾱ and √(1 - ᾱ) (there Mish and
    a learned embedding); K = 100 levels of the cosine schedule (there 5 of ``vp``); ``steps_per_update``.

    Args:
        levels: K >= 1.
        schedule: Which ᾱ_k: ``vp``, ``linear`` or ``cosine``, see ``flows.noise_schedules``.
        sampler: How actions are drawn: ``ddpm`` (with chance in every step), ``ddim`` (as much as ``eta`` says) or
            ``dpm_solver`` (without, of second order).
        sampling_steps: S in 1..K; null visits all levels.
        eta: η in [0, 1] of ``ddim``: 0 is without chance in between, 1 is ``ddpm``.
        noise: ``normal`` draws from N(0, I); ``zero`` puts 0 in place of all noise and acts deterministically. When
            acting only.
        shared_noise: When acting, agents of a team share all noise, the first and that in between.
        steps_per_update: Recorded joint steps of an update, drawn from the batch; null takes all of them.
        output: What the network finds for continuous actions: the clean action (``endpoint``) or the ``noise``.
        hidden_dims: Widths of the hidden blocks.
        learning_rate: Adam's step size.
        ema_rate: Rate in (0, 1] at which the acting copy follows the trained network; 1 is the trained network itself.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        levels: int = 100,
        schedule: NoiseSchedule = "cosine",
        sampler: DiffusionSampler = "ddpm",
        sampling_steps: int | None = 20,
        eta: float = 0.0,
        noise: Noise = "normal",
        shared_noise: bool = False,
        steps_per_update: int | None = 256,
        output: DenoiserOutput = "endpoint",
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 3e-4,
        ema_rate: float = 0.005,
        **team_options: Any,
    ) -> None:
        super().__init__(**team_options)
        self.save_hyperparameters()
        require(levels >= 1, "levels", "at least 1", levels)
        fits = sampling_steps is None or 1 <= sampling_steps <= levels
        require(fits, "sampling_steps", f"in 1..{levels}, the levels, or null", sampling_steps)
        require(0 <= eta <= 1, "eta", "in [0, 1]", eta)
        require(0 < ema_rate <= 1, "ema_rate", "in (0, 1]", ema_rate)
        self.sampling_steps = levels if sampling_steps is None else sampling_steps
        self.sampler: DiffusionSampler = sampler
        self.noise: Noise = noise
        self.eta, self.shared_noise, self.steps_per_update = eta, shared_noise, steps_per_update
        self.learning_rate, self.ema_rate = learning_rate, ema_rate
        self.denoiser = Denoiser(self.shape, hidden_dims, schedule, levels, output)
        self.acting_denoiser = target_copy(self.denoiser)

    @property
    def policy(self) -> DiffusionPolicy:
        """S steps of the averaged diffusion."""
        steps, how = self.sampling_steps, (self.sampler, self.eta, self.noise, self.shared_noise)
        return DiffusionPolicy(self.acting_denoiser, steps, *how)

    def evaluation_policies(self) -> Mapping[str, DiffusionPolicy]:
        """The policy, other noise, and samplers of all levels and of few."""
        levels = self.denoiser.levels
        samplers: dict[str, tuple[DiffusionSampler, int]] = {
            f"ddpm, {levels} steps": ("ddpm", levels),
            f"ddim, {min(10, levels)} steps": ("ddim", min(10, levels)),
            f"dpm_solver, {min(5, levels)} steps": ("dpm_solver", min(5, levels)),
        }
        others = {
            f"policy, {name}": replace(self.policy, sampler=sampler, steps=steps)
            for name, (sampler, steps) in samplers.items()
        }
        return {"policy": self.policy, **self.policy.with_other_noise(), **others}

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """The denoiser."""
        return (parameter_group(self.learning_rate, self.denoiser),)

    def target_pairs(self) -> Sequence[TargetPair]:
        """The acting copy."""
        return (TargetPair(self.denoiser, self.acting_denoiser, self.ema_rate),)

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        steps = joint_steps(batch, self.steps_per_update, generator)
        features = steps.features(self.denoiser.encoder)
        return {"policy": denoised_actions(self.denoiser, steps, features, generator).loss}
