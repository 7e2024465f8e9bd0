"""Cloning by a flow that is told how good each recorded action was: what VGM2P and CFGRL share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.advantage_module import AdvantageModule, CreditKind
from lightning_modules.base import TargetPair, parameter_group, require
from lightning_modules.flows import guidance
from lightning_modules.joint_steps import JointSteps, joint_steps
from lightning_modules.losses.advantage import continuous_condition, quantile_labels, sign_labels
from lightning_modules.networks.noise import Noise
from lightning_modules.networks.targets import target_copy
from lightning_modules.networks.velocity import VelocityNetwork


class Conditions(NamedTuple):
    """What recorded actions are called when they are cloned.

    Attributes:
        value: How good, in [-1, 1], (M, N).
        kept: Whether the network is told so, (M, N) bool; otherwise it learns the null condition.
    """

    value: Tensor
    kept: Tensor

    def shown(self) -> Tensor:
        """As a velocity network takes them: (value, known), one row per step and agent, (M * N, 2)."""
        return torch.stack([self.value * self.kept, self.kept.to(self.value.dtype)], dim=-1).flatten(0, 1)


class ConditionalCloning(AdvantageModule):
    """Labels recorded actions by the critic's advantages, or shares in them, and clones all under their labels.

    The policy is the averaged copy of a velocity network, asked for good actions. Algorithms differ in what the flow
    learns and how its guidance gets in.

    Args:
        credit: Whose label a row carries. ``local``: each agent's own share in the global advantage, labelled per
            agent. ``joint``: the global advantage, one label for all agents.
        label: What the policy is conditioned on. ``quantile``: above the ``label_quantile`` of its kind in the
            dataset. ``sign``: above ``label_threshold`` standard deviations. ``continuous``: the standardised number.
        label_quantile: For ``quantile``, in (0, 1): share called bad. Small is lenient and robust (only what is
            clearly bad counts as bad), large asks for the best only and needs a critic that deserves it.
        label_threshold: For ``sign``; 0 is better than average, below 0 is lenient.
        executed_condition: For ``continuous``: the standardised advantage that is asked for when acting, in (0, 3].
        condition_dropout: Share of rows that train the null condition.
        output: ``endpoint``: the network predicts the clean action, always a valid one. ``velocity``: the velocity.
        min_time: Smallest t in training; the endpoint output divides by t.
        guidance_scale: w with which ``policy`` acts; 1 is plain conditional cloning.
        noise: ``normal`` starts from N(0, I); ``zero`` starts from 0 and acts deterministically. When acting only.
        hidden_dims: Widths of the policy's hidden blocks.
        learning_rate: Adam's step size for the policy.
        ema_rate: Rate at which the acting copy follows the trained policy.
        **critic_options: Dimensions and critic of ``AdvantageModule``; all are options of this class too.

    Raises:
        ValueError: If a number is outside its range.
    """

    signal_quantile: Tensor

    def __init__(
        self,
        credit: CreditKind = "local",
        label: Literal["quantile", "sign", "continuous"] = "quantile",
        label_quantile: float = 0.2,
        label_threshold: float = 0.0,
        executed_condition: float = 1.5,
        condition_dropout: float = 0.1,
        output: Literal["endpoint", "velocity"] = "endpoint",
        min_time: float = 0.05,
        guidance_scale: float = 2.0,
        noise: Noise = "normal",
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 3e-4,
        ema_rate: float = 0.005,
        **critic_options: Any,
    ) -> None:
        super().__init__(credit=credit, **critic_options)
        require(0 < label_quantile < 1, "label_quantile", "in (0, 1)", label_quantile)
        require(0 <= condition_dropout < 1, "condition_dropout", "in [0, 1)", condition_dropout)
        require(0 < min_time < 1, "min_time", "in (0, 1)", min_time)
        require(guidance_scale >= 0, "guidance_scale", "at least 0", guidance_scale)
        require(0 < ema_rate <= 1, "ema_rate", "in (0, 1]", ema_rate)
        self.label, self.label_threshold, self.label_quantile = label, label_threshold, label_quantile
        self.executed_condition, self.condition_dropout = executed_condition, condition_dropout
        self.min_time, self.guidance_scale = min_time, guidance_scale
        self.noise: Noise = noise
        self.learning_rate, self.ema_rate = learning_rate, ema_rate
        self.velocity = VelocityNetwork(self.shape, hidden_dims, output)
        self.acting_velocity = target_copy(self.velocity)
        self.register_buffer("signal_quantile", torch.zeros(()))

    @abstractmethod
    def flow_loss(self, steps: JointSteps, generator: torch.Generator) -> Tensor:
        """What is minimised over labelled steps, a scalar."""

    def policy_losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The flow's loss of some of the recorded steps."""
        steps = joint_steps(batch, self.steps_per_update, generator)
        with torch.autocast(self.device.type, enabled=False):  # derivatives and divisions by t need full precision
            return {"policy": self.flow_loss(steps, generator)}

    def policy_groups(self) -> Sequence[dict[str, Any]]:
        """The velocity network."""
        return (parameter_group(self.learning_rate, self.velocity),)

    def policy_pairs(self) -> Sequence[TargetPair]:
        """The acting copy."""
        return (TargetPair(self.velocity, self.acting_velocity, self.ema_rate),)

    def start_policy(self, signal: Tensor) -> None:
        """Fixes the threshold of the labels; see ``AdvantageModule``."""
        super().start_policy(signal)
        # Not torch.quantile, which refuses more than 16 million entries.
        rank = max(1, math.ceil(self.label_quantile * signal.numel()))
        self.signal_quantile.copy_(signal.flatten().kthvalue(rank).values)

    def condition_values(self, signal: Tensor) -> Tensor:
        """How good each action is called, in [-1, 1], same shape as the signal."""
        if self.label == "continuous":
            return continuous_condition(signal, self.signal_mean, self.signal_std, clip=3.0) / 3
        if self.label == "quantile":
            good = quantile_labels(signal, self.signal_quantile)
        else:
            good = sign_labels(signal / self.signal_std, self.label_threshold)
        return good.to(signal.dtype) * 2 - 1

    def draw_conditions(self, steps: JointSteps, generator: torch.Generator) -> Conditions:
        """Labels of M steps, some of them dropped."""
        value = self.condition_values(self.signal(steps))
        dropped = guidance.drop_condition(value.shape, self.condition_dropout, generator, self.device)
        return Conditions(value, ~dropped)

    def asked_condition(self) -> tuple[float, float]:
        """What is asked for when acting: a good action; (value, known) as ``FlowPolicy`` takes it."""
        return (self.executed_condition / 3 if self.label == "continuous" else 1.0, 1.0)
