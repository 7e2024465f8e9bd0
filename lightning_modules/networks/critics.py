"""Value networks of a team: joint action values, state values and their local parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.networks.actions import append_agent_id
from lightning_modules.networks.mixers import QMixer, VDNMixer
from lightning_modules.networks.mlp import MLP

MixerKind = Literal["centralised", "vdn", "qmix"]


class LocalValue(nn.Module):
    """One number per agent from its own observation, number and (for a Q) its own action; shared weights.

    Args:
        n_agents: Number of agents N.
        obs_dim: Observation size O.
        action_dim: Size A of the encoded action; 0 for a state value.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(self, n_agents: int, obs_dim: int, action_dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.mlp = MLP(obs_dim + n_agents + action_dim, hidden_dims, 1)

    def forward(self, obs: Tensor, actions: Tensor | None = None) -> Tensor:
        """Values (…, N) of observations (…, N, O) and encoded actions (…, N, A)."""
        features = append_agent_id(obs)
        if actions is not None:
            features = torch.cat([features, actions], dim=-1)
        values: Tensor = self.mlp(features)
        return values.squeeze(-1)


class LocalActionValue(nn.Module):
    """A number for each agent's action, given its observation; starts at exactly 0 for all actions.

    Choices have one output each, continuous actions are an input.

    Args:
        n_agents: Number of agents N.
        obs_dim: Observation size O.
        action_dim: Number of actions, or size of the action vector A.
        discrete: Whether actions are choices.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(
        self, n_agents: int, obs_dim: int, action_dim: int, discrete: bool, hidden_dims: Sequence[int]
    ) -> None:
        super().__init__()
        self.discrete = discrete
        inputs = obs_dim + n_agents
        self.mlp = MLP(inputs, hidden_dims, action_dim) if discrete else MLP(inputs + action_dim, hidden_dims, 1)
        nn.init.zeros_(self.mlp.head.weight)
        nn.init.zeros_(self.mlp.head.bias)

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Values (…, N) of observations (…, N, O) and actions, (…, N) int64 or (…, N, A)."""
        if self.discrete:
            return self.all_values(obs).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        values: Tensor = self.mlp(torch.cat([append_agent_id(obs), actions], dim=-1))
        return values.squeeze(-1)

    def all_values(self, obs: Tensor) -> Tensor:
        """Values (…, N, A) of all choices; for discrete actions only."""
        values: Tensor = self.mlp(append_agent_id(obs))
        return values


class StateValue(nn.Module):
    """V(s) from the global state.

    Args:
        state_dim: State size S.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(self, state_dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.mlp = MLP(state_dim, hidden_dims, 1)

    def forward(self, state: Tensor) -> Tensor:
        """Values (…) of states (…, S)."""
        values: Tensor = self.mlp(state)
        return values.squeeze(-1)


class JointActionValue(nn.Module):
    """Q_tot(s, o, a) of a joint action: one centralised network, or local values and a mixer.

    Args:
        n_agents: Number of agents N.
        obs_dim: Observation size O.
        state_dim: State size S.
        action_dim: Size A of an encoded action.
        hidden_dims: Widths of the hidden blocks.
        mixer: ``centralised`` sees state and joint action at once; ``vdn`` sums local values; ``qmix`` mixes them
            monotonically with weights that depend on the state.
    """

    def __init__(
        self,
        n_agents: int,
        obs_dim: int,
        state_dim: int,
        action_dim: int,
        hidden_dims: Sequence[int],
        mixer: MixerKind = "centralised",
    ) -> None:
        super().__init__()
        if mixer == "centralised":
            self.central = MLP(state_dim + n_agents * action_dim, hidden_dims, 1)
        else:
            self.local = LocalValue(n_agents, obs_dim, action_dim, hidden_dims)
            self.mixer = VDNMixer() if mixer == "vdn" else QMixer(n_agents, state_dim)
        self.centralised = mixer == "centralised"

    def forward(self, obs: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """Values (…) of observations (…, N, O), states (…, S) and encoded actions (…, N, A)."""
        if self.centralised:
            values: Tensor = self.central(torch.cat([state, actions.flatten(start_dim=-2)], dim=-1))
            return values.squeeze(-1)
        mixed: Tensor = self.mixer(self.local(obs, actions), state)
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
