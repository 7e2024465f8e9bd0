"""Mixers: from one value per agent to the value of the team.

All are monotone, dQ_tot/dQ_i >= 0: what is better for one agent's value is never worse for the team's.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

_LEAST_SIZE = 1e-6  # of what is divided by its sum: never 0 / 0


class VDNMixer(nn.Module):
    """Value decomposition by a plain sum.

    Q_tot = Σ_i Q_i        (Sunehag et al., arXiv:1706.05296)
    """

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Team values (…) of agents' values (…, N); the state (…, S) is not used."""
        return values.sum(dim=-1)


class QMixer(nn.Module):
    """Monotone two-layer mixing network whose weights depend on the state.

    Q_tot = ELU(|W_1(s)|ᵀ Q + b_1(s)) · |w_2(s)| + b_2(s)        (Rashid et al., arXiv:1803.11485)

    Differences from the original (https://github.com/oxwhirl/pymarl): none with its option ``hypernet_layers: 2``.

    Args:
        n_agents: Number of agents N.
        state_dim: State size S.
        embed_dim: Width of the mixing layer.
        hypernet_dim: Hidden width of the networks that produce its weights.
    """

    def __init__(self, n_agents: int, state_dim: int, embed_dim: int = 32, hypernet_dim: int = 64) -> None:
        super().__init__()
        self.n_agents, self.embed_dim = n_agents, embed_dim
        self.first_weight = _two_layers(state_dim, hypernet_dim, n_agents * embed_dim)
        self.first_bias = nn.Linear(state_dim, embed_dim)
        self.last_weight = _two_layers(state_dim, hypernet_dim, embed_dim)
        self.last_bias = _two_layers(state_dim, embed_dim, 1)

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Team values (…) of agents' values (…, N) in states (…, S)."""
        # The absolute values of what the hypernetworks *produce* make the mixer monotone.
        first = self.first_weight(state).abs().unflatten(-1, (self.n_agents, self.embed_dim))  # (…, N, E)
        hidden = functional.elu((values.unsqueeze(-1) * first).sum(dim=-2) + self.first_bias(state))  # (…, E)
        total: Tensor = (hidden * self.last_weight(state).abs()).sum(dim=-1) + self.last_bias(state).squeeze(-1)
        return total


class LinearMixer(nn.Module):
    """Non-negative linear mixing that depends on the state.

    Q_tot = Σ_i w_i(s) Q_i + b(s),  w_i >= 0        (OMIGA, Wang et al., arXiv:2307.11620)

    The weights and the bias share one hidden layer, as in https://github.com/ZhengYinan-AIR/OMIGA. Difference from
    the original: the state may be any vector, not only the concatenation of the observations.

    Args:
        n_agents: Number of agents N.
        state_dim: State size S.
        hidden_dim: Width of the hidden layer.
    """

    def __init__(self, n_agents: int, state_dim: int, hidden_dim: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(state_dim, hidden_dim)
        self.weight = nn.Linear(hidden_dim, n_agents)
        self.bias = nn.Linear(hidden_dim, 1)

    def weights(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Weights w(s) >= 0, (…, N), and bias b(s), (…), in states (…, S)."""
        hidden = functional.relu(self.hidden(state))
        weight: Tensor = self.weight(hidden)
        bias: Tensor = self.bias(hidden)
        return weight.abs(), bias.squeeze(-1)

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Team values (…) of agents' values (…, N) in states (…, S)."""
        weight, bias = self.weights(state)
        return (weight * values).sum(dim=-1) + bias


class NormalisedLinearMixer(nn.Module):
    """A mean of the agents' values, with weights that depend on the state.

    Q_tot = Σ_i k_i(s) Q_i,  k_i = |h_i(s)| / Σ_j |h_j(s)|,  Σ_i k_i = 1        (ICQ, Yang et al., arXiv:2106.03400)

    There is no bias: the agents' values have to explain the team's. Difference from the original
    (https://github.com/YiqinYang/ICQ), where |h_i| is a product of two layers of absolute values: h is one network, and
    a small number keeps k from 0 / 0. Not a softmax: its gradient vanishes as soon as one agent explains most, and
    the others are never learned.

    Args:
        n_agents: Number of agents N.
        state_dim: State size S.
        hypernet_dim: Hidden width of the network that produces the weights.
    """

    def __init__(self, n_agents: int, state_dim: int, hypernet_dim: int = 64) -> None:
        super().__init__()
        self.weight = _two_layers(state_dim, hypernet_dim, n_agents)

    def weights(self, state: Tensor) -> Tensor:
        """Weights k(s) > 0 that sum to one, (…, N), in states (…, S)."""
        sizes: Tensor = self.weight(state).abs() + _LEAST_SIZE
        return sizes / sizes.sum(dim=-1, keepdim=True)

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Team values (…) of agents' values (…, N) in states (…, S)."""
        return (self.weights(state) * values).sum(dim=-1)


def _two_layers(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, output_dim))
