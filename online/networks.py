"""The networks of online training: one actor that all agents share, and one value of the team from the state."""

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from environments.learned import INPUT_LIMIT, TeamNetwork
from environments.vector import Array, VectorEnv

Activation = Literal["tanh", "relu"]


class Moments:
    """Mean and standard deviation of everything seen so far, per entry (Chan et al., 1979, parallel variance).

    Args:
        size: Number of entries.
    """

    def __init__(self, size: int) -> None:
        self.count = 0.0
        self.mean = torch.zeros(size)
        self._squares = torch.zeros(size)  # sum of squared distances from the mean

    @property
    def scale(self) -> Tensor:
        """Standard deviation, (size,); 1 where nothing varies or was seen."""
        std = (self._squares / max(self.count, 1.0)).sqrt()
        return torch.where(std > 1e-4, std, torch.ones(()))

    def see(self, values: Tensor) -> None:
        """Take in more values, (M, size)."""
        count, mean = len(values), values.mean(dim=0)
        total = self.count + count
        apart = mean - self.mean
        self._squares += ((values - mean) ** 2).sum(dim=0) + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    def standardised(self, values: Tensor) -> Tensor:
        """Values in standard deviations from the mean, cut off far out."""
        return ((values - self.mean) / self.scale).clamp(-INPUT_LIMIT, INPUT_LIMIT)


def perceptron(widths: Sequence[int], activation: Activation, last_gain: float) -> nn.Sequential:
    """Linear layers with activations between them, initialised orthogonally.

    Args:
        widths: Of the input, the hidden layers and the output.
        activation: Between the layers.
        last_gain: Gain of the last layer's weights; small ones begin with nearly equal outputs for all inputs.
    """
    layers: list[nn.Module] = []
    for k, (width, after) in enumerate(itertools.pairwise(widths)):
        linear = nn.Linear(width, after)
        last = k == len(widths) - 2
        nn.init.orthogonal_(linear.weight, last_gain if last else 2.0**0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh() if activation == "tanh" else nn.ReLU()]
    return nn.Sequential(*layers)


class Actor(nn.Module):
    """Decides for every agent from its own observation and its number (one-hot); all agents share the weights.

    Actions are drawn from a softmax over the legal choices, or from a Gaussian whose deviation does not depend on the
    observation; what leaves [-1, 1] is clipped by the environment's side, and the Gaussian's density is the one before.

    Args:
        env: What it will play: decides sizes and kind of actions.
        hidden_dims: Widths of the hidden layers.
        activation: Between them.
        standardise: Feed observations in standard deviations from their mean.
    """

    def __init__(self, env: VectorEnv, hidden_dims: Sequence[int], activation: Activation, standardise: bool) -> None:
        super().__init__()
        self.scenario, self.activation, self.standardise = env.name, activation, standardise
        self.n_agents, self.obs_dim, self.action_dim = env.n_agents, env.obs_dim, env.action_dim
        self.discrete = env.discrete
        self.net = perceptron([env.obs_dim + env.n_agents, *hidden_dims, env.action_dim], activation, 0.01)
        self.log_std = None if env.discrete else nn.Parameter(torch.full((env.action_dim,), -0.5))
        self.moments = Moments(env.obs_dim)

    def forward(self, obs: Tensor) -> Tensor:
        """Logits or means, (…, N, A), of observations (…, N, O)."""
        shown = self.moments.standardised(obs) if self.standardise else obs.clamp(-INPUT_LIMIT, INPUT_LIMIT)
        identity = torch.eye(self.n_agents).expand(*obs.shape[:-1], self.n_agents)
        said: Tensor = self.net(torch.cat([shown, identity], dim=-1))
        return said

    def distribution(self, obs: Tensor, legal_actions: Tensor) -> torch.distributions.Distribution:
        """Where the actions come from; log-probabilities and entropies have the shape (…, N)."""
        said = self(obs)
        if self.log_std is None:
            logits = said.masked_fill(~legal_actions, torch.finfo(said.dtype).min)
            return torch.distributions.Categorical(logits=logits, validate_args=False)
        gaussian = torch.distributions.Normal(said, self.log_std.exp(), validate_args=False)
        return torch.distributions.Independent(gaussian, 1, validate_args=False)

    def in_numpy(self) -> TeamNetwork:
        """A copy that needs no torch."""
        linears = [layer for layer in self.net if isinstance(layer, nn.Linear)]
        tensors = {"obs_mean": torch.zeros(self.obs_dim), "obs_scale": torch.ones(self.obs_dim)}
        if self.standardise:
            tensors = {"obs_mean": self.moments.mean, "obs_scale": self.moments.scale}
        for k, linear in enumerate(linears):
            tensors |= {f"layers.{k}.weight": linear.weight, f"layers.{k}.bias": linear.bias}
        if self.log_std is not None:
            tensors["log_std"] = self.log_std
        arrays: dict[str, Array] = {name: some.detach().numpy().astype(np.float32) for name, some in tensors.items()}
        return TeamNetwork(
            scenario=self.scenario,
            activation=self.activation,
            n_agents=self.n_agents,
            obs_dim=self.obs_dim,
            action_dim=self.action_dim,
            discrete=self.discrete,
            tensors={name: array.copy() for name, array in arrays.items()},
        )


class Critic(nn.Module):
    """The team's value from the global state, in training only (Yu et al., 2022, arXiv:2103.01955).

    The network's output counts in standard deviations of the returns seen so far, so that rewards of any size can be
    learned at the same rate.

    Args:
        env: What is played: decides the size of the state.
        hidden_dims: Widths of the hidden layers.
        activation: Between them.
        standardise: Feed states in standard deviations from their mean.
    """

    def __init__(self, env: VectorEnv, hidden_dims: Sequence[int], activation: Activation, standardise: bool) -> None:
        super().__init__()
        self.standardise = standardise
        self.net = perceptron([env.state_dim, *hidden_dims, 1], activation, 1.0)
        self.moments = Moments(env.state_dim)
        self.returns = Moments(1)

    def forward(self, state: Tensor) -> Tensor:
        """Values in standard deviations of the returns, (…), of states (…, S)."""
        shown = self.moments.standardised(state) if self.standardise else state.clamp(-INPUT_LIMIT, INPUT_LIMIT)
        said: Tensor = self.net(shown).squeeze(-1)
        return said

    def values(self, state: Tensor) -> Tensor:
        """Values in units of the reward, (…)."""
        said: Tensor = self(state) * self.returns.scale + self.returns.mean
        return said
