"""Diffusion over what a team sees, and inverse dynamics: what the algorithms that act by imagining share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datamodules.batch import TeamBatch
from lightning_modules.base import TargetPair, require
from lightning_modules.flows.diffusion import add_noise
from lightning_modules.flows.guidance import drop_condition
from lightning_modules.flows.noise_schedules import NoiseSchedule, draw_levels, noise_schedule
from lightning_modules.losses.cloning import choice_cloning_error, squared_cloning_error
from lightning_modules.losses.masking import masked_mean
from lightning_modules.networks.actions import decode_actions
from lightning_modules.networks.changes import as_changes
from lightning_modules.networks.inverse_dynamics import InverseDynamics
from lightning_modules.networks.planning_policies import Knowledge, PlanningPolicy
from lightning_modules.networks.targets import target_copy
from lightning_modules.networks.team_shape import TeamShape
from lightning_modules.networks.trajectory_denoiser import (
    ABSENT,
    IMAGINED,
    SHOWN,
    TrajectoryDenoiser,
    execution_roles,
)

TrajectoryError = Literal["observations", "noise"]


class TrajectoryDiffusion(nn.Module):
    """A denoiser of observation trajectories under a return, and what leads from an observation to the next.

        L = E mean |o - ô(z_k, k | shown, R)|²,   z_k = √ᾱ_k o + √(1 - ᾱ_k) ε,  k uniform on 1..K
        L_I = E -log I(a_i | o_i, Δo_i)  for choices,   E |a_i - I(o_i, Δo_i)|² / A  for continuous actions

    Here o is the present observation and, before and behind it, changes from step to step, in units of their usual
    size (``networks.changes``); Δo_i is such a change. L is the mean over the observations that are to be imagined:
    those that an agent does not know when it acts (``execution_roles``), up to the episode's end. The return R of the
    whole episode enters as (R - low) / (high - low), with the smallest and the largest recorded one; a share of the
    windows is trained without it.

    The noise that ô implies is off by |ε - ε̂|² = ᾱ_k/(1 - ᾱ_k) |o - ô|². With ``error: noise`` this is what L is made
    of, as in DDPM (Ho et al., arXiv:2006.11239, Eq. 14): next to nothing is learned where there is almost only noise,
    which is where sampling in few steps begins.

    Args:
        shape: The team's sizes; there is no memory.
        knowledge: What an agent knows when it acts, see ``PlanningPolicy``; it is trained for that.
        history: H >= 0, past observations that are known beside the present one.
        horizon: Steps from the present one on that are imagined at most, at least 2; fewer in shorter windows.
        width: Size of a row in the denoiser.
        n_blocks: Blocks of the denoiser.
        weighted_noise: Whether the noise of each agent has a learned weight, see ``TrajectoryDenoiser``.
        hidden_dims: Widths of the inverse dynamics' hidden blocks.
        error: Whether errors are those of ``observations`` or those of ``noise``.
        schedule: Which ᾱ_k.
        levels: K, at least 1.
        condition_dropout: Share of windows trained without the return, in [0, 1).
        return_range: Returns that count as 0 and as 1; by default the smallest and largest of the training episodes.
        change_scale: Usual size of changes, for all entries alike; by default that of each entry in the training
            episodes.
        ema_rate: Rate in (0, 1] at which the copies that act follow.

    Raises:
        ValueError: If an option is outside its range.
    """

    kept: Tensor
    return_range: Tensor
    change_scale: Tensor
    length: Tensor

    def __init__(
        self,
        shape: TeamShape,
        knowledge: Knowledge,
        history: int,
        horizon: int,
        width: int,
        n_blocks: int,
        weighted_noise: bool,
        hidden_dims: Sequence[int],
        error: TrajectoryError,
        schedule: NoiseSchedule,
        levels: int,
        condition_dropout: float,
        return_range: tuple[float, float] | None,
        change_scale: float | None,
        ema_rate: float,
    ) -> None:
        super().__init__()
        require(history >= 0, "history", "at least 0", history)
        require(horizon >= 2, "horizon", "at least 2", horizon)
        require(n_blocks >= 1, "n_blocks", "at least 1", n_blocks)
        require(0 <= condition_dropout < 1, "condition_dropout", "in [0, 1)", condition_dropout)
        require(0 < ema_rate <= 1, "ema_rate", "in (0, 1]", ema_rate)
        ordered = return_range is None or return_range[0] < return_range[1]
        require(ordered, "return_range", "null, or a smaller and a larger return", return_range)
        self.discrete, self.n_agents = shape.discrete, shape.n_agents
        self.knowledge: Knowledge = knowledge
        self.history, self.horizon = history, horizon
        self.error: TrajectoryError = error
        self.condition_dropout, self.ema_rate = condition_dropout, ema_rate
        require(change_scale is None or change_scale > 0, "change_scale", "above 0 or null", change_scale)
        self.measures_returns, self.measures_changes = return_range is None, change_scale is None
        self.register_buffer("change_scale", torch.full((shape.obs_dim,), change_scale or 1.0))
        self.register_buffer("return_range", torch.tensor(return_range or (0.0, 1.0)))
        # Of the trajectories that it has been trained on, and therefore imagines
        self.register_buffer("length", torch.tensor(history + 2))
        self.register_buffer("kept", noise_schedule(schedule, levels), persistent=False)
        attention, length = knowledge != "alone", history + horizon
        self.denoiser = TrajectoryDenoiser(shape, length, width, n_blocks, attention=attention, weighted=weighted_noise)
        self.inverse = InverseDynamics(shape, hidden_dims)
        self.acting_denoiser, self.acting_inverse = target_copy(self.denoiser), target_copy(self.inverse)

    def measure(self, data: Any, unit: Tensor | float) -> None:
        """Takes the range of returns and the size of changes from the data, unless they were given.

        Args:
            data: A datamodule with ``return_range`` and ``change_scaling``.
            unit: What the data's observations are divided by before they come here, a number or (O,).

        Raises:
            ValueError: If it has none.
        """
        wanted = {"return_range": self.measures_returns, "change_scaling": self.measures_changes}
        if missing := [name for name, measured in wanted.items() if measured and not hasattr(data, name)]:
            raise ValueError(
                f"expected a datamodule with {' and '.join(missing)}, got {type(data).__name__}; pass an "
                "OfflineDataModule to the trainer, or give return_range and change_scale under model.init_args"
            )
        if self.measures_returns:
            self.return_range.copy_(torch.tensor(data.return_range))
        if self.measures_changes:
            self.change_scale.copy_(torch.from_numpy(data.change_scaling.std) / unit)

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """L and L_I of the class; each moves only its own network."""
        return {"trajectory": self.trajectory_loss(batch, generator), "inverse": self.inverse_loss(batch)}

    def steps(self, batch: TeamBatch) -> int:
        """How many steps of a batch's windows make a trajectory.

        Raises:
            ValueError: If windows have no room for the history, the present and one step more.
        """
        steps = min(batch.obs.shape[1], self.denoiser.length)
        if steps < self.history + 2:
            raise ValueError(
                f"expected windows of at least {self.history + 2} steps for a history of {self.history}, got {steps}; "
                "raise data.init_args.window or lower model.init_args.history"
            )
        return steps

    def trajectory_loss(self, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """L of the class, over the first steps of the windows."""
        steps = self.steps(batch)
        clean, valid = batch.obs[:, :steps], batch.valid[:, :steps, None]
        rows = len(clean)
        own = self.knowledge == "own"
        knower = torch.randint(self.n_agents, (rows,), generator=generator, device=clean.device) if own else None
        roles = execution_roles(steps, self.history, self.n_agents, knower, clean.device)
        roles = torch.where(valid, roles, roles.new_tensor(ABSENT))  # (B, T, N)
        clean = self._as_if_begun(clean, generator)
        clean = as_changes(clean, self.history, self.change_scale)
        level = draw_levels((rows,), len(self.kept) - 1, generator, clean.device)  # (B, 1)
        kept = self.kept[level]
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        z = add_noise(clean, noise, kept[..., None, None])
        z = torch.where((roles == SHOWN).unsqueeze(-1), clean, z)
        dropped = drop_condition((rows,), self.condition_dropout, generator, clean.device)
        goals = self.goals(batch.returns[:, 0], dropped)
        found = self.denoiser(z, roles, level / (len(self.kept) - 1), kept.sqrt(), goals)
        errors = (found - clean).square().mean(dim=-1)  # (B, T, N)
        if self.error == "noise":
            errors = errors * (kept / (1 - kept)).unsqueeze(-1)
        return masked_mean(errors, roles == IMAGINED)

    def inverse_loss(self, batch: TeamBatch) -> Tensor:
        """L_I of the class, over steps that have a next one."""
        output = self.inverse(batch.obs[:, :-1], self.changes(batch))
        error = choice_cloning_error if self.discrete else squared_cloning_error
        errors = error(output, batch.actions[:, :-1], batch.legal_actions[:, :-1])
        return masked_mean(errors, batch.valid[:, 1:].unsqueeze(-1))

    def changes(self, batch: TeamBatch) -> Tensor:
        """What each step of the windows changes, (B, T-1, N, O)."""
        return (batch.obs[:, 1:] - batch.obs[:, :-1]) / self.change_scale

    def goals(self, returns: Tensor, dropped: Tensor) -> Tensor:
        """Conditions (B, 2) of the denoiser, (return in [0, 1], 1), or zeros where dropped, (B,) bool."""
        low, high = self.return_range.unbind()
        value = (returns - low) / (high - low).clamp(min=1e-6)
        return torch.stack([value, torch.ones_like(value)], dim=-1).masked_fill(dropped.unsqueeze(-1), 0.0)

    def policy(self, **options: Any) -> PlanningPolicy:
        """Acts with the lagged copies; options as in ``PlanningPolicy``."""
        return PlanningPolicy(
            denoiser=self.acting_denoiser,
            inverse=self.acting_inverse,
            kept=self.kept,
            change_scale=self.change_scale,
            length=int(self.length),
            history=self.history,
            knowledge=self.knowledge,
            **options,
        )

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Share of recorded choices that the acting inverse dynamics find, or their squared error."""
        output = self.acting_inverse(batch.obs[:, :-1], self.changes(batch))
        counts, legal, recorded = batch.valid[:, 1:].unsqueeze(-1), batch.legal_actions[:, :-1], batch.actions[:, :-1]
        if self.discrete:
            found = decode_actions(output, legal, self.discrete) == recorded
            return {"inverse_accuracy": masked_mean(found.to(output.dtype), counts)}
        return {"inverse_error": masked_mean(squared_cloning_error(output, recorded, legal), counts)}

    def target_pairs(self) -> Sequence[TargetPair]:
        """What acts follows what learns."""
        pairs = ((self.denoiser, self.acting_denoiser), (self.inverse, self.acting_inverse))
        return tuple(TargetPair(source, target, self.ema_rate) for source, target in pairs)

    def _as_if_begun(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Windows (B, T, N, O) as an agent knows them that began to act 0 to H steps before the present.

        The first observation takes the place of those before it, as when acting; windows themselves never begin
        before the episode.
        """
        if self.history == 0:
            return clean
        first = torch.randint(self.history + 1, (len(clean), 1), generator=generator, device=clean.device)
        time = torch.arange(clean.shape[1], device=clean.device).clamp(min=first)  # (B, T)
        return clean.gather(1, time[..., None, None].expand_as(clean))
