"""One-step actors that imitate a flow of the behaviour and climb critics: what FQL and MAC-Flow share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import require
from lightning_modules.flow_distillation import FlowDistillation
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.one_step import FlowOutput, OneStepActor, TeacherScope
from lightning_modules.one_step_module import OneStepModule


class DistillingModule(OneStepModule):
    """Actors that learn from a teacher's flow (``FlowDistillation``) and from values (``LocalValueLearning``).

        L = L_Q + L_v + α L_d - E mean_i mean_k Q_k(o_i, clip μ(o_i, i, z_i))

    Args:
        teacher: Whether the flow is of the joint action given all observations, or of each agent's own.
        distillation_weight: α >= 0. It weighs against values in the unit of rewards, unless ``normalise_q``.
        output: What the flow's network predicts: clean actions, always valid ones (``endpoint``), or velocities.
        flow_steps: K, steps of Euler of the flow that is distilled.
        hidden_dims: Widths of the hidden blocks of flow and actors.
        **one_step_options: Acting and critics of ``OneStepModule``, dimensions of ``OfflineModule``; all are options of
            this class, too.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        teacher: TeacherScope,
        distillation_weight: float,
        output: FlowOutput = "endpoint",
        flow_steps: int = 10,
        hidden_dims: Sequence[int] = (192, 192, 192),
        **one_step_options: Any,
    ) -> None:
        super().__init__(**one_step_options)
        require(distillation_weight >= 0, "distillation_weight", "at least 0", distillation_weight)
        self.distillation_weight = distillation_weight
        self.distillation = FlowDistillation(self.shape, hidden_dims, teacher, output, flow_steps)

    @property
    def acting_network(self) -> OneStepActor:
        """The one-step actors."""
        return self.distillation.actor

    @property
    def learning_network(self) -> FlowDistillation:
        """Flow and actors."""
        return self.distillation

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        steps = joint_steps(batch, self.steps_per_update, generator)
        lesson = self.distillation.lesson(steps, generator)
        own = lesson.output.softmax(dim=-1) if self.discrete else lesson.output
        climbing = self.values.climbing_loss(steps, own, self.discrete_q, self.normalise_q)
        return {
            "q": self.values.td_loss(batch, self.distillation.actor, generator),
            "teacher": lesson.teacher,
            "policy": self.distillation_weight * lesson.distillation + climbing,
        }
