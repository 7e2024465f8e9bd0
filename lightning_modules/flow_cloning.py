"""Cloning by a flow and nothing else: what algorithms of this kind share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require
from lightning_modules.flow_regression import FlowRows, cloning_rows
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.noise import Noise, standard_normal
from lightning_modules.networks.targets import target_copy
from lightning_modules.networks.velocity import VelocityNetwork


class FlowCloning(OfflineModule):
    """Trains a velocity network on all recorded actions alike; its averaged copy acts.

    Args:
        output: ``endpoint``: the network predicts the clean action, always a valid one, and its error is measured in
            action space. ``velocity``: it predicts the velocity.
        min_time: Smallest t in training; the endpoint output divides by t.
        noise: ``normal`` starts from N(0, I); ``zero`` starts from 0 and acts deterministically. When acting only.
        shared_noise: When acting, agents of a team start from one common noise.
        steps_per_update: Recorded joint steps of an update, drawn from the batch; null takes all of them.
        hidden_dims: Widths of the hidden blocks.
        learning_rate: Adam's step size.
        ema_rate: Rate at which the acting copy follows the trained network; 1 is the trained network itself.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        output: Literal["endpoint", "velocity"] = "endpoint",
        min_time: float = 0.05,
        noise: Noise = "normal",
        shared_noise: bool = False,
        steps_per_update: int | None = 256,
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 3e-4,
        ema_rate: float = 0.005,
        **team_options: Any,
    ) -> None:
        super().__init__(**team_options)
        require(0 < min_time < 1, "min_time", "in (0, 1)", min_time)
        require(0 < ema_rate <= 1, "ema_rate", "in (0, 1]", ema_rate)
        self.min_time = min_time
        self.noise: Noise = noise
        self.shared_noise, self.steps_per_update = shared_noise, steps_per_update
        self.learning_rate, self.ema_rate = learning_rate, ema_rate
        self.velocity = VelocityNetwork(self.shape, hidden_dims, output)
        self.acting_velocity = target_copy(self.velocity)

    @abstractmethod
    def cloning_loss(self, rows: FlowRows, generator: torch.Generator) -> Tensor:
        """What is minimised over recorded actions, a scalar."""

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """The velocity network."""
        return (parameter_group(self.learning_rate, self.velocity),)

    def target_pairs(self) -> Sequence[TargetPair]:
        """The acting copy."""
        return (TargetPair(self.velocity, self.acting_velocity, self.ema_rate),)

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The cloning loss of some of the recorded steps, every agent with noise of its own."""
        steps = joint_steps(batch, self.steps_per_update, generator)
        noise = standard_normal(steps.legal_actions.shape, steps.obs, generator)
        with torch.autocast(self.device.type, enabled=False):  # derivatives and divisions by t need full precision
            return {"policy": self.cloning_loss(cloning_rows(steps, self.velocity, noise), generator)}
