"""Conservative Q-learning of a team: values of joint actions that nobody recorded are pushed down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.actor_critic import ActorCritic, OtherActions
from lightning_modules.base import OfflineModule, TargetPair, require, require_targets
from lightning_modules.joint_steps import joint_steps
from lightning_modules.losses.conservative import legal_log_sum_exp, proposal_log_sum_exp
from lightning_modules.losses.masking import masked_mean
from lightning_modules.networks.actions import draw_legal_actions
from lightning_modules.networks.policies import GreedyPolicy, HeadPolicy
from lightning_modules.networks.team_value import Utilities, UtilityMixer
from lightning_modules.q_learning import QLearning


class MACQL(OfflineModule):
    """Conservative Q-learning: L = L_TD + w (soft maximum of Q over proposed actions - Q of the recorded one).

    Choices (QMIX+CQL; independent learners are ``mixer: none`` with ``penalty: local``; L_TD of ``QLearning``):

        joint   log Σ_{a in {random legal joint choices, recorded}} exp Q_tot(s, a)  -  Q_tot(s, a_recorded)
        local   mean_i [ log Σ_{a legal} exp Q_i(o_i, a)  -  Q_i(o_i, a_i) ]

    Continuous actions (MADDPG+CQL; L_TD and actors of ``ActorCritic``):

        joint   Σ_k [ log (1/P) Σ_p exp(Q_k(s, a_p) - log ρ(a_p))  -  Q_k(s, a_recorded) ]

    where the joint actions a_p are drawn evenly, around π(o) and around π(o'), with density ρ. Each actor's gradient
    goes through the critic of the joint action, with the others' recorded actions.

    Kumar et al., arXiv:2006.04779; for teams as in https://github.com/instadeepai/og-marl (``qmix_cql``, ``iql_cql``,
    ``maddpg_cql``). Differences from it: illegal choices are left out of the soft maximum of ``local`` too; the
    truncated last step of an episode has no TD target; memory is an option. Deviation: target networks follow a little
    after every update (there every 200 updates, for choices). Deviation: for continuous actions densities are those of
    joint actions, as in https://github.com/thu-rllab/CFCQL (there of one agent's part), actors climb the first critic
    (there the smaller), and the penalty is taken at ``penalty_steps`` of the recorded steps.

    Args:
        mixer: For choices: ``qmix``, ``vdn``, ``qtran`` (arXiv:1905.05408), or ``none``: each agent learns alone. For
            continuous actions the critic always sees the joint action.
        penalty: Which of the two penalties; continuous actions have ``joint``.
        penalty_weight: w >= 0; 0 is plain Q-learning, large values leave nothing but the recorded actions. It weighs
            against squared rewards: rewards ten times as large need about ten times the weight.
            The original has 3, for returns of about 20.
        n_proposals: Random joint choices, or continuous proposals of each of the three kinds.
        proposal_std: Deviation of the continuous proposals around the actors' actions.
        penalty_steps: Recorded joint steps at which continuous proposals are evaluated, drawn from the batch; null
            takes all of them.
        others: With whose actions an actor is improved: what the others did (``recorded``), or what their actors
            would do (``policies``).
        action_penalty: Weight of the mean squared action in the actors' loss.
        discount: Weight of the next step's value, in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window.
        target_rate: Rate in (0, 1] at which target networks follow.
        hidden_dims: Widths of all hidden blocks.
        critic_learning_rate: Adam's step size for values.
        learning_rate: Adam's step size for actors.
        **team_options: Dimensions, ``standardise`` and memory of ``OfflineModule``; all are options of this class too.

    Raises:
        ValueError: If a number is outside its range, or the penalty does not fit.
    """

    def __init__(
        self,
        mixer: UtilityMixer = "qmix",
        penalty: Literal["joint", "local"] = "joint",
        penalty_weight: float = 0.3,
        n_proposals: int = 10,
        proposal_std: float = 0.2,
        penalty_steps: int | None = 64,
        others: OtherActions = "recorded",
        action_penalty: float = 1e-3,
        discount: float = 0.99,
        trace_decay: float = 0.0,
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
        require_targets(discount, trace_decay, target_rate=target_rate)
        alone = self.discrete and mixer == "none" and penalty == "joint"
        require(not alone, "penalty", "'local' with mixer 'none', which has no value of joint actions", penalty)
        fits = self.discrete or penalty == "joint"
        require(fits, "penalty", "'joint' for continuous actions (ma_cql.yaml; one agent at a time: CFCQL)", penalty)
        self.penalty, self.penalty_weight = penalty, penalty_weight
        self.n_proposals, self.proposal_std, self.penalty_steps = n_proposals, proposal_std, penalty_steps
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        returns = (discount, trace_decay, target_rate)
        self.learner: QLearning | ActorCritic
        if self.discrete:
            self.learner = QLearning(self.shape, hidden_dims, mixer, *returns)
        else:
            self.learner = ActorCritic(self.shape, hidden_dims, *returns, 0.0, others, action_penalty)

    @property
    def policy(self) -> GreedyPolicy | HeadPolicy:
        """Each agent's best choice, or its actor."""
        if isinstance(self.learner, QLearning):
            return GreedyPolicy(self.learner.q.local)
        return HeadPolicy(self.learner.actor, sample=False)

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Values, and actors if there are any."""
        if isinstance(self.learner, QLearning):
            return ({"params": list(self.learner.q.parameters()), "lr": self.critic_learning_rate},)
        actor = [p for p in self.learner.actor.parameters() if p.requires_grad]
        return (
            {"params": list(self.learner.critic.parameters()), "lr": self.critic_learning_rate},
            {"params": actor, "lr": self.learning_rate},
        )

    def target_pairs(self) -> Sequence[TargetPair]:
        """The learner's."""
        return self.learner.target_pairs()

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        if isinstance(self.learner, QLearning):
            utilities = self.learner.utilities(batch)
            penalty = self._penalty_of_choices(self.learner, batch, utilities.learning_steps(), generator)
            return {"q": self.learner.td_loss(batch, utilities) + self.penalty_weight * penalty}
        actions = self.learner.actions(batch)
        penalty = self._penalty_of_actions(self.learner, batch, actions, generator)
        q = self.learner.td_loss(batch, generator) + self.penalty_weight * penalty
        return {"q": q, "policy": self.learner.actor_loss(batch, actions)}

    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done, of what the policy would do, of the targets, and the penalty."""
        generator = torch.Generator(self.device).manual_seed(0)
        with torch.no_grad():
            if isinstance(self.learner, QLearning):
                utilities = self.learner.utilities(batch).learning_steps()
                penalty = self._penalty_of_choices(self.learner, batch, utilities, generator)
                return {**self.learner.diagnostics(batch), "penalty": penalty}
            penalty = self._penalty_of_actions(self.learner, batch, self.learner.actions(batch), generator)
            return {**self.learner.diagnostics(batch, generator), "penalty": penalty}

    def _penalty_of_choices(
        self, learner: QLearning, batch: TeamBatch, utilities: Utilities, generator: torch.Generator
    ) -> Tensor:
        recorded, valid = batch.actions[:, :-1], batch.valid[:, :-1]
        if self.penalty == "local":
            soft = legal_log_sum_exp(utilities.values, utilities.legal_actions)
            return masked_mean(soft - utilities.of(recorded), valid.unsqueeze(-1))
        proposed = draw_legal_actions(utilities.legal_actions, self.n_proposals, generator)
        values = learner.q.joint(utilities, torch.cat([proposed, recorded.unsqueeze(0)]))  # (P + 1, B, T-1)
        return masked_mean(values.logsumexp(dim=0) - values[-1], valid)

    def _penalty_of_actions(
        self, learner: ActorCritic, batch: TeamBatch, actions: Tensor, generator: torch.Generator
    ) -> Tensor:
        steps = joint_steps(batch, self.penalty_steps, generator)
        drawn = learner.proposals(batch, actions, steps, self.n_proposals, self.proposal_std, generator)
        values = learner.values_at(batch, steps, drawn.actions)  # (K, P, M)
        soft = proposal_log_sum_exp(values, drawn.log_density.sum(dim=-1), dim=1)
        return (soft - learner.values_at(batch, steps, steps.actions)).mean(dim=-1).sum(dim=0)
