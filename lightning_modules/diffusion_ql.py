"""Diffusion-QL for teams: each agent's diffusion clones what was done and climbs a critic of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_modules.climbing_module import ClimbingModule
from lightning_modules.denoising import Denoised
from lightning_modules.flows.noise_schedules import NoiseSchedule
from lightning_modules.joint_steps import JointSteps
from lightning_modules.networks.denoiser import Denoiser
from lightning_modules.networks.noise import Noise


class DiffusionQL(ClimbingModule):
    """Diffusion-QL (Wang et al., arXiv:2208.06193), every agent for itself from the team's reward.

        L_Q = Σ_k E mean_i (Q_k(o_i, a_i) - G_i)²,   G_i from V(o'_i) = min_k max_p Q̄_k(o'_i, x̄_p),   p = 1..P
        L_π = L_d - η E mean_i Q(o_i, x_i) / E|Q|,   Q the mean of both Q_k,   E|Q| held fixed

    L_d clones: a diffusion learns to take the noise out of recorded actions (``denoising``). x_i is drawn by S steps of
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

    Deviation: the network finds clean actions, as in DiffusionBC; the originals' ``output: noise`` learns more slowly.

    Differences from the originals: agents share networks, which know the agent's number; truncated last steps have no
    target; memory is an option; LayerNorm in all networks. Deviation: L_π takes the mean of both critics and its own
    size (there one of them, drawn by chance, and the size of the other); the averaged copy follows after every update
    (there after every fifth, from the thousandth on); 10 candidates (there 50); the level is given to the network as
    k/K, its sines and cosines, √ᾱ and √(1 - ᾱ); ``windows_per_update`` and ``steps_per_update``.

    Args:
        levels: K >= 1, levels of noise.
        schedule: Which ᾱ_k: ``vp``, ``linear`` or ``cosine``, see ``flows.noise_schedules``.
        q_weight: η >= 0 of L_π; 0 is cloning.
        acting_candidates: Candidates when acting; 1 asks no critic.
        noise: ``normal`` draws from N(0, I); ``zero`` puts 0 in place of all noise. When acting only.
        action_approximation: Whether one call takes the place of the chain in L_π.
        **climbing_options: Draws, critics and networks of ``ClimbingModule``, dimensions of ``OfflineModule``; all are
            options of this class, too. S is ``sampling_steps``, P ``target_candidates``.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        levels: int = 5,
        schedule: NoiseSchedule = "vp",
        q_weight: float = 1.0,
        acting_candidates: int = 10,
        noise: Noise = "normal",
        action_approximation: bool = False,
        **climbing_options: Any,
    ) -> None:
        super().__init__(
            network=Denoiser,
            levels=levels,
            schedule=schedule,
            q_weight=q_weight,
            acting_candidates=acting_candidates,
            acting_noise=noise,
            **climbing_options,
        )
        self.save_hyperparameters()
        self.action_approximation = action_approximation

    def own_actions(self, steps: JointSteps, features: Tensor, cloned: Denoised, generator: torch.Generator) -> Tensor:
        """By a chain of draws, or with ``action_approximation`` by the one call of L_d."""
        return self.diffusion.own_actions(steps, features, generator, cloned if self.action_approximation else None)
