"""A flow that clones what was done, and one-step actors that imitate the flow: what FQL and MAC-Flow share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.base import require
from lightning_modules.flows import flow_matching, path
from lightning_modules.joint_steps import JointSteps
from lightning_modules.losses.cloning import choice_cloning_error, squared_cloning_error
from lightning_modules.networks.actions import decode_actions, encode_actions
from lightning_modules.networks.noise import standard_normal
from lightning_modules.networks.one_step import FlowOutput, FlowTeacher, OneStepActor, TeacherScope, counted_entries
from lightning_modules.networks.team_shape import TeamShape

_MIN_TIME = 0.05  # of an endpoint's training, where errors are divided by t


class Lesson(NamedTuple):
    """What one update teaches.

    Attributes:
        teacher: Flow matching loss, a scalar; moves the teacher only.
        distillation: How far the actors are from the teacher, a scalar; moves the actors only.
        output: The actors' answers to the noise of the lesson, (M, N, A): actions that are not clipped yet, or logits.
    """

    teacher: Tensor
    distillation: Tensor
    output: Tensor


class FlowDistillation(nn.Module):
    """Flow matching and distillation, with noise ε at t = 1 and actions at t = 0.

        L_v = E |v(z_t, t | o) - (ε - a)|² / A,   z_t = (1 - t) a + t ε
        L_d = E mean_i |μ(o_i, i, ε_i) - clip(x_i, -1, 1)|² / A,   x = the end of v's flow from ε, in K steps of Euler

    (FQL, Park et al., arXiv:2502.02538.) Choices are one-hot vectors in {-1, 1}; the cross entropy of argmax x_i, among
    legal choices, takes the place of the squared error (MAC-Flow, Lee et al., arXiv:2511.05005).

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of hidden blocks.
        scope: ``local``: v is of each agent's own observation and action, and so is o. ``joint``: of all agents'.
        output: ``endpoint``: the teacher predicts clean actions x̂, v = (z_t - x̂) / t, and L_v is their error: the
            velocity's, times t². ``velocity``: it predicts v.
        flow_steps: K, at least 1.

    Raises:
        ValueError: If ``flow_steps`` is below 1.
    """

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        scope: TeacherScope,
        output: FlowOutput,
        flow_steps: int,
    ) -> None:
        super().__init__()
        require(flow_steps >= 1, "flow_steps", "at least 1", flow_steps)
        self.action_dim, self.discrete, self.flow_steps = shape.action_dim, shape.discrete, flow_steps
        self.teacher = FlowTeacher(shape, hidden_dims, scope, output)
        self.actor = OneStepActor(shape, hidden_dims)

    def lesson(self, steps: JointSteps, generator: torch.Generator) -> Lesson:
        """Both losses at M steps; see the class."""
        known = self.teacher_features(steps)
        teacher_loss = self._teacher_loss(steps, known, generator)
        noise = standard_normal(steps.legal_actions.shape, steps.obs, generator)
        taught = self.taught_actions(steps, known.detach(), noise)
        output = self.actor.of_features(steps.features(self.actor.encoder), noise, steps.legal_actions)
        error = choice_cloning_error if self.discrete else squared_cloning_error
        return Lesson(teacher_loss, error(output, taught, steps.legal_actions).mean(), output)

    def teacher_features(self, steps: JointSteps) -> Tensor:
        """What the teacher knows at M steps: (M, N, F), or of all agents at once (M, F)."""
        if self.teacher.joint:  # all agents' observations, one after the other, in place of each agent's
            steps = steps._replace(obs=steps.obs.flatten(-2), windows=steps.windows.flatten(-2))
        return steps.features(self.teacher.encoder)

    @torch.no_grad()
    def taught_actions(self, steps: JointSteps, features: Tensor, noise: Tensor) -> Tensor:
        """Where the teacher takes noise (M, N, A) in K steps: clipped actions (M, N, A), or legal choices (M, N)."""

        def velocity(z: Tensor, t: Tensor) -> Tensor:
            return self.teacher(z, t, features, steps.legal_actions)  # type: ignore[no-any-return]

        ends = flow_matching.euler(velocity, noise, self.flow_steps)
        return decode_actions(ends, steps.legal_actions, self.discrete)

    def _teacher_loss(self, steps: JointSteps, features: Tensor, generator: torch.Generator) -> Tensor:
        actions = encode_actions(steps.actions, self.action_dim, self.discrete)
        noise = standard_normal(actions.shape, actions, generator)
        endpoint = self.teacher.output == "endpoint"
        shape = (len(actions), 1) if self.teacher.joint else actions.shape[:-1]
        t = path.sample_instants(shape, _MIN_TIME if endpoint else 0.0, generator, actions.device)
        t = t.expand(*actions.shape[:-1], 1)
        unit = t if endpoint else 1.0  # Deviation: the velocity's error times t is the action's error
        predicted = self.teacher(path.interpolate(actions, noise, t), t, features, steps.legal_actions)
        counts = counted_entries(steps.legal_actions, self.discrete)
        return squared_cloning_error(unit * predicted, unit * path.path_velocity(actions, noise), counts).mean()
