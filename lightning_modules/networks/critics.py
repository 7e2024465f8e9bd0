"""Value networks of a team: joint action values, state values and their local parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.networks.mixers import QMixer, VDNMixer
from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.qtran import AdditiveJointValue
from lightning_modules.networks.team_shape import TeamShape

MixerKind = Literal["centralised", "vdn", "qmix", "qtran"]


class LocalValue(nn.Module):
    """One number per agent from its own observation, number and (for a Q) its own action; shared weights.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
        with_actions: Whether an encoded action is an input (Q), or none is (V).
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int], with_actions: bool = True) -> None:
        super().__init__()
        self.encoder = shape.agent_encoder()
        action_dim = shape.action_dim if with_actions else 0
        self.mlp = MLP(self.encoder.features_dim + action_dim, hidden_dims, 1)

    def forward(self, obs: Tensor, actions: Tensor | None = None) -> Tensor:
        """Values (…, N) of observations (…, N, O) and encoded actions (…, N, A)."""
        return self.of_features(self.encoder(obs), actions)

    def of_features(self, features: Tensor, actions: Tensor | None = None) -> Tensor:
        """The same from the encoder's features (…, N, F), for whoever has them already."""
        if actions is not None:
            features = torch.cat([features, actions], dim=-1)
        values: Tensor = self.mlp(features)
        return values.squeeze(-1)


class LocalActionValue(nn.Module):
    """A number for each agent's action, given its observation; starts at exactly 0 for all actions.

    Choices have one output each, continuous actions are an input.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.discrete = shape.discrete
        self.encoder = shape.agent_encoder()
        known, size = self.encoder.features_dim, shape.action_dim
        self.mlp = MLP(known, hidden_dims, size) if shape.discrete else MLP(known + size, hidden_dims, 1)
        nn.init.zeros_(self.mlp.head.weight)
        nn.init.zeros_(self.mlp.head.bias)

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Values (…, N) of observations (…, N, O) and actions, (…, N) int64 or (…, N, A)."""
        return self.of_features(self.encoder(obs), actions)

    def all_values(self, obs: Tensor) -> Tensor:
        """Values (…, N, A) of all choices; for discrete actions only."""
        return self.all_of_features(self.encoder(obs))

    def of_features(self, features: Tensor, actions: Tensor) -> Tensor:
        """As ``forward``, from the encoder's features (…, N, F)."""
        if self.discrete:
            return self.all_of_features(features).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        values: Tensor = self.mlp(torch.cat([features, actions], dim=-1))
        return values.squeeze(-1)

    def all_of_features(self, features: Tensor) -> Tensor:
        """As ``all_values``, from the encoder's features (…, N, F)."""
        values: Tensor = self.mlp(features)
        return values


class StateValue(nn.Module):
    """V(s) from the global state.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.encoder = shape.state_encoder()
        self.mlp = MLP(self.encoder.features_dim, hidden_dims, 1)

    def forward(self, state: Tensor) -> Tensor:
        """Values (…) of states (…, S)."""
        values: Tensor = self.mlp(self.encoder(state))
        return values.squeeze(-1)


class JointActionValue(nn.Module):
    """Q_tot(s, o, a) of a joint action: one centralised network, or local values and a mixer.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
        mixer: ``centralised`` sees state and joint action at once; ``vdn`` sums local values; ``qmix`` mixes them
            monotonically with weights that depend on the state; ``qtran`` sees the state and the sum of what a network
            makes of each agent's observation and action.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int], mixer: MixerKind = "centralised") -> None:
        super().__init__()
        self.kind: MixerKind = mixer
        if mixer == "centralised":
            self.encoder = shape.state_encoder()
            inputs = self.encoder.features_dim + shape.n_agents * shape.action_dim
            self.central: nn.Module = MLP(inputs, hidden_dims, 1)
        elif mixer == "qtran":
            self.encoder = shape.agent_encoder()
            sizes = (self.encoder.features_dim, shape.state_dim, shape.action_dim)
            self.central = AdditiveJointValue(*sizes, hidden_dims)
        else:
            self.local = LocalValue(shape, hidden_dims)
            self.mixer = VDNMixer() if mixer == "vdn" else QMixer(shape.n_agents, shape.state_dim)

    def forward(self, obs: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """Values (…) of observations (…, N, O), states (…, S) and encoded actions (…, N, A)."""
        return self.of_features(self.features(obs, state), state, actions)

    def features(self, obs: Tensor, state: Tensor) -> Tensor:
        """What does not depend on actions: features of the state, (…, F), or of each agent, (…, N, F)."""
        if self.kind == "centralised":
            return self.encoder(state)  # type: ignore[no-any-return]
        encoder = self.encoder if self.kind == "qtran" else self.local.encoder
        return encoder(obs)  # type: ignore[no-any-return]

    def of_features(self, features: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """As ``forward``, from ``features``; actions may have further leading axes, such as one of proposals."""
        if self.kind == "centralised":
            joint = actions.flatten(start_dim=-2)
            features = features.expand(*joint.shape[:-1], features.shape[-1])
            central: Tensor = self.central(torch.cat([features, joint], dim=-1))
            return central.squeeze(-1)
        if self.kind == "qtran":
            values: Tensor = self.central(features, state, actions)
            return values
        features = features.expand(*actions.shape[:-1], features.shape[-1])
        mixed: Tensor = self.mixer(self.local.of_features(features, actions), state)
        return mixed


class Ensemble(nn.Module):
    """Several networks of one kind with their own initial weights, answering with a leading axis.

    Args:
        members: The networks.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Answers of all members, (K, …)."""
        return torch.stack([member(*inputs) for member in self.members], dim=0)
