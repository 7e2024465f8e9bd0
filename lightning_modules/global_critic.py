"""Global critics: how good a recorded joint action was, learned without ever asking about another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from datamodules.batch import TeamBatch
from lightning_modules.base import TargetPair
from lightning_modules.losses.expectile import expectile_loss
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.soft_value import soft_value_loss
from lightning_modules.losses.temporal_difference import lambda_returns, td_mask
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.critics import Ensemble, JointActionValue, LocalValue, MixerKind, StateValue
from lightning_modules.networks.mixers import LinearMixer
from lightning_modules.networks.targets import target_copy
from lightning_modules.networks.team_shape import TeamShape

AdvantageEstimate = Literal["return", "q"]


class GlobalCritic(nn.Module, ABC):
    """Interface of the critics of stage one; "in-sample": only recorded actions are evaluated.

    Time positions 0..T-2 of a window are learned from; position T-1 is only bootstrapped from. No action is proposed
    or maximised over, so the mask of legal actions has no part here.

    Args:
        shape: The team's sizes and memory.
        discount: γ.
        trace_decay: λ of the targets along a window; windows of length 2 have one-step targets whatever λ.
        target_rate: Rate of the target networks.
    """

    def __init__(self, shape: TeamShape, discount: float, trace_decay: float, target_rate: float) -> None:
        super().__init__()
        self.action_dim, self.discrete = shape.action_dim, shape.discrete
        self.discount, self.trace_decay, self.target_rate = discount, trace_decay, target_rate

    @abstractmethod
    def losses(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Scalar losses ``q`` and ``value``; each moves only the networks it is named for."""

    @abstractmethod
    def target_pairs(self) -> Sequence[TargetPair]:
        """Target networks and their sources."""

    @abstractmethod
    def action_values(self, batch: TeamBatch) -> Tensor:
        """Target Q_tot of the recorded joint actions at positions 0..T-2, (B, T-1)."""

    @abstractmethod
    def state_values(self, batch: TeamBatch) -> Tensor:
        """Target V_tot at all positions, (B, T)."""

    def advantages(self, batch: TeamBatch, estimate: AdvantageEstimate) -> Tensor:
        """One-step global advantage of the recorded joint actions from the target networks, no gradients.

        ``return``: A = r + γ V(s') - V(s), needs no generalisation over joint actions and equals Q(s, a) - V(s) where
        transitions are deterministic. ``q``: A = Q(s, a) - V(s). The last step of a truncated episode, whose
        successor is not recorded, always uses ``q``.

        Args:
            batch: Windows of length T.
            estimate: Which of the two.

        Returns:
            (B, T-1).
        """
        with torch.no_grad():
            by_action = self.action_values(batch)
            if estimate == "return":
                usable = td_mask(batch.valid, batch.terminals)
                by_action = torch.where(usable, self.targets(batch, trace_decay=0.0), by_action)
            return by_action - self.state_values(batch)[:, :-1]

    def targets(self, batch: TeamBatch, trace_decay: float | None = None) -> Tensor:
        """TD(λ) targets of positions 0..T-2 from the target state values, (B, T-1), no gradients."""
        decay = self.trace_decay if trace_decay is None else trace_decay
        with torch.no_grad():
            values = self.state_values(batch)
            return lambda_returns(batch.rewards, batch.terminals, batch.valid, values, self.discount, decay)

    def encode(self, batch: TeamBatch) -> Tensor:
        """Recorded actions at positions 0..T-2 as vectors, (B, T-1, N, A)."""
        return encode_actions(batch.actions[:, :-1], self.action_dim, self.discrete)


class ValueCritic(GlobalCritic):
    """The state's value under the recorded behaviour, V(s) alone: A = r + γ V(s') - V(s).

    L = E[ |τ - 1(u < 0)| u² ], u = G^λ - V(s), with TD(λ) targets G^λ. One input less to overfit: there is no network
    over joint actions, whose number grows as A^N while most of them were recorded never or once.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of hidden blocks.
        expectile: τ; .5 is the mean.
        discount: γ.
        trace_decay: λ.
        target_rate: Rate of the target network.
    """

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        expectile: float,
        discount: float,
        trace_decay: float,
        target_rate: float,
    ) -> None:
        super().__init__(shape, discount, trace_decay, target_rate)
        self.expectile = expectile
        self.value = StateValue(shape, hidden_dims)
        self.target_value = target_copy(self.value)

    def losses(self, batch: TeamBatch) -> dict[str, Tensor]:
        """See the class."""
        error = self.targets(batch) - self.value(batch.state[:, :-1])
        return {"value": masked_mean(expectile_loss(error, self.expectile), td_mask(batch.valid, batch.terminals))}

    def target_pairs(self) -> Sequence[TargetPair]:
        """The value."""
        return (TargetPair(self.value, self.target_value, self.target_rate),)

    def action_values(self, batch: TeamBatch) -> Tensor:
        """V(s) itself, (B, T-1): where no successor was recorded, an action counts as average."""
        return self.state_values(batch)[:, :-1]

    def state_values(self, batch: TeamBatch) -> Tensor:
        """Target V, (B, T)."""
        values: Tensor = self.target_value(batch.state)
        return values


