"""Networks that turn noise into an action in one pass, and the flow that teaches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.networks.actions import mask_illegal
from lightning_modules.networks.encoders import Encoder
from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.team_shape import TeamShape
from lightning_modules.networks.velocity import FlowContext, VelocityNetwork

TeacherScope = Literal["joint", "local"]
FlowOutput = Literal["endpoint", "velocity"]


class OneStepActor(nn.Module):
    """An agent's action from its observation and a draw of noise: μ(o, i, z).

    Answers are logits of a choice, which is then the largest, or a continuous action, not bounded.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.action_dim, self.discrete = shape.action_dim, shape.discrete
        self.encoder = shape.agent_encoder()
        self.mlp = MLP(self.encoder.features_dim + shape.action_dim, hidden_dims, shape.action_dim)

    def of_features(self, features: Tensor, noise: Tensor, legal_actions: Tensor) -> Tensor:
        """Answers (…, N, A) to features (…, N, F), noise (…, N, A) and legal actions (…, N, A).

        Logits of illegal choices are ``ILLEGAL_LOGIT``; entries that only pad an action are 0, and so is their noise.
        """
        counts = counted_entries(legal_actions, self.discrete)
        output: Tensor = self.mlp(torch.cat([features, noise.masked_fill(~counts, 0.0)], dim=-1))
        return mask_illegal(output, legal_actions) if self.discrete else output.masked_fill(~counts, 0.0)


class MeanFlowActor(nn.Module):
    """One step of an average velocity u, from noise z to an action.

        a = z - u(z, r = 0, t = 1 | o, i)

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
        output: ``endpoint``: the network predicts a, always a valid action; ``velocity``: it predicts u.
        raw: Act with a = -u(z, r = 1, t = 0) instead: what the network of OM2P's published code answers, where time
            runs the other way and velocities have the other sign.
    """

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        output: FlowOutput = "endpoint",
        raw: bool = False,
    ) -> None:
        super().__init__()
        self.action_dim, self.discrete, self.raw = shape.action_dim, shape.discrete, raw
        self.velocity = VelocityNetwork(shape, hidden_dims, output)

    @property
    def encoder(self) -> Encoder:
        """The velocity's."""
        return self.velocity.encoder

    def of_features(self, features: Tensor, noise: Tensor, legal_actions: Tensor) -> Tensor:
        """Action vectors (…, N, A) of features (…, N, F), noise (…, N, A) and legal actions (…, N, A)."""
        z = noise.flatten(0, -2)
        beginning, end = torch.zeros_like(z[:, :1]), torch.ones_like(z[:, :1])
        context = null_context(features.flatten(0, -2), legal_actions.flatten(0, -2))
        r, t = (end, beginning) if self.raw else (beginning, end)
        velocity: Tensor = self.velocity(z, r, t, context)
        actions = -velocity if self.raw else z - velocity
        return actions.view(noise.shape).masked_fill(~counted_entries(legal_actions, self.discrete), 0.0)


class FlowTeacher(nn.Module):
    """Instantaneous velocity v(z, t) of the recorded actions: of each agent's own, or of the whole team's at once.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
        scope: ``local``: an agent's velocity depends on its own observation and action. ``joint``: on those of all.
        output: ``endpoint``: the network predicts the clean action x̂, always a valid one, and v = (z - x̂) / t;
            ``velocity``: it predicts v.
    """

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        scope: TeacherScope,
        output: FlowOutput = "endpoint",
    ) -> None:
        super().__init__()
        self.joint, self.discrete, self.output = scope == "joint", shape.discrete, output
        if self.joint:
            n = shape.n_agents
            shape = replace(shape, n_agents=0, obs_dim=n * shape.obs_dim, action_dim=n * shape.action_dim)
        # Endpoints are made below: each agent's choice has a softmax of its own, also where the network sees them all
        self.network = VelocityNetwork(shape, hidden_dims, "velocity")

    @property
    def encoder(self) -> Encoder:
        """The network's; of observations (…, N, O), or with ``joint`` of all agents' at once, (…, N * O)."""
        return self.network.encoder

    def forward(self, z: Tensor, t: Tensor, features: Tensor, legal_actions: Tensor) -> Tensor:
        """Velocities (M, N, A).

        Args:
            z: Points, (M, N, A).
            t: Times, (M, N, 1), above 0 for ``endpoint``; with ``joint`` the same for all agents of a team.
            features: From ``encoder``, (M, N, F), or with ``joint`` (M, F).
            legal_actions: (M, N, A) bool.
        """
        if self.joint:
            rows, times, known, legal = z.flatten(1), t[:, 0], features, legal_actions.flatten(1)
        else:
            rows, times, known, legal = (field.flatten(0, 1) for field in (z, t, features, legal_actions))
        answer: Tensor = self.network(rows, times, times, null_context(known, legal))
        answer = answer.view(z.shape)
        if self.output == "endpoint":
            choice = 2 * mask_illegal(answer, legal_actions).softmax(dim=-1) - 1
            answer = (z - (choice if self.discrete else answer.tanh())) / t
        return answer.masked_fill(~counted_entries(legal_actions, self.discrete), 0.0)


def counted_entries(legal_actions: Tensor, discrete: bool) -> Tensor:
    """Entries of action vectors that mean something: all of a choice, those of a vector that are no padding.

    Args:
        legal_actions: (…, A) bool.
        discrete: Whether actions are choices.

    Returns:
        (…, A) bool.
    """
    return torch.ones_like(legal_actions) if discrete else legal_actions


def null_context(features: Tensor, legal_actions: Tensor) -> FlowContext:
    """What a velocity depends on where nothing is asked for but "any action"; R rows.

    Args:
        features: From the velocity's encoder, (R, F).
        legal_actions: (R, A) bool.
    """
    condition = features.new_zeros(len(features), 2)
    return FlowContext(features, condition, features.new_ones(len(features), 1), legal_actions)
