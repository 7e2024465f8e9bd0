"""The value of a team's choices from a value of each agent's choice: what Q-learning with choices trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from lightning_modules.networks.actions import encode_actions, mask_illegal
from lightning_modules.networks.critics import LocalActionValue
from lightning_modules.networks.encoders import EncoderKind
from lightning_modules.networks.mixers import QMixer, VDNMixer
from lightning_modules.networks.qtran import QTRANNetwork

UtilityMixer = Literal["none", "vdn", "qmix", "qtran"]


class Utilities(NamedTuple):
    """What agents make of their windows.

    Attributes:
        values: Q_i of every choice, (B, T, N, A).
        features: What agents know, (B, T, N, F).
        state: (B, T, S).
        legal_actions: (B, T, N, A) bool.
    """

    values: Tensor
    features: Tensor
    state: Tensor
    legal_actions: Tensor

    def learning_steps(self) -> Utilities:
        """Without position T-1, which is only bootstrapped from."""
        return Utilities(*(field[:, :-1] for field in self))

    def greedy(self) -> Tensor:
        """The legal choice of the largest value, (B, T, N)."""
        return mask_illegal(self.values, self.legal_actions).argmax(dim=-1)

    def of(self, actions: Tensor) -> Tensor:
        """Q_i of choices (…, B, T, N), with the same shape."""
        values = self.values.expand(*actions.shape, self.values.shape[-1])
        return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


class TeamActionValue(nn.Module):
    """Q_tot(s, a) of joint choices: local values Q_i(o_i, a_i) and what is made of them.

    Args:
        n_agents: Number of agents N.
        obs_dim: Observation size O.
        state_dim: State size S.
        n_actions: Number of choices A.
        hidden_dims: Widths of the hidden blocks of the local values.
        mixer: ``vdn`` sums them, ``qmix`` mixes them monotonically; ``qtran``: a value of its own, which their sum
            follows; ``none``: each agent's value is for itself.
        encoder: Whether agents see the present observation (``mlp``) or remember (``gru``).
        memory_dim: Size of the memory.
    """

    def __init__(
        self,
        n_agents: int,
        obs_dim: int,
        state_dim: int,
        n_actions: int,
        hidden_dims: Sequence[int],
        mixer: UtilityMixer,
        encoder: EncoderKind = "mlp",
        memory_dim: int = 64,
    ) -> None:
        super().__init__()
        self.n_actions = n_actions
        self.local = LocalActionValue(n_agents, obs_dim, n_actions, True, hidden_dims, encoder, memory_dim)
        self.mixer: VDNMixer | QMixer | None = None
        if mixer in ("vdn", "qmix"):
            self.mixer = VDNMixer() if mixer == "vdn" else QMixer(n_agents, state_dim)
        self.qtran = QTRANNetwork(self.local.encoder.features_dim, state_dim, n_actions) if mixer == "qtran" else None

    def utilities(self, obs: Tensor, state: Tensor, legal_actions: Tensor) -> Utilities:
        """What agents make of windows: observations (B, T, N, O), states (B, T, S), legal choices (B, T, N, A)."""
        features = self.local.encoder(obs)
        return Utilities(self.local.all_of_features(features), features, state, legal_actions)

    def joint(self, utilities: Utilities, actions: Tensor) -> Tensor:
        """Q_tot of joint choices.

        Args:
            utilities: From ``utilities``.
            actions: (…, B, T, N) int64.

        Returns:
            (…, B, T); for ``none`` every agent's own value, (N, …, B, T).
        """
        if self.qtran is not None:
            values: Tensor = self.qtran(
                utilities.features, utilities.state, encode_actions(actions, self.n_actions, discrete=True)
            )
            return values
        return self.mixed(utilities.of(actions), utilities.state)

    def mixed(self, values: Tensor, state: Tensor) -> Tensor:
        """As ``joint``, from agents' values (…, B, T, N) of their choices; not for ``qtran``."""
        if self.mixer is None:
            return values.movedim(-1, 0)
        total: Tensor = self.mixer(values, state)
        return total
