"""One-step actors that imitate a flow of the behaviour and climb critics: what FQL and MAC-Flow share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require
from lightning_modules.flow_distillation import FlowDistillation
from lightning_modules.joint_steps import joint_steps
from lightning_modules.local_value_learning import Aggregate, DiscreteQ, LocalValueLearning, TeamValue
from lightning_modules.networks.noise import Noise
from lightning_modules.networks.one_step import FlowOutput, TeacherScope
from lightning_modules.networks.one_step_policies import OneStepPolicy


class DistillingModule(OfflineModule):
    """Actors that learn from a teacher's flow (``FlowDistillation``) and from values (``LocalValueLearning``).

        L = L_Q + L_v + α L_d - E mean_i mean_k Q_k(o_i, clip μ(o_i, i, z_i))

    Args:
        team_value: Whether agents' values have errors of their own, or their mean has.
        teacher: Whether the flow is of the joint action given all observations, or of each agent's own.
        distillation_weight: α >= 0. It weighs against values in the unit of rewards, unless ``normalise_q``.
        normalise_q: Whether values are divided by their mean size in the actors' loss.
        aggregate: What is made of two lagged critics in the targets: their ``mean`` or the smaller (``min``).
        discrete_q: How a choice's value is differentiated, see ``LocalValueLearning.of_choices``.
        output: What the flow's network predicts: clean actions, always valid ones (``endpoint``), or velocities.
        flow_steps: K, steps of Euler of the flow that is distilled.
        noise: ``normal`` starts from N(0, I); ``zero`` starts from 0 and acts deterministically. When acting only.
        shared_noise: When acting, agents of a team start from one common noise.
        steps_per_update: Recorded joint steps of an update that flow and actors learn from, drawn from the batch; null
            takes all of them.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window.
        critic_hidden_dims: Widths of the critics' hidden blocks.
        critic_learning_rate: Adam's step size for the critics.
        target_rate: Rate in (0, 1] at which target networks follow.
        hidden_dims: Widths of the hidden blocks of flow and actors.
        learning_rate: Adam's step size for flow and actors.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        team_value: TeamValue,
        teacher: TeacherScope,
        distillation_weight: float,
        normalise_q: bool = True,
        aggregate: Aggregate = "mean",
        discrete_q: DiscreteQ = "expected",
        output: FlowOutput = "endpoint",
        flow_steps: int = 10,
        noise: Noise = "normal",
        shared_noise: bool = False,
        steps_per_update: int | None = 256,
        discount: float = 0.99,
        trace_decay: float = 0.0,
        critic_hidden_dims: Sequence[int] = (192, 192, 192),
        critic_learning_rate: float = 5e-4,
        target_rate: float = 0.005,
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 3e-4,
        **team_options: Any,
    ) -> None:
        super().__init__(**team_options)
        require(distillation_weight >= 0, "distillation_weight", "at least 0", distillation_weight)
        self.distillation_weight, self.normalise_q = distillation_weight, normalise_q
        self.discrete_q: DiscreteQ = discrete_q
        self.noise: Noise = noise
        self.shared_noise, self.steps_per_update = shared_noise, steps_per_update
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        dims, memory = (self.n_agents, self.obs_dim, self.action_dim, self.discrete), (self.encoder, self.memory_dim)
        returns = (discount, trace_decay, target_rate)
        self.values = LocalValueLearning(*dims, critic_hidden_dims, team_value, aggregate, *returns, *memory)
        self.distillation = FlowDistillation(*dims, hidden_dims, teacher, output, flow_steps, *memory)

    @property
    def policy(self) -> OneStepPolicy:
        """The one-step actors."""
        return OneStepPolicy(self.distillation.actor, self.noise, self.shared_noise)

    def evaluation_policies(self) -> Mapping[str, OneStepPolicy]:
        """The policy, and the same with other noise."""
        return {"policy": self.policy, **self.policy.with_other_noise()}

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Critics, and flow and actors."""
        critics = parameter_group(self.critic_learning_rate, self.values.critic)
        return (critics, parameter_group(self.learning_rate, self.distillation))

    def target_pairs(self) -> Sequence[TargetPair]:
        """The critics."""
        return self.values.target_pairs()

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

    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done, of what the actors would do, and of the targets."""
        return self.values.diagnostics(batch, self.distillation.actor)
