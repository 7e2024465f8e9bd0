"""The value of a team's choices from a value of each agent's choice: what Q-learning with choices trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from lightning_modules.networks.actions import encode_actions, mask_illegal
from lightning_modules.networks.critics import LocalActionValue
from lightning_modules.networks.mixers import QMixer, VDNMixer
from lightning_modules.networks.qtran import QTRANNetwork
from lightning_modules.networks.team_shape import TeamShape

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
        shape: The team's sizes and memory; actions are choices.
        hidden_dims: Widths of the hidden blocks of the local values.
        mixer: ``vdn`` sums them, ``qmix`` mixes them monotonically; ``qtran``: a value of its own, which their sum
            follows; ``none``: each agent's value is for itself.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int], mixer: UtilityMixer) -> None:
        super().__init__()
        assert shape.discrete, "values of all choices need choices"
        self.n_actions = shape.action_dim
        self.local = LocalActionValue(shape, hidden_dims)
        self.mixer: VDNMixer | QMixer | None = None
        if mixer in ("vdn", "qmix"):
            self.mixer = VDNMixer() if mixer == "vdn" else QMixer(shape.n_agents, shape.state_dim)
        sizes = (self.local.encoder.features_dim, shape.state_dim, shape.action_dim)
        self.qtran = QTRANNetwork(*sizes) if mixer == "qtran" else None

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
