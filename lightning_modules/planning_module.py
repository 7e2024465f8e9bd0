"""What the algorithms share that imagine what they will see, and act to see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require
from lightning_modules.flows.noise_schedules import NoiseSchedule
from lightning_modules.joint_steps import some_windows
from lightning_modules.networks.planning_policies import Knowledge, PlanningPolicy
from lightning_modules.trajectory_diffusion import TrajectoryDiffusion, TrajectoryError


class PlanningModule(OfflineModule):
    """An algorithm that acts by sampling trajectories of observations under a high return (``TrajectoryDiffusion``).

    Args:
        knowledge: What an agent knows when it acts, see ``PlanningPolicy``.
        weighted_noise: Whether the noise of each agent has a learned weight.
        history: Past observations that are known beside the present one.
        horizon: Steps from the present one on that are imagined at most, at least 2; fewer where ``data.window`` is
            shorter. More of them cost time.
        target_return: The return aimed at: 0 is the worst recorded episode's, 1 the best one's.
        return_range: Returns that count as 0 and 1; null takes the smallest and largest of the training episodes.
        change_scale: Usual size of what a step changes, for all entries of an observation alike; null measures that of
            each entry.
        condition_dropout: Share of windows trained without the return, in [0, 1).
        guidance_scale: 0 ignores the return, 1 samples under it, more exaggerates it.
        error: Whether the denoiser's error is that of the ``observations`` that it finds, or that of the ``noise``.
        schedule: How noise grows with the levels: ``cosine``, ``linear`` or ``vp``.
        levels: Levels of noise.
        sampling_steps: Steps of DDIM when acting, each with one call of the network, or two under guidance.
        bound: What is imagined is kept in [-bound, bound] while sampling; null does not.
        temperature: Deviation of the initial noise; 0 acts without chance.
        shared_noise: When acting, agents of a team start from the same noise, see ``PlanningPolicy``.
        windows_per_update: Windows of an update, drawn from the batch; null takes all of them.
        width: Size of an agent's row in the denoiser, a multiple of 8.
        n_blocks: Blocks of the denoiser.
        hidden_dims: Widths of the inverse dynamics' hidden blocks.
        learning_rate: Adam's step size.
        ema_rate: Rate in (0, 1] at which the copies that act follow.
        standardise: Whether networks see observations with mean 0 and standard deviation 1 in each entry.
        **team_options: Dimensions and further options of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If an option is outside its range.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        weighted_noise: bool = False,
        history: int = 0,
        horizon: int = 4,
        target_return: float = 1.0,
        return_range: tuple[float, float] | None = None,
        change_scale: float | None = None,
        condition_dropout: float = 0.25,
        guidance_scale: float = 2.0,
        error: TrajectoryError = "observations",
        schedule: NoiseSchedule = "cosine",
        levels: int = 100,
        sampling_steps: int = 5,
        bound: float | None = 10.0,
        temperature: float = 0.5,
        shared_noise: bool = False,
        windows_per_update: int | None = 64,
        width: int = 96,
        n_blocks: int = 2,
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 1e-3,
        ema_rate: float = 0.005,
        standardise: bool = True,
        **team_options: Any,
    ) -> None:
        super().__init__(standardise=standardise, **team_options)
        encoder = self.shape.encoder
        require(encoder == "mlp", "encoder", "'mlp', because plans hold the past (history)", encoder)
        require(guidance_scale >= 0, "guidance_scale", "at least 0", guidance_scale)
        require(1 <= sampling_steps <= levels, "sampling_steps", f"in 1..{levels}, the levels", sampling_steps)
        require(bound is None or bound > 0, "bound", "above 0 or null", bound)
        require(temperature >= 0, "temperature", "at least 0", temperature)
        enough = windows_per_update is None or windows_per_update >= 1
        require(enough, "windows_per_update", "at least 1 or null", windows_per_update)
        self.target_return, self.guidance_scale = target_return, guidance_scale
        self.sampling_steps, self.bound = sampling_steps, bound
        self.temperature, self.shared_noise = temperature, shared_noise
        self.windows_per_update, self.learning_rate = windows_per_update, learning_rate
        self.model = TrajectoryDiffusion(
            self.shape,
            knowledge,
            history,
            horizon,
            width,
            n_blocks,
            weighted_noise,
            hidden_dims,
            error,
            schedule,
            levels,
            condition_dropout,
            return_range,
            change_scale,
            ema_rate,
        )

    @property
    def recurrent(self) -> bool:
        """Whether past observations are known beside the present one."""
        return self.model.history > 0

    @property
    def policy(self) -> PlanningPolicy:
        """Imagines a high return and acts for it."""
        return self.model.policy(
            goal=(self.target_return, 1.0) if self.guidance_scale > 0 else (0.0, 0.0),
            guidance_scale=self.guidance_scale,
            sampling_steps=self.sampling_steps,
            bound=self.bound,
            temperature=self.temperature,
            shared_noise=self.shared_noise,
        )

    def evaluation_policies(self) -> Mapping[str, PlanningPolicy]:
        """With noise of every agent's own and with shared noise, and without a return to aim at."""
        return self.policy.compared()

    def setup(self, stage: str) -> None:
        """Measures the data before training: observations, what they change in a step, and returns."""
        super().setup(stage)
        if stage == "fit":
            unit = self.obs_std if self.standardise else 1.0
            self.model.measure(getattr(self.trainer, "datamodule", None), unit)

    def training_step(self, batch: TeamBatch, batch_idx: int) -> Tensor:
        """Sum of the losses. The policy imagines trajectories as long as those it is trained on."""
        self.model.length.fill_(self.model.steps(batch))
        return super().training_step(batch, batch_idx)

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Denoiser and inverse dynamics."""
        return (parameter_group(self.learning_rate, self.model.denoiser, self.model.inverse),)

    def target_pairs(self) -> Sequence[TargetPair]:
        """The copies that act."""
        return self.model.target_pairs()

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See ``TrajectoryDiffusion``."""
        return self.model.losses(some_windows(batch, self.windows_per_update, generator), generator)

    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """How far the inverse dynamics are from what was done."""
        return self.model.diagnostics(batch)
