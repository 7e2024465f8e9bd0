"""The network of a conditional MeanFlow: average velocity of an action between two flow times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.networks.actions import ILLEGAL_LOGIT
from lightning_modules.networks.mlp import MLP, Trace
from lightning_modules.networks.team_shape import TeamShape

N_FREQUENCIES = 3


class FlowContext(NamedTuple):
    """What one row's velocity depends on besides action and times; R rows, one per agent and step.

    Attributes:
        obs: Features from the network's ``encoder``: observation, agent number and memory if there is one, (R, F).
        condition: (value, known), (R, 2); value in [-1, 1] says how good the action is to be (-1 bad, +1 good);
            (0, 0) is the null condition, "any action".
        scale: Guidance scale w >= 1, (R, 1).
        legal_actions: (R, A) bool.
    """

    obs: Tensor
    condition: Tensor
    scale: Tensor
    legal_actions: Tensor

    def rows(self, index: Tensor) -> FlowContext:
        """The rows of an index (K,) of int64."""
        return FlowContext(*(field.index_select(0, index) for field in self))

    def followed_by(self, other: FlowContext) -> FlowContext:
        """These rows, then those of another context."""
        return FlowContext(*(torch.cat(fields) for fields in zip(self, other, strict=True)))

    def unconditional(self) -> FlowContext:
        """The same rows under the null condition, without guidance."""
        return self._replace(condition=torch.zeros_like(self.condition), scale=torch.ones_like(self.scale))


class FlowTrace(NamedTuple):
    """Where a forward pass has been and what it left behind for the derivative; R rows, detached.

    Attributes:
        z: Points, (R, A).
        r: End times, (R, 1).
        t: Start times, (R, 1).
        context: Everything else that the velocity depends on.
        velocity: u, (R, A).
        endpoint: x̂, (R, A); u again with output ``velocity``.
        blocks: The network's hidden layers.
    """

    z: Tensor
    r: Tensor
    t: Tensor
    context: FlowContext
    velocity: Tensor
    endpoint: Tensor
    blocks: Trace

    def rows(self, index: Tensor) -> FlowTrace:
        """The rows of an index (K,) of int64."""
        z, r, t, velocity, endpoint = (
            field.index_select(0, index) for field in (self.z, self.r, self.t, self.velocity, self.endpoint)
        )
        blocks = tuple(block.rows(index) for block in self.blocks)
        return FlowTrace(z, r, t, self.context.rows(index), velocity, endpoint, blocks)


class VelocityNetwork(nn.Module):
    """Average velocity u(z, r, t | o, i, c, w) of the action flow between times r <= t.

    Two outputs. ``endpoint``: the network predicts the clean action x̂ and u = (z - x̂) / t; x̂ is always a valid
    action (2 softmax(legal logits) - 1, or tanh), and one step from t = 1 to r = 0 lands on it. ``velocity``: the
    network predicts u itself.

    The encoder is part of the network but not of ``forward``: a row's features are computed once, however often the
    flow is evaluated. Entries that only pad a continuous action are not seen, and their velocity is 0.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
        output: ``endpoint`` or ``velocity``.
    """

    frequencies: Tensor

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        output: Literal["endpoint", "velocity"] = "endpoint",
    ) -> None:
        super().__init__()
        self.action_dim, self.discrete, self.output = shape.action_dim, shape.discrete, output
        self.encoder = shape.agent_encoder()
        inputs = shape.action_dim + self.encoder.features_dim + 2 + 1 + 2 * (1 + 2 * N_FREQUENCIES)
        self.mlp = MLP(inputs, hidden_dims, shape.action_dim)
        self.register_buffer("frequencies", math.pi / 2 * 2.0 ** torch.arange(N_FREQUENCIES), persistent=False)

    def forward(self, z: Tensor, r: Tensor, t: Tensor, context: FlowContext) -> Tensor:
        """Average velocity u between r and t; z is (R, A), r and t are (R, 1), the result (R, A)."""
        z = self._counted(z, context)
        head: Tensor = self.mlp(self._inputs(z, r, t, context))
        return self._counted(self._velocity(head, z, t, context), context)

    def forward_with_trace(self, z: Tensor, r: Tensor, t: Tensor, context: FlowContext) -> tuple[Tensor, FlowTrace]:
        """As ``forward``, and what ``derivative`` needs to know about these points."""
        z = self._counted(z, context)
        head, blocks = self.mlp.forward_with_trace(self._inputs(z, r, t, context))
        endpoint = head if self.output == "velocity" else self._endpoint(head, context.legal_actions)
        velocity = self._counted(head if self.output == "velocity" else (z - endpoint) / t, context)
        return velocity, FlowTrace(z, r, t, context, velocity.detach(), endpoint.detach(), blocks)

    @torch.no_grad()
    def derivative(self, trace: FlowTrace, tangent: Tensor) -> Tensor:
        """Du = (tangent · ∇z) u + ∂u/∂t at fixed r, (R, A), at the points of a trace; no gradients."""
        tangent = self._counted(tangent, trace.context)
        slope = self.mlp.tangent(trace.blocks, self._input_tangent(trace.r, trace.t, tangent))
        if self.output == "velocity":
            return self._counted(slope, trace.context)
        endpoint_slope = self._endpoint_slope(trace.endpoint, slope, trace.context.legal_actions)
        return self._counted((tangent - endpoint_slope - trace.velocity) / trace.t, trace.context)

    def _counted(self, vectors: Tensor, context: FlowContext) -> Tensor:
        """Vectors (R, A) with 0 where an entry only pads the action; all entries of a choice count."""
        return vectors if self.discrete else vectors.masked_fill(~context.legal_actions, 0.0)

    def _inputs(self, z: Tensor, r: Tensor, t: Tensor, context: FlowContext) -> Tensor:
        guidance = 1.0 - 1.0 / context.scale  # 0 without guidance, towards 1 as w grows
        angles = torch.cat([t * self.frequencies, (t - r) * self.frequencies], dim=-1)
        times = torch.cat([t, t - r, angles.sin(), angles.cos()], dim=-1)
        return torch.cat([z, times, guidance, context.condition, context.obs], dim=-1)

    def _input_tangent(self, r: Tensor, t: Tensor, tangent: Tensor) -> Tensor:
        """Derivative of the first of ``_inputs`` along (tangent, dr = 0, dt = 1); the others stay as they are."""
        rates = torch.cat([self.frequencies, self.frequencies])
        angles = torch.cat([t * self.frequencies, (t - r) * self.frequencies], dim=-1)
        ones = torch.ones_like(t)  # both t and t - r grow at rate one
        return torch.cat([tangent, ones, ones, rates * angles.cos(), -rates * angles.sin()], dim=-1)

    def _velocity(self, head: Tensor, z: Tensor, t: Tensor, context: FlowContext) -> Tensor:
        if self.output == "velocity":
            return head
        return (z - self._endpoint(head, context.legal_actions)) / t

    def _endpoint(self, head: Tensor, legal_actions: Tensor) -> Tensor:
        if not self.discrete:
            return head.tanh()
        return 2 * head.masked_fill(~legal_actions, ILLEGAL_LOGIT).softmax(dim=-1) - 1

    def _endpoint_slope(self, endpoint: Tensor, slope: Tensor, legal_actions: Tensor) -> Tensor:
        if not self.discrete:
            return (1 - endpoint.square()) * slope
        chance = (endpoint + 1) / 2
        slope = slope.masked_fill(~legal_actions, 0.0)
        return 2 * chance * (slope - (chance * slope).sum(dim=-1, keepdim=True))
