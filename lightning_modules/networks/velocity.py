"""The network of a conditional MeanFlow: average velocity of an action between two flow times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.networks.actions import ILLEGAL_LOGIT
from lightning_modules.networks.mlp import MLP

N_FREQUENCIES = 3


class FlowContext(NamedTuple):
    """What one row's velocity depends on besides action and times; R rows, one per agent and step.

    Attributes:
        obs: Observation and agent number, (R, O + N).
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

    def unconditional(self) -> FlowContext:
        """The same rows under the null condition, without guidance."""
        return self._replace(condition=torch.zeros_like(self.condition), scale=torch.ones_like(self.scale))


class VelocityNetwork(nn.Module):
    """Average velocity u(z, r, t | o, i, c, w) of the action flow between times r <= t.

    Two outputs. ``endpoint``: the network predicts the clean action x̂ and u = (z - x̂) / t; x̂ is always a valid
    action (2 softmax(legal logits) - 1, or tanh), and one step from t = 1 to r = 0 lands on it. ``velocity``: the
    network predicts u itself.

    Args:
        obs_dim: Size of the observation, agent number included.
        action_dim: Number of actions, or size of the action vector.
        discrete: Whether actions are one-hot vectors in {-1, 1}.
        hidden_dims: Widths of the hidden blocks.
        output: ``endpoint`` or ``velocity``.
    """

    frequencies: Tensor

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        discrete: bool,
        hidden_dims: Sequence[int],
        output: Literal["endpoint", "velocity"] = "endpoint",
    ) -> None:
        super().__init__()
        self.action_dim, self.discrete, self.output = action_dim, discrete, output
        self.mlp = MLP(action_dim + obs_dim + 2 + 1 + 2 * (1 + 2 * N_FREQUENCIES), hidden_dims, action_dim)
        self.register_buffer("frequencies", math.pi / 2 * 2.0 ** torch.arange(N_FREQUENCIES), persistent=False)

    def forward(self, z: Tensor, r: Tensor, t: Tensor, context: FlowContext) -> Tensor:
        """Average velocity u between r and t; z is (R, A), r and t are (R, 1), the result (R, A)."""
        head: Tensor = self.mlp(self._inputs(z, r, t, context))
        return self._velocity(head, z, t, context)

    def forward_with_derivative(
        self, z: Tensor, r: Tensor, t: Tensor, context: FlowContext, tangent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Velocity u and its derivative Du = (tangent · ∇z) u + ∂u/∂t at fixed r, both (R, A), no gradients."""
        with torch.no_grad():
            inputs = self._inputs(z, r, t, context)
            head, slope = self.mlp.forward_with_tangent(inputs, self._input_tangent(inputs, r, t, tangent))
            if self.output == "velocity":
                return head, slope
            endpoint, endpoint_slope = self._endpoint_with_tangent(head, slope, context.legal_actions)
            velocity = (z - endpoint) / t
            return velocity, (tangent - endpoint_slope - velocity) / t

    def _inputs(self, z: Tensor, r: Tensor, t: Tensor, context: FlowContext) -> Tensor:
        guidance = 1.0 - 1.0 / context.scale  # 0 without guidance, towards 1 as w grows
        angles = torch.cat([t * self.frequencies, (t - r) * self.frequencies], dim=-1)
        times = torch.cat([t, t - r, angles.sin(), angles.cos()], dim=-1)
        return torch.cat([z, times, guidance, context.condition, context.obs], dim=-1)

    def _input_tangent(self, inputs: Tensor, r: Tensor, t: Tensor, tangent: Tensor) -> Tensor:
        """Derivative of ``_inputs`` along (tangent, dr = 0, dt = 1): both t and t - r grow at rate one."""
        rates = torch.cat([self.frequencies, self.frequencies])
        angles = torch.cat([t * self.frequencies, (t - r) * self.frequencies], dim=-1)
        slopes = torch.cat(
            [torch.ones_like(t), torch.ones_like(t), rates * angles.cos(), -rates * angles.sin()], dim=-1
        )
        constant = inputs.new_zeros(inputs.shape[0], inputs.shape[1] - tangent.shape[1] - slopes.shape[1])
        return torch.cat([tangent, slopes, constant], dim=-1)

    def _velocity(self, head: Tensor, z: Tensor, t: Tensor, context: FlowContext) -> Tensor:
        if self.output == "velocity":
            return head
        return (z - self._endpoint(head, context.legal_actions)) / t

    def _endpoint(self, head: Tensor, legal_actions: Tensor) -> Tensor:
        if not self.discrete:
            return head.tanh()
        return 2 * head.masked_fill(~legal_actions, ILLEGAL_LOGIT).softmax(dim=-1) - 1

    def _endpoint_with_tangent(self, head: Tensor, slope: Tensor, legal_actions: Tensor) -> tuple[Tensor, Tensor]:
        endpoint = self._endpoint(head, legal_actions)
        if not self.discrete:
            return endpoint, (1 - endpoint.square()) * slope
        chance = (endpoint + 1) / 2
        slope = slope.masked_fill(~legal_actions, 0.0)
        return endpoint, 2 * chance * (slope - (chance * slope).sum(dim=-1, keepdim=True))
