"""DoF: a team's diffusion that is made of its agents' diffusions, of what they see or of what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require
from lightning_modules.climbing_diffusion import ClimbingDiffusion
from lightning_modules.denoising import denoised_actions
from lightning_modules.flows.noise_schedules import NoiseSchedule
from lightning_modules.joint_steps import joint_steps, some_windows
from lightning_modules.local_value_learning import LocalValueLearning
from lightning_modules.networks.denoiser import Denoiser
from lightning_modules.networks.diffusion_policies import DiffusionPolicy
from lightning_modules.networks.noise_factors import NoiseFactors, WeightedDenoiser
from lightning_modules.networks.targets import target_copy
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


class DoFPolicy(OfflineModule):
    """Diffusion factorisation, policy factors (Li et al., ICLR 2025, https://openreview.net/forum?id=OTFKVkxSlL).

    As ``DoFTrajectory``, but z_i is agent i's action, which its diffusion finds from its observation. The diffusions
    clone and climb critics of their own, as in Diffusion-QL:

        L_π = L_d - η E mean_i Q(o_i, x_i) / E|Q|,   x_i drawn by the diffusion, Q the mean of twin critics

    with L_d of ``denoising`` and the critics' L_Q of ``ClimbingDiffusion``.

    Differences from the original (https://github.com/xmu-rl-3dv/DoF): those of ``DiffusionQL``, and its deviations for
    choices, hold here, too; ``w_concat`` weighs the logits of choices. The weighted sum of actions that all critics may
    be given is left out. Deviation: in the released code the values of drawn actions are detached, so that L_π is
    cloning; here they have a gradient, unless ``q_gradient: false``. Deviation: 10 levels, of which the gradient
    passes through every one (there 100). The released ``w_concat`` of this factor names an attribute that does not
    exist; here it is that of trajectories.

    Args:
        noise: How the team's noise is made of the agents': ``concat`` or ``w_concat``.
        levels: Levels of noise.
        schedule: How noise grows with the levels: ``cosine``, ``linear`` or ``vp``.
        sampling_steps: Network calls of a draw (DDPM), at most the levels; null visits all of them.
        q_weight: η >= 0; 0 is cloning.
        q_gradient: Whether the values teach the diffusion anything; false is the released code.
        acting_candidates: Candidates when acting, of which one is drawn by its value; 1 asks no critic.
        shared_noise: When acting, agents of a team share all noise.
        windows_per_update: Windows of an update that critics learn from, drawn from the batch; null takes all of them.
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
        ValueError: If an option is outside its range.
    """

    def __init__(
        self,
        noise: NoiseFactors = "concat",
        levels: int = 10,
        schedule: NoiseSchedule = "linear",
        sampling_steps: int | None = None,
        q_weight: float = 0.5,
        q_gradient: bool = True,
        acting_candidates: int = 1,
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
        require(q_weight >= 0, "q_weight", "at least 0", q_weight)
        require(acting_candidates >= 1, "acting_candidates", "at least 1", acting_candidates)
        enough = windows_per_update is None or windows_per_update >= 1
        require(enough, "windows_per_update", "at least 1 or null", windows_per_update)
        require(0 < ema_rate <= 1, "ema_rate", "in (0, 1]", ema_rate)
        self.q_weight, self.q_gradient = q_weight, q_gradient
        self.acting_candidates, self.shared_noise = acting_candidates, shared_noise
        self.windows_per_update, self.steps_per_update = windows_per_update, steps_per_update
        self.critic_learning_rate, self.learning_rate, self.ema_rate = critic_learning_rate, learning_rate, ema_rate
        dims, memory = (self.n_agents, self.obs_dim, self.action_dim, self.discrete), (self.encoder, self.memory_dim)
        returns = (discount, trace_decay, target_rate)
        self.values = LocalValueLearning(*dims, critic_hidden_dims, "alone", "min", *returns, *memory)
        network = WeightedDenoiser if noise == "w_concat" else Denoiser
        self.denoiser = network(*dims, hidden_dims, schedule, levels, *memory)
        self.averaged_denoiser = target_copy(self.denoiser)
        steps = levels if sampling_steps is None else sampling_steps
        self.diffusion = ClimbingDiffusion(self.values, self.denoiser, self.averaged_denoiser, steps)

    @property
    def policy(self) -> DiffusionPolicy:
        """Draws an action, or one of several candidates."""
        drawing = self.diffusion.drawing(self.denoiser)
        drawing = replace(drawing, shared_noise=self.shared_noise)
        return replace(drawing, critics=self.values.target_critic, candidates=self.acting_candidates)

    def evaluation_policies(self) -> Mapping[str, DiffusionPolicy]:
        """The policy, and other noise."""
        return {"policy": self.policy, **self.policy.with_other_noise()}

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
        policy = denoised_actions(self.denoiser, steps, features, generator).loss
        if self.q_weight > 0:
            own = self.diffusion.own_actions(steps, features, generator)
            own = own if self.q_gradient else own.detach()
            policy = policy + self.q_weight * self.values.climbing_loss(steps, own, "expected", normalise=True)
        some = some_windows(batch, self.windows_per_update, generator)
        return {"q": self.diffusion.td_loss(some, generator), "policy": policy}

    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done, of single draws, and of the targets."""
        return self.diffusion.diagnostics(batch)
