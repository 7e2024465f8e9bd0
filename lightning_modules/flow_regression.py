"""What flows of actions learn from and by: recorded actions as rows, and regressions of a velocity network on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_modules.flows import flow_matching, meanflow, path
from lightning_modules.joint_steps import JointSteps
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.one_step import counted_entries, null_context
from lightning_modules.networks.velocity import FlowContext, FlowTrace, VelocityNetwork

Objective = Literal["improved_meanflow", "meanflow"]
GuidedVelocity = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""v_g of v, the network's own velocity, that without condition, (G, A) each, and scales (G, 1)."""


class FlowRows(NamedTuple):
    """One row per recorded step and agent, R rows. Entries that only pad an action are 0.

    Attributes:
        context: What the velocity depends on.
        actions: Clean action vectors x, (R, A).
        noise: z at t = 1, (R, A).
        guided: Rows whose target carries guidance, (R,) bool.
        straight: Rows whose noise was paired with their action, (R,) bool.
    """

    context: FlowContext
    actions: Tensor
    noise: Tensor
    guided: Tensor
    straight: Tensor


def clean_actions(steps: JointSteps, network: VelocityNetwork) -> Tensor:
    """The recorded actions as vectors, (M, N, A); 0 where an entry only pads the action."""
    actions = encode_actions(steps.actions, network.action_dim, network.discrete)
    return actions.masked_fill(~counted_entries(steps.legal_actions, network.discrete), 0.0)


def cloning_rows(steps: JointSteps, network: VelocityNetwork, noise: Tensor) -> FlowRows:
    """Recorded actions as rows under the null condition: without guidance, and noise of no particular pairing.

    Args:
        steps: M recorded joint steps.
        network: Whose encoder makes the features.
        noise: z at t = 1 of every agent, (M, N, A).

    Returns:
        M * N rows; who asks for more replaces the fields.
    """
    actions = clean_actions(steps, network).flatten(0, 1)
    context = null_context(steps.features(network.encoder).flatten(0, 1), steps.legal_actions.flatten(0, 1))
    noise = noise.flatten(0, 1).masked_fill(~counted_entries(context.legal_actions, network.discrete), 0.0)
    nowhere = torch.zeros(len(actions), dtype=torch.bool, device=actions.device)
    return FlowRows(context, actions, noise, guided=nowhere, straight=nowhere)


def flow_matching_error(network: VelocityNetwork, rows: FlowRows, t: Tensor) -> Tensor:
    """Squared error of the velocity of an instant, u(z_t, t, t) against noise - x.

    Args:
        network: u.
        rows: R recorded actions; guidance and pairing make no difference here.
        t: Flow times, (R, 1).

    Returns:
        Sum over the action's entries, (R,). For the endpoint output times t², which is the error of the predicted
        action: |x̂ - x|².
    """
    velocity = network(path.interpolate(rows.actions, rows.noise, t), t, t, rows.context)
    error = flow_matching.flow_matching_loss(velocity, rows.actions, rows.noise).sum(dim=-1)
    return t.squeeze(-1).square() * error if network.output == "endpoint" else error


@dataclass(frozen=True)
class MeanFlowRegression:
    """How an average velocity is learned: u + (t - r) sg[Du] is regressed to the velocity of the path, or a guided one.

    For the endpoint output the error is multiplied by t, which makes it the predicted action's. The derivative
    Du along the flow is computed on rows with r < t only.

    Attributes:
        objective: ``improved_meanflow`` differentiates along the network's own velocity (arXiv:2512.02012);
            ``meanflow`` along the target's (arXiv:2505.13447).
        adaptive_exponent: p of the loss weight 1 / (error + ε)^p; 0 is plain squared error.
        adaptive_epsilon: ε of that weight.
        guided_velocity: Makes the target of guided rows; None where there are none.
    """

    objective: Objective = "improved_meanflow"
    adaptive_exponent: float = 0.0
    adaptive_epsilon: float = 0.01
    guided_velocity: GuidedVelocity | None = None

    def loss(self, network: VelocityNetwork, rows: FlowRows, times: path.FlowTimes) -> Tensor:
        """Mean weighted squared error over rows, a scalar; needs full precision."""
        r, t, apart = times
        average, trace = network.forward_with_trace(path.interpolate(rows.actions, rows.noise, t), r, t, rows.context)
        target, derivative = self.targets(network, rows, trace, apart)
        error = meanflow.compound_velocity(average, derivative, r, t) - target
        if network.output == "endpoint":
            error = t * error  # Deviation: the velocity's error times t is the action's error
        squared = error.square().sum(dim=-1)
        return (meanflow.adaptive_weight(squared, self.adaptive_exponent, self.adaptive_epsilon) * squared).mean()

    @torch.no_grad()
    def targets(
        self, network: VelocityNetwork, rows: FlowRows, trace: FlowTrace, apart: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Velocity that is regressed to and derivative Du (zero on rows with r = t), both (R, A).

        Du is also zero where noise was paired with the action: such paths are straight and do not cross, so the
        velocity along them is constant, while the network's jump between two modes would make Du explode.
        """
        slow = apart.nonzero().squeeze(-1)  # the derivative is needed on these rows only
        guided = rows.guided.nonzero().squeeze(-1)
        there = trace.rows(slow)
        # Velocities of an instant in one call: the network's own (at r = t the trained forward already is it), and
        # those without condition.
        index = torch.cat([slow, guided])
        z, t = trace.z.index_select(0, index), trace.t.index_select(0, index)
        asked = there.context.followed_by(rows.context.rows(guided).unconditional())
        own, unconditional = network(z, t, t, asked).split([len(slow), len(guided)])
        own = trace.velocity.index_copy(0, slow, own)
        target = self._target(rows, guided, own, unconditional)
        tangent = own if self.objective == "improved_meanflow" else target
        derivative = network.derivative(there, tangent.index_select(0, slow))
        derivative = derivative.masked_fill(rows.straight.index_select(0, slow).unsqueeze(-1), 0.0)
        return target, torch.zeros_like(target).index_copy(0, slow, derivative)

    def _target(self, rows: FlowRows, guided: Tensor, own: Tensor, unconditional: Tensor) -> Tensor:
        """Targets: v on rows without guidance, v_g on the guided ones, (R, A)."""
        velocity = path.path_velocity(rows.actions, rows.noise)
        if self.guided_velocity is None:
            return velocity
        v, conditional = velocity.index_select(0, guided), own.index_select(0, guided)
        scale = rows.context.scale.index_select(0, guided)
        return velocity.index_copy(0, guided, self.guided_velocity(v, conditional, unconditional, scale))
