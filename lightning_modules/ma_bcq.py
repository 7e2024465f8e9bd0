"""Batch-constrained Q-learning for teams: only what the recorded behaviour might do is compared by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, require, require_targets
from lightning_modules.candidate_learning import CandidateLearning, CandidateMixer
from lightning_modules.joint_steps import some_windows
from lightning_modules.losses.cloning import choice_cloning_error
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import td_mask
from lightning_modules.networks.batch_constrained import LikelyGreedyPolicy, likely_actions
from lightning_modules.networks.policies import ActionHead, GreedyPolicy, HeadPolicy, Policy
from lightning_modules.networks.team_value import Utilities
from lightning_modules.q_learning import QLearning


class MABCQ(OfflineModule):
    """Batch-constrained Q-learning (Fujimoto et al., arXiv:1812.02900 and 1910.01708) with values under a mixer.

    Choices: a behaviour β is cloned, and Q-learning (``QLearning``: double, with targets) takes its maximum over

        { a legal : β(a | o_i) / max_b β(b | o_i) >= threshold }

    so that a threshold of 0 is Q-learning and one of 1 is cloning. As in https://github.com/instadeepai/og-marl
    (``qmix_bcq``, ``iql_bcq``). Deviation: the acting policy is restricted too (``constrain_acting``), and the target
    network follows a little after every update (there all of it every 200 updates).

    Continuous actions: likely actions are generated and corrected a little, see ``CandidateLearning``; the best of
    several by Q_1 is what acts. As in https://github.com/sfujim/BCQ, for every agent. Deviation: the agents' values are
    mixed in the TD loss; 10 candidates when acting (there 100); ``windows_per_update``; our network sizes and rates.

    Args:
        mixer: What is made of the agents' values: ``qmix`` or ``vdn`` mix them; ``none``: every agent learns alone.
        threshold: In [0, 1]; how likely a choice must be next to the most likely one. For choices.
        constrain_acting: Whether acting is restricted to likely choices as targets are; otherwise to legal ones. For
            choices.
        target_candidates: Generated actions that are compared in a target. For continuous actions.
        acting_candidates: The same when acting.
        perturbation_bound: Largest change of an entry of a generated action, in [0, 2].
        windows_per_update: Windows of an update, drawn from the batch, because candidates take time; null takes all of
            them. For continuous actions.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window.
        critic_hidden_dims: Widths of the values' hidden blocks.
        critic_learning_rate: Adam's step size for values.
        target_rate: Rate in (0, 1] at which target networks follow.
        hidden_dims: Widths of hidden blocks of what clones and of the perturbation.
        learning_rate: Adam's step size for these.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        mixer: CandidateMixer = "qmix",
        threshold: float = 0.4,
        constrain_acting: bool = True,
        target_candidates: int = 10,
        acting_candidates: int = 10,
        perturbation_bound: float = 0.05,
        windows_per_update: int | None = 32,
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
        require(0 <= threshold <= 1, "threshold", "in [0, 1]", threshold)
        require(target_candidates >= 1, "target_candidates", "at least 1", target_candidates)
        require(acting_candidates >= 1, "acting_candidates", "at least 1", acting_candidates)
        require(0 <= perturbation_bound <= 2, "perturbation_bound", "in [0, 2]", perturbation_bound)
        enough = windows_per_update is None or windows_per_update >= 1
        require(enough, "windows_per_update", "at least 1 or null", windows_per_update)
        require_targets(discount, trace_decay, target_rate=target_rate)
        self.threshold, self.constrain_acting, self.acting_candidates = threshold, constrain_acting, acting_candidates
        self.windows_per_update = windows_per_update
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        returns = (discount, trace_decay, target_rate)
        self.learner: QLearning | CandidateLearning
        if self.discrete:
            self.learner = QLearning(self.shape, critic_hidden_dims, mixer, *returns)
            self.head = ActionHead(self.shape, hidden_dims)
        else:
            candidates = (mixer, target_candidates, perturbation_bound)
            self.learner = CandidateLearning(self.shape, critic_hidden_dims, hidden_dims, *candidates, *returns)

    @property
    def policy(self) -> Policy:
        """The best of what the behaviour might do."""
        if isinstance(self.learner, CandidateLearning):
            return self.learner.policy(self.acting_candidates)
        if not self.constrain_acting:
            return GreedyPolicy(self.learner.q.local)
        return LikelyGreedyPolicy(self.learner.q.local, self.head, self.threshold)

    def evaluation_policies(self) -> Mapping[str, Policy]:
        """The policy, and what it chooses from: the cloned behaviour, or a single candidate."""
        if isinstance(self.learner, CandidateLearning):
            return {"policy": self.policy, "one candidate": self.learner.policy(1)}
        return {"policy": self.policy, "behaviour, sampled": HeadPolicy(self.head)}

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Values, and what clones and perturbs."""
        if isinstance(self.learner, CandidateLearning):
            values, actors = self.learner.value_parameters(), self.learner.actor_parameters()
        else:
            values = list(self.learner.q.parameters())
            actors = [p for p in self.head.parameters() if p.requires_grad]
        return ({"params": values, "lr": self.critic_learning_rate}, {"params": actors, "lr": self.learning_rate})

    def target_pairs(self) -> Sequence[TargetPair]:
        """The learner's."""
        return self.learner.target_pairs()

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        if isinstance(self.learner, CandidateLearning):
            return self.learner.losses(some_windows(batch, self.windows_per_update, generator), generator)
        logits = self.head(batch.obs)
        cloning = choice_cloning_error(logits[:, :-1], batch.actions[:, :-1], batch.legal_actions[:, :-1])
        utilities = self._constrained(self.learner.utilities(batch), logits)
        return {
            "q": self.learner.td_loss(batch, utilities),
            "behaviour": masked_mean(cloning, batch.valid[:, :-1, None]),
        }

    def _constrained(self, utilities: Utilities, logits: Tensor) -> Utilities:
        """Utilities whose greedy choice is one that the behaviour makes often enough."""
        likely = likely_actions(logits.detach(), utilities.legal_actions, self.threshold)
        return utilities._replace(legal_actions=likely)

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done and of the targets; for choices, the share of legal ones that is left."""
        usable = td_mask(batch.valid, batch.terminals)
        if isinstance(self.learner, CandidateLearning):
            generator = torch.Generator(batch.obs.device).manual_seed(0)
            return {
                "q_mean": masked_mean(self.learner.recorded_values(batch).mean(dim=0), usable),
                "target_mean": masked_mean(self.learner.targets(batch, generator), usable),
            }
        utilities = self._constrained(self.learner.utilities(batch), self.head(batch.obs))
        steps, counted = utilities.learning_steps(), batch.valid[:, :-1, None, None]
        legal = batch.legal_actions[:, :-1] & counted
        return {
            "q_mean": masked_mean(self.learner.q.joint(steps, batch.actions[:, :-1]), usable),
            "target_mean": masked_mean(self.learner.targets(batch, utilities.greedy()), usable),
            "likely_share": masked_mean(steps.legal_actions.float(), legal),
        }
