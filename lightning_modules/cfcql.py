"""Counterfactual conservative Q-learning: one agent at a time is suspected of what nobody recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.actor_critic import ActorCritic, OtherActions
from lightning_modules.base import OfflineModule, TargetPair, require, require_targets
from lightning_modules.joint_steps import joint_steps
from lightning_modules.losses.conservative import (
    agent_weights,
    categorical_divergence,
    legal_log_sum_exp,
    normal_divergence,
    proposal_log_sum_exp,
)
from lightning_modules.losses.masking import masked_mean
from lightning_modules.networks.actions import mask_illegal, with_one_replaced
from lightning_modules.networks.policies import ActionHead, GreedyPolicy, HeadPolicy
from lightning_modules.networks.team_value import Utilities
from lightning_modules.q_learning import QLearning


class CFCQL(OfflineModule):
    """Conservative Q-learning whose soft maximum lets one agent deviate while the others do what was recorded.

        L = L_TD + w E[ Σ_i λ_i soft max_{a_i} Q(s, a_i, a_{-i, recorded})  -  Q(s, a_recorded) ]

    Choices: Q_tot under a mixer (``QLearning``), the soft maximum is log Σ_{a_i legal} exp. Continuous actions: twin
    critics of the joint action (``ActorCritic``), the soft maximum is log (1/P) Σ_p exp(Q_k - log ρ(a_p)) over draws
    of agent i's action: even ones, around π_i(o_i) and around π_i(o'_i); each actor climbs Q_1 with the others'
    recorded actions.

        λ_i = softmax_i(temperature * KL(agent i's greedy action | its cloned behaviour)), detached

    with KL of softmax_{a_i} Q_tot(s, a_i, a_{-i, recorded}) from the clone β_i(o_i), or of N(π_i(o_i), proposal_std²)
    from the clone's normal distribution.

    Shao et al., arXiv:2309.12696; https://github.com/thu-rllab/CFCQL. Deviation: the behaviour is cloned beside the
    critic, not before it; for continuous actions it is a normal distribution of each agent, not a variational
    autoencoder of the team's action with importance sampling. Deviation: the penalty of continuous actions is taken at
    ``penalty_steps`` of the recorded steps, and actors learn at every update (there every fifth). Deviation: target
    networks follow a little after every update (there every 200 episodes, for choices). Differences in scale: half the
    squared error for continuous actions too, so w is half of the original's there; no draws around π for MPE there.

    Args:
        mixer: For choices: ``qmix`` or ``vdn``.
        penalty_weight: w >= 0; 0 is plain Q-learning. It weighs against squared rewards: rewards ten times as large
            need about ten times the weight. The original has .1 to 50, by dataset.
        weight_temperature: 0: all agents count alike. Above 0, agents whose greedy action is far from the data count
            most, at infinity only the farthest, as in the original's code for choices; below 0 those that are closest,
            as in its code for continuous actions.
        n_proposals: Continuous proposals of each of the three kinds.
        proposal_std: Deviation of those around the actors' actions.
        penalty_steps: Recorded joint steps at which continuous proposals are evaluated, drawn from the batch; null
            takes all of them.
        target_noise: Deviation of the noise in the targets' continuous actions.
        others: With whose actions an actor is improved: what the others did (``recorded``), or what their actors
            would do (``policies``).
        action_penalty: Weight of the mean squared action in the actors' loss.
        discount: Weight of the next step's value, in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window. The original has
            .6 for choices.
        target_rate: Rate in (0, 1] at which target networks follow.
        hidden_dims: Widths of all hidden blocks.
        critic_learning_rate: Adam's step size for values.
        learning_rate: Adam's step size for actors and the cloned behaviour.
        **team_options: Dimensions, ``standardise`` and memory of ``OfflineModule``; all are options of this class too.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        mixer: Literal["qmix", "vdn"] = "qmix",
        penalty_weight: float = 0.3,
        weight_temperature: float = 0.5,
        n_proposals: int = 10,
        proposal_std: float = 0.2,
        penalty_steps: int | None = 64,
        target_noise: float = 0.05,
        others: OtherActions = "recorded",
        action_penalty: float = 1e-3,
        discount: float = 0.99,
        trace_decay: float = 0.6,
        target_rate: float = 0.01,
        hidden_dims: Sequence[int] = (192, 192, 192),
        critic_learning_rate: float = 5e-4,
        learning_rate: float = 3e-4,
        **team_options: Any,
    ) -> None:
        super().__init__(**team_options)
        self.save_hyperparameters()
        require(penalty_weight >= 0, "penalty_weight", "at least 0", penalty_weight)
        require(n_proposals >= 1, "n_proposals", "at least 1", n_proposals)
        require(proposal_std > 0, "proposal_std", "above 0", proposal_std)
        require(penalty_steps is None or penalty_steps >= 1, "penalty_steps", "at least 1", penalty_steps)
        require(target_noise >= 0, "target_noise", "at least 0", target_noise)
        require_targets(discount, trace_decay, target_rate=target_rate)
        self.penalty_weight, self.weight_temperature = penalty_weight, weight_temperature
        self.n_proposals, self.proposal_std, self.penalty_steps = n_proposals, proposal_std, penalty_steps
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        returns = (discount, trace_decay, target_rate)
        self.learner: QLearning | ActorCritic
        if self.discrete:
            self.learner = QLearning(self.shape, hidden_dims, mixer, *returns)
        else:
            self.learner = ActorCritic(self.shape, hidden_dims, *returns, target_noise, others, action_penalty)
        self.behaviour = ActionHead(self.shape, hidden_dims) if weight_temperature != 0 else None

    @property
    def policy(self) -> GreedyPolicy | HeadPolicy:
        """Each agent's best choice, or its actor."""
        if isinstance(self.learner, QLearning):
            return GreedyPolicy(self.learner.q.local)
        return HeadPolicy(self.learner.actor, sample=False)

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Values, and actors and the behaviour if there are any."""
        values = self.learner.q if isinstance(self.learner, QLearning) else self.learner.critic
        heads = [self.behaviour] if isinstance(self.learner, QLearning) else [self.behaviour, self.learner.actor]
        slow = [p for head in heads if head is not None for p in head.parameters() if p.requires_grad]
        groups = [{"params": list(values.parameters()), "lr": self.critic_learning_rate}]
        return [*groups, {"params": slow, "lr": self.learning_rate}] if slow else groups

    def target_pairs(self) -> Sequence[TargetPair]:
        """The learner's."""
        return self.learner.target_pairs()

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        cloning = {} if self.behaviour is None else {"behaviour": self._cloning(batch, self.behaviour)}
        if isinstance(self.learner, QLearning):
            utilities = self.learner.utilities(batch)
            penalty = self._penalty_of_choices(self.learner, batch, utilities.learning_steps())
            return {"q": self.learner.td_loss(batch, utilities) + self.penalty_weight * penalty, **cloning}
        actions = self.learner.actions(batch)
        penalty = self._penalty_of_actions(self.learner, batch, actions, generator)
        q = self.learner.td_loss(batch, generator) + self.penalty_weight * penalty
        return {"q": q, "policy": self.learner.actor_loss(batch, actions), **cloning}

    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done, of what the policy would do, of the targets, and the penalty."""
        generator = torch.Generator(self.device).manual_seed(0)
        with torch.no_grad():
            if isinstance(self.learner, QLearning):
                penalty = self._penalty_of_choices(self.learner, batch, self.learner.utilities(batch).learning_steps())
                return {**self.learner.diagnostics(batch), "penalty": penalty}
            penalty = self._penalty_of_actions(self.learner, batch, self.learner.actions(batch), generator)
            return {**self.learner.diagnostics(batch, generator), "penalty": penalty}

    def _cloning(self, batch: TeamBatch, behaviour: ActionHead) -> Tensor:
        features = behaviour.encoder(batch.obs[:, :-1])
        logs = behaviour.log_prob(features, batch.actions[:, :-1], batch.legal_actions[:, :-1])
        return -masked_mean(logs, batch.valid[:, :-1].unsqueeze(-1))

    def _penalty_of_choices(self, learner: QLearning, batch: TeamBatch, utilities: Utilities) -> Tensor:
        recorded, legal = utilities.of(batch.actions[:, :-1]), utilities.legal_actions
        choices = utilities.values.movedim(-1, 0).unsqueeze(-1)  # (A, B, T-1, N, 1)
        deviating = with_one_replaced(choices, recorded.unsqueeze(-1)).squeeze(-1)  # (N, A, B, T-1, N)
        values = learner.q.mixed(deviating, utilities.state).permute(2, 3, 0, 1)  # (B, T-1, N, A)
        weights = self._weights_of_choices(batch, values, legal)
        soft = (weights * legal_log_sum_exp(values, legal)).sum(dim=-1)
        return masked_mean(soft - learner.q.mixed(recorded, utilities.state), batch.valid[:, :-1])

    def _weights_of_choices(self, batch: TeamBatch, values: Tensor, legal_actions: Tensor) -> Tensor:
        if self.behaviour is None:
            return torch.full_like(values[..., 0], 1 / self.n_agents)
        with torch.no_grad():
            log_behaviour = mask_illegal(self.behaviour(batch.obs[:, :-1]), legal_actions).log_softmax(dim=-1)
        return agent_weights(categorical_divergence(values, log_behaviour, legal_actions), self.weight_temperature)

    def _penalty_of_actions(
        self, learner: ActorCritic, batch: TeamBatch, actions: Tensor, generator: torch.Generator
    ) -> Tensor:
        steps = joint_steps(batch, self.penalty_steps, generator)
        drawn = learner.proposals(batch, actions, steps, self.n_proposals, self.proposal_std, generator)
        values = learner.values_at(batch, steps, with_one_replaced(drawn.actions, steps.actions))  # (K, N, P, M)
        soft = proposal_log_sum_exp(values, drawn.log_density.permute(2, 0, 1), dim=2)  # (K, N, M)
        weights = self._weights_of_actions(batch, actions.detach())[steps.position].T
        return ((weights * soft).sum(dim=1) - learner.values_at(batch, steps, steps.actions)).mean(dim=-1).sum(dim=0)

    def _weights_of_actions(self, batch: TeamBatch, actions: Tensor) -> Tensor:
        """λ at all positions, (B * T, N)."""
        if self.behaviour is None:
            return torch.full_like(actions[..., 0], 1 / self.n_agents).flatten(0, 1)
        with torch.no_grad():
            cloned, std = self.behaviour(batch.obs), self.behaviour.log_std.clamp(-5.0, 2.0).exp()
        own_std = torch.full_like(std, self.proposal_std)
        divergences = normal_divergence(actions, own_std, cloned, std, batch.legal_actions)
        return agent_weights(divergences, self.weight_temperature).flatten(0, 1)
