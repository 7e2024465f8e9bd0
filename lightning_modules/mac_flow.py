"""MAC-Flow: a flow of the joint action, distilled into one-step actors of single agents under additive values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require
from lightning_modules.flow_distillation import FlowDistillation
from lightning_modules.joint_steps import joint_steps
from lightning_modules.local_value_learning import Aggregate, DiscreteQ, LocalValueLearning
from lightning_modules.networks.noise import Noise
from lightning_modules.networks.one_step import FlowOutput, TeacherScope
from lightning_modules.networks.one_step_policies import OneStepPolicy


class MACFlow(OfflineModule):
    """Multi-agent coordination via flow matching (Lee et al., arXiv:2511.05005).

        L_Q = ½ Σ_k E (mean_i Q_k(o_i, a_i) - G)²,   G from mean_i agg_k Q̄_k(o'_i, μ(o'_i, i, z'_i))
        L_v = flow matching of the recorded joint actions given all observations (``FlowDistillation``)
        L_μ = α E mean_i |μ(o_i, i, z_i) - x_i(z_1, …, z_N)|² / A - E mean_i mean_k Q_k(o_i, clip μ(o_i, i, z_i))

    with x(z) where v's flow takes the team's noise in K steps of Euler. An actor sees its own observation and its own
    part of the noise only, so that what a joint action is agreed upon by the other parts is averaged out. For choices
    x_i is a one-hot vector and the cross entropy of its largest entry takes the place of the squared error.

    The released code (https://github.com/dongsuleetech/mac-flow) is ``teacher: local, discrete_q: original, output:
    velocity, normalise_q: false``. Its teacher is a flow of each agent's own, and its values of choices, Q(o, one-hot
    of argmax μ), have no gradient: for choices it is a distilled flow of the behaviour.

    Differences from that code: bootstraps are cut at the terminal step itself (there the next step's flag is read);
    illegal choices are masked in training too (there when acting only); each of two critics has an error of its own
    (there, for choices, their mean has one, and agents' values are summed); LayerNorm in all networks; one-hot vectors
    in {-1, 1} (there {0, 1}); time runs from noise at t = 1 to actions at t = 0. Choices act from noise as continuous
    actions do; there, and in the row "zero noise" of the final table, they start from 0. Deviation: ``discrete_q``;
    values are normalised; the flow's network predicts clean actions; ``steps_per_update`` of the recorded steps for
    flow and actors.

    Args:
        teacher: Whether the flow is of the ``joint`` action given all observations, as in the paper, or of each agent's
            own (``local``), as in the released code. The policy is the same network in both cases.
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
        teacher: TeacherScope = "joint",
        distillation_weight: float = 3.0,
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
        self.save_hyperparameters()
        require(distillation_weight >= 0, "distillation_weight", "at least 0", distillation_weight)
        self.distillation_weight, self.normalise_q = distillation_weight, normalise_q
        self.discrete_q: DiscreteQ = discrete_q
        self.noise: Noise = noise
        self.shared_noise, self.steps_per_update = shared_noise, steps_per_update
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        dims, memory = (self.n_agents, self.obs_dim, self.action_dim, self.discrete), (self.encoder, self.memory_dim)
        returns = (discount, trace_decay, target_rate)
        self.values = LocalValueLearning(*dims, critic_hidden_dims, "additive", aggregate, *returns, *memory)
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
