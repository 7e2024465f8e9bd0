"""DoF: a team's diffusion that is made of its agents' diffusions, of what they see or of what they do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_modules.climbing_module import ClimbingModule
from lightning_modules.denoising import Denoised
from lightning_modules.flows.noise_schedules import NoiseSchedule
from lightning_modules.joint_steps import JointSteps
from lightning_modules.networks.denoiser import Denoiser
from lightning_modules.networks.noise_factors import NoiseFactors, WeightedDenoiser
from lightning_modules.planning_module import PlanningModule


class DoFTrajectory(PlanningModule):
    """Diffusion factorisation, trajectory factors (Li et al., ICLR 2025, https://openreview.net/forum?id=OTFKVkxSlL).

    The team's noise is put together from the agents', each found from what this agent knows alone, so that the team's
    diffusion is N diffusions that can run apart:

        ε̂ = (f_1 ε̂(z_1), …, f_N ε̂(z_N)),    concat: f_i = 1,    w_concat: f_i = w_i / mean_j w_j with w learned

    z_i are agent i's own observations over time. Training and acting are those of ``TrajectoryDiffusion``: noise is
    found under a return, and an inverse dynamics acts; agents do not see each other.

    Differences from the original (https://github.com/xmu-rl-3dv/DoF): those of ``MADiff`` and its deviations hold here,
    too. The weights are divided by their mean (there by their sum, so that the network has to answer N times as much);
    guidance drops the return in its second call (there by chance only); mixing by a network is left out.

    Args:
        noise: How the team's noise is made of the agents': ``concat`` or ``w_concat``.
        **planning_options: Options of ``PlanningModule`` but the first two; all are options of this class.

    Raises:
        ValueError: If an option is outside its range.
    """

    def __init__(self, noise: NoiseFactors = "w_concat", **planning_options: Any) -> None:
        super().__init__(knowledge="alone", weighted_noise=noise == "w_concat", **planning_options)
        self.save_hyperparameters()


class DoFPolicy(ClimbingModule):
    """Diffusion factorisation, policy factors (Li et al., ICLR 2025, https://openreview.net/forum?id=OTFKVkxSlL).

    As ``DoFTrajectory``, but z_i is agent i's action, which its diffusion finds from its observation. The diffusions
    clone and climb critics of their own, as in Diffusion-QL:

        L_π = L_d - η E mean_i Q(o_i, x_i) / E|Q|,   x_i drawn by the diffusion, Q the mean of twin critics

    with L_d of ``denoising`` and the critics' L_Q of ``ClimbingDiffusion``.

    Differences from the original (https://github.com/xmu-rl-3dv/DoF): those of ``DiffusionQL``, and its deviations for
    choices, hold here, too; ``w_concat`` weighs what the networks answer: actions, noise (``output``), or logits. The
    weighted sum of actions that all critics may be given is left out. Deviation: in the released code the values of
    drawn actions are detached, so that L_π is cloning; here they have a gradient, unless ``q_gradient: false``.
    Deviation: 10 levels, of which the gradient passes through every one (there 100). The released ``w_concat`` of this
    factor names an attribute that does not exist; here it is that of trajectories.

    Args:
        noise: How the team's noise is made of the agents': ``concat`` or ``w_concat``.
        levels: Levels of noise.
        schedule: How noise grows with the levels: ``cosine``, ``linear`` or ``vp``.
        q_weight: η >= 0; 0 is cloning.
        q_gradient: Whether the values teach the diffusion anything; false is the released code.
        acting_candidates: Candidates when acting, of which one is drawn by its value; 1 asks no critic.
        **climbing_options: Critics and networks of ``ClimbingModule``, dimensions of ``OfflineModule``; all are options
            of this class, too.

    Raises:
        ValueError: If an option is outside its range.
    """

    def __init__(
        self,
        noise: NoiseFactors = "concat",
        levels: int = 10,
        schedule: NoiseSchedule = "linear",
        q_weight: float = 0.5,
        q_gradient: bool = True,
        acting_candidates: int = 1,
        **climbing_options: Any,
    ) -> None:
        super().__init__(
            network=WeightedDenoiser if noise == "w_concat" else Denoiser,
            levels=levels,
            schedule=schedule,
            q_weight=q_weight,
            acting_candidates=acting_candidates,
            **climbing_options,
        )
        self.save_hyperparameters()
        self.q_gradient = q_gradient

    def own_actions(self, steps: JointSteps, features: Tensor, cloned: Denoised, generator: torch.Generator) -> Tensor:
        """By a chain of draws; without a gradient as in the released code, if asked."""
        own = self.diffusion.own_actions(steps, features, generator)
        return own if self.q_gradient else own.detach()
