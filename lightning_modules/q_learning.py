"""Q-learning of a team's choices: the part that algorithms with and without conservatism share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from datamodules.batch import TeamBatch
from lightning_modules.base import TargetPair
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.qtran import qtran_bound_loss, qtran_optimality_loss
from lightning_modules.losses.temporal_difference import lambda_returns, td_mask
from lightning_modules.networks.targets import target_copy
from lightning_modules.networks.team_shape import TeamShape
from lightning_modules.networks.team_value import TeamActionValue, Utilities, UtilityMixer

_BOUND_WEIGHT = 0.1  # of L_nopt against L_td and L_opt, as in https://github.com/oxwhirl/pymarl (qtran.yaml)


class QLearning(nn.Module):
    """Double Q-learning under a mixer.

        L = ½ E (Q_tot(s, a) - G^λ)²,   G^λ from V(s') = Q̄_tot(s', ā),  ā_i = argmax_{a legal} Q_i(o'_i, a)

    (van Hasselt et al., arXiv:1509.06461; QMIX, Rashid et al., arXiv:1803.11485). With ``qtran`` L has half of L_opt
    and of 0.1 L_nopt beside it (``losses.qtran``).

    Deviation: the target network Q̄ follows a little after every update, instead of wholly every 200 updates.

    Args:
        shape: The team's sizes and memory; actions are choices.
        hidden_dims: Widths of hidden blocks.
        mixer: What is made of agents' values; see ``TeamActionValue``.
        discount: γ.
        trace_decay: λ of the targets along a window; 0 looks one step ahead.
        target_rate: Rate of the target network.
    """

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        mixer: UtilityMixer,
        discount: float,
        trace_decay: float,
        target_rate: float,
    ) -> None:
        super().__init__()
        self.discount, self.trace_decay, self.target_rate = discount, trace_decay, target_rate
        self.q = TeamActionValue(shape, hidden_dims, mixer)
        self.target_q = target_copy(self.q)

    def utilities(self, batch: TeamBatch) -> Utilities:
        """Agents' values at all positions."""
        return self.q.utilities(batch.obs, batch.state, batch.legal_actions)

    def targets(self, batch: TeamBatch, greedy: Tensor) -> Tensor:
        """TD(λ) targets of positions 0..T-2, no gradients.

        Args:
            batch: Windows.
            greedy: The online network's choices at all positions, (B, T, N).

        Returns:
            (B, T-1), or (N, B, T-1) where agents are on their own.
        """
        with torch.no_grad():
            lagged = self.target_q.utilities(batch.obs, batch.state, batch.legal_actions)
            values = self.target_q.joint(lagged, greedy)
            return lambda_returns(batch.rewards, batch.terminals, batch.valid, values, self.discount, self.trace_decay)

    def td_loss(self, batch: TeamBatch, utilities: Utilities) -> Tensor:
        """L of the class, a scalar."""
        usable, steps = td_mask(batch.valid, batch.terminals), utilities.learning_steps()
        recorded = batch.actions[:, :-1]
        values = self.q.joint(steps, recorded)
        loss = (values - self.targets(batch, utilities.greedy())).square()
        if self.q.qtran is not None:
            greedy = steps.greedy()
            baseline = self.q.qtran.state_value(steps.state)
            best = self.q.joint(steps, greedy)
            loss = loss + qtran_optimality_loss(steps.of(greedy).sum(dim=-1), best, baseline)
            loss = loss + _BOUND_WEIGHT * qtran_bound_loss(steps.of(recorded).sum(dim=-1), values, baseline)
        return masked_mean(loss, usable) / 2

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean value of what was done and of what the agents would do, and the mean target."""
        usable, utilities = td_mask(batch.valid, batch.terminals), self.utilities(batch)
        steps = utilities.learning_steps()
        return {
            "q_recorded": masked_mean(self.q.joint(steps, batch.actions[:, :-1]), usable),
            "q_policy": masked_mean(self.q.joint(steps, steps.greedy()), usable),
            "q_target": masked_mean(self.targets(batch, utilities.greedy()), usable),
        }

    def target_pairs(self) -> Sequence[TargetPair]:
        """Q."""
        return (TargetPair(self.q, self.target_q, self.target_rate),)
