"""OMAR: conservative values of each agent's own, and actors that also learn from a search without derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.actor_critic import ActorCritic
from lightning_modules.base import OfflineModule, TargetPair, require, require_targets
from lightning_modules.joint_steps import JointSteps, joint_steps
from lightning_modules.losses.cloning import squared_cloning_error
from lightning_modules.losses.conservative import proposal_log_sum_exp
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import lambda_returns, td_mask
from lightning_modules.losses.zeroth_order import best_action, searched_actions
from lightning_modules.networks.local_critics import LocalCritics
from lightning_modules.networks.policies import ActionHead, HeadPolicy
from lightning_modules.networks.targets import frozen, target_copy


class OMAR(OfflineModule):
    """Offline multi-agent RL with actor rectification (Pan et al., arXiv:2111.11188), for continuous actions.

        L_Q = Σ_k E mean_i [ (Q_k(o_i, a_i) - G^λ_i)² + w (S_k(o_i) - Q_k(o_i, a_i)) ],
        S_k = log (1/P) Σ_p exp(Q_k(o_i, a_p) - log ρ(a_p))
        L_π = E mean_i [ τ (π(o_i) - a*_i)² - (1 - τ) Q_1(o_i, π(o_i)) + c π(o_i)² ]

    with G^λ_i from min_k Q̄_k(o'_i, π̄(o'_i)), and a*_i the better by Q_1 of π(o_i) and what a cross-entropy search finds
    (``losses.zeroth_order``). Agents learn side by side from the team's reward, with shared weights, each with a critic
    of its own observation and action.

    Differences from the original (https://github.com/ling-pan/OMAR): agents share networks; the a_p are drawn evenly,
    around π(o) and around π(o'), as there for MuJoCo (for MPE evenly only); log-densities are subtracted (there, for
    MuJoCo, densities). Deviation: our networks with LayerNorm and Adam's usual rates (there BatchNorm and .01 for MPE).
    Deviation: the penalty and the actors' loss are taken at ``proposal_steps`` of the recorded steps.

    Args:
        imitation: τ in [0, 1]; 0 climbs Q_1 alone (multi-agent CQL), 1 imitates a* alone.
        penalty_weight: w >= 0. It weighs against squared rewards: rewards ten times as large need about ten times it.
        n_proposals: How many a_p of each of the three kinds.
        proposal_std: Deviation of the a_p around actors' actions.
        proposal_steps: Recorded joint steps of an update at which actions are proposed and searched, drawn from the
            batch; null takes all of them.
        search_iterations: Rounds of the search.
        search_samples: Actions of a round.
        search_std: Deviation in the first round.
        search_elites: The best so many give the next round's mean and deviation; null weighs all by softmax of Q_1.
        action_penalty: c >= 0.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window.
        critic_hidden_dims: Widths of the critics' hidden blocks.
        critic_learning_rate: Adam's step size for the critics.
        target_rate: Rate in (0, 1] at which target networks follow.
        hidden_dims: Widths of the actors' hidden blocks.
        learning_rate: Adam's step size for the actors.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If actions are choices, or a number is outside its range.
    """

    def __init__(
        self,
        imitation: float = 0.7,
        penalty_weight: float = 1.0,
        n_proposals: int = 10,
        proposal_std: float = 0.2,
        proposal_steps: int | None = 32,
        search_iterations: int = 3,
        search_samples: int = 10,
        search_std: float = 2.0,
        search_elites: int | None = None,
        action_penalty: float = 1e-3,
        discount: float = 0.99,
        trace_decay: float = 0.0,
        critic_hidden_dims: Sequence[int] = (192, 192, 192),
        critic_learning_rate: float = 5e-4,
        target_rate: float = 0.005,
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 3e-4,
        **team_options: Any,
    ) -> None:
        super().__init__(**team_options)
        self.save_hyperparameters()
        if self.discrete:
            raise ValueError(
                "OMAR searches continuous actions, but the data's actions are choices; use MACQL or CFCQL instead "
                "(--model configs/model/ma_cql.yaml)"
            )
        require(0 <= imitation <= 1, "imitation", "in [0, 1]", imitation)
        require(penalty_weight >= 0, "penalty_weight", "at least 0", penalty_weight)
        require(n_proposals >= 1, "n_proposals", "at least 1", n_proposals)
        require(proposal_std > 0, "proposal_std", "above 0", proposal_std)
        require(proposal_steps is None or proposal_steps >= 1, "proposal_steps", "at least 1 or null", proposal_steps)
        require(search_iterations >= 1, "search_iterations", "at least 1", search_iterations)
        require(search_samples >= 1, "search_samples", "at least 1", search_samples)
        require(search_std > 0, "search_std", "above 0", search_std)
        fits = search_elites is None or 2 <= search_elites <= search_samples
        require(fits, "search_elites", f"in 2..{search_samples} (search_samples) or null", search_elites)
        require(action_penalty >= 0, "action_penalty", "at least 0", action_penalty)
        require_targets(discount, trace_decay, target_rate=target_rate)
        self.imitation, self.penalty_weight, self.action_penalty = imitation, penalty_weight, action_penalty
        self.n_proposals, self.proposal_std, self.proposal_steps = n_proposals, proposal_std, proposal_steps
        self.search = (search_iterations, search_samples, search_std, search_elites)
        self.discount, self.trace_decay, self.target_rate = discount, trace_decay, target_rate
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        self.head = ActionHead(self.shape, hidden_dims)
        self.head.log_std.requires_grad_(False)  # actors are deterministic
        self.critic = LocalCritics(self.shape, critic_hidden_dims)
        self.target_head, self.target_critic = target_copy(self.head), target_copy(self.critic)

    @property
    def policy(self) -> HeadPolicy:
        """Each agent's actor."""
        return HeadPolicy(self.head, sample=False)

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Critics and actors."""
        rates = ((self.critic, self.critic_learning_rate), (self.head, self.learning_rate))
        return [{"params": [p for p in part.parameters() if p.requires_grad], "lr": rate} for part, rate in rates]

    def target_pairs(self) -> Sequence[TargetPair]:
        """Critics and actors."""
        pairs = ((self.critic, self.target_critic), (self.head, self.target_head))
        return tuple(TargetPair(source, target, self.target_rate) for source, target in pairs)

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        steps = joint_steps(batch, self.proposal_steps, generator)
        actions = self.head(batch.obs).masked_fill(~batch.legal_actions, 0.0)
        features = self.critic.features(batch.obs)
        recorded = self.critic.of_features([known[:, :-1] for known in features], batch.actions[:, :-1])
        errors = recorded.movedim(-1, 1) - self._targets(batch)  # (2, N, B, T-1)
        td = masked_mean(errors.square().sum(dim=0), td_mask(batch.valid, batch.terminals))
        known = [_at(member, steps) for member in features]  # (M, N, F) each
        return {
            "q": td + self.penalty_weight * self._penalty(known, batch, actions, steps, generator),
            "policy": self._actor_loss(known[0].detach(), _at(actions, steps), steps, generator),
        }

    @torch.no_grad()
    def _targets(self, batch: TeamBatch) -> Tensor:
        """TD(λ) targets of every agent, (N, B, T-1)."""
        actions = self.target_head(batch.obs).masked_fill(~batch.legal_actions, 0.0)
        values = self.target_critic(batch.obs, actions).amin(dim=0).movedim(-1, 0)
        return lambda_returns(batch.rewards, batch.terminals, batch.valid, values, self.discount, self.trace_decay)

    def _penalty(
        self, known: Sequence[Tensor], batch: TeamBatch, actions: Tensor, steps: JointSteps, generator: torch.Generator
    ) -> Tensor:
        """Soft maximum over proposed actions less the recorded one, summed over critics, from features at ``steps``."""
        drawn = ActorCritic.proposals(batch, actions, steps, self.n_proposals, self.proposal_std, generator)
        values = self.critic.of_features(known, drawn.actions)  # (2, P, M, N)
        soft = proposal_log_sum_exp(values, drawn.log_density, dim=1)
        return (soft - self.critic.of_features(known, steps.actions)).mean(dim=(1, 2)).sum(dim=0)

    def _actor_loss(self, known: Tensor, own: Tensor, steps: JointSteps, generator: torch.Generator) -> Tensor:
        """L_π of the class, from the first critic's features and the actors' actions at ``steps``, (M, N, ·) each."""
        first, legal = self.critic.first, steps.legal_actions

        def score(actions: Tensor) -> Tensor:
            features = known.expand(*actions.shape[:-1], known.shape[-1])
            return first.of_features(features, actions.masked_fill(~legal, 0.0))

        found = searched_actions(score, own.detach(), *self.search, generator)
        best = best_action(score, torch.stack([own.detach(), found]))
        with frozen(first):
            climbing = score(own)
        imitating = squared_cloning_error(own, best, legal)
        loss = self.imitation * imitating - (1 - self.imitation) * climbing
        return (loss + self.action_penalty * own.square().mean(dim=-1)).mean()

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done, of what the actors would do, and of the targets."""
        usable, obs = td_mask(batch.valid, batch.terminals), batch.obs[:, :-1]
        own = self.head(obs).masked_fill(~batch.legal_actions[:, :-1], 0.0)
        return {
            "q_mean": masked_mean(self.critic.first(obs, batch.actions[:, :-1]), usable.unsqueeze(-1)),
            "q_policy_mean": masked_mean(self.critic.first(obs, own), usable.unsqueeze(-1)),
            "target_mean": masked_mean(self._targets(batch), usable),
        }


def _at(windows: Tensor, steps: JointSteps) -> Tensor:
    """What belongs to the steps, (M, …), of something known at all positions of the windows, (B, T, …)."""
    return windows.flatten(0, 1).index_select(0, steps.position)