class ExpectileCritic(GlobalCritic):
    """Ensemble Q with an expectile V (implicit Q-learning, Kostrikov et al., arXiv:2110.06169).

    L_V = E[ |τ - 1(u < 0)| u² ], u = min_k Q̄_k(s, a) - V(s);   L_Q = Σ_k E[ (Q_k(s, a) - G^λ)² ],

    G^λ = r + γ (1 - d) V̄(s') for windows of length 2 (Deviation: the original bootstraps from V, we from its lagged
    copy, and mix longer returns where the windows are longer).

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of hidden blocks.
        mixer: Form of Q.
        n_critics: Members of the ensemble K.
        expectile: τ.
        discount: γ.
        trace_decay: λ.
        target_rate: Rate of the target networks.
    """

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        mixer: MixerKind,
        n_critics: int,
        expectile: float,
        discount: float,
        trace_decay: float,
        target_rate: float,
    ) -> None:
        super().__init__(shape, discount, trace_decay, target_rate)
        self.expectile = expectile
        self.q = Ensemble([JointActionValue(shape, hidden_dims, mixer) for _ in range(n_critics)])
        self.value = StateValue(shape, hidden_dims)
        self.target_q, self.target_value = target_copy(self.q), target_copy(self.value)

    def losses(self, batch: TeamBatch) -> dict[str, Tensor]:
        """See the class."""
        inputs = (batch.obs[:, :-1], batch.state[:, :-1], self.encode(batch))
        usable = td_mask(batch.valid, batch.terminals)
        errors = self.q(*inputs) - self.targets(batch)  # (K, B, T-1)
        gap = self._smallest(inputs) - self.value(batch.state[:, :-1])
        return {
            "q": masked_mean(errors.square().sum(dim=0), usable),
            "value": masked_mean(expectile_loss(gap, self.expectile), usable),
        }

    def target_pairs(self) -> Sequence[TargetPair]:
        """Q and V."""
        return (
            TargetPair(self.q, self.target_q, self.target_rate),
            TargetPair(self.value, self.target_value, self.target_rate),
        )

    def action_values(self, batch: TeamBatch) -> Tensor:
        """Smallest target Q, (B, T-1)."""
        return self._smallest((batch.obs[:, :-1], batch.state[:, :-1], self.encode(batch)))

    def state_values(self, batch: TeamBatch) -> Tensor:
        """Target V, (B, T)."""
        values: Tensor = self.target_value(batch.state)
        return values

    @torch.no_grad()
    def _smallest(self, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        smallest: Tensor = self.target_q(*inputs).amin(dim=0)
        return smallest


class OmigaCritic(GlobalCritic):
    """Local Q_i and V_i under a mixer with weights w_i(s) >= 0 (OMIGA, Wang et al., arXiv:2307.11620).

    Q_tot = Σ w_i(s) Q_i(o_i, a_i) + b(s) and V_tot alike, so A = Σ w_i (Q_i - V_i): the bias cancels. V_i's optimum is
    (α / w_i) log E exp(w_i Q_i / α). Differences from the original (https://github.com/ZhengYinan-AIR/OMIGA): its
    policy is not used, and steps before a terminal are kept with a bootstrap of zero instead of dropped.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of hidden blocks.
        temperature: α.
        discount: γ.
        trace_decay: λ.
        target_rate: Rate of the target networks.
    """

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        temperature: float,
        discount: float,
        trace_decay: float,
        target_rate: float,
    ) -> None:
        super().__init__(shape, discount, trace_decay, target_rate)
        self.temperature = temperature
        self.q = LocalValue(shape, hidden_dims)
        self.value = LocalValue(shape, hidden_dims, with_actions=False)
        self.mixer = LinearMixer(shape.n_agents, shape.state_dim)
        self.target_q, self.target_value = target_copy(self.q), target_copy(self.value)
        self.target_mixer = target_copy(self.mixer)

    def losses(self, batch: TeamBatch) -> dict[str, Tensor]:
        """See the class."""
        obs, state, actions = batch.obs[:, :-1], batch.state[:, :-1], self.encode(batch)
        usable = td_mask(batch.valid, batch.terminals)
        error = self.mixer(self.q(obs, actions), state) - self.targets(batch)
        with torch.no_grad():
            weights, _ = self.target_mixer.weights(state)  # (B, T-1, N)
            target_q = self.target_q(obs, actions)
        counts = usable.unsqueeze(-1).expand_as(target_q)
        value_loss = soft_value_loss(target_q, self.value(obs), weights, self.temperature, mask=counts).mean(dim=-1)
        return {"q": masked_mean(error.square(), usable), "value": masked_mean(value_loss, usable)}

    def target_pairs(self) -> Sequence[TargetPair]:
        """Q_i, V_i and the mixer."""
        pairs = ((self.q, self.target_q), (self.value, self.target_value), (self.mixer, self.target_mixer))
        return tuple(TargetPair(source, target, self.target_rate) for source, target in pairs)

    def action_values(self, batch: TeamBatch) -> Tensor:
        """Mixed target Q_i, (B, T-1)."""
        mixed: Tensor = self.target_mixer(self.target_q(batch.obs[:, :-1], self.encode(batch)), batch.state[:, :-1])
        return mixed

    def state_values(self, batch: TeamBatch) -> Tensor:
        """Mixed target V_i, (B, T)."""
        mixed: Tensor = self.target_mixer(self.target_value(batch.obs), batch.state)
        return mixed
