"""Implicit Q-learning for teams: values of recorded actions only, then advantage-weighted cloning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require, require_targets
from lightning_modules.global_critic import ExpectileCritic
from lightning_modules.losses.advantage import exponential_weights, in_batch_units
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import td_mask
from lightning_modules.networks.critics import MixerKind
from lightning_modules.networks.policies import ActionHead, HeadPolicy, sampled_and_mode


class IQL(OfflineModule):
    """Implicit Q-learning (Kostrikov et al., arXiv:2110.06169) with one critic of the whole team.

        L_V = E[ |τ - 1(u < 0)| u² ],  u = min_k Q̄_k(s, a) - V(s)
        L_Q = Σ_k E[ (Q_k(s, a) - r - γ (1 - d) V̄(s'))² ]
        L_π = -E min(exp(β A), m) Σ_i log π(a_i | o_i) / N,  A = min_k Q̄_k(s, a) - V̄(s)

    No action outside the recording is ever evaluated. All three are trained together, in one stage. The advantage of
    the joint action is the weight of every agent, whatever the mixer.

    Differences from the original (https://github.com/ikostrikov/implicit_q_learning): the Q of the team is a
    ``centralised`` network of the state and the joint action, or mixed from the agents' own. V̄ is a lagged copy, as Q̄
    is. Deviation: advantages are measured in units of their size in the batch (``scale_advantages``), where the
    original scales the rewards of each dataset. The policy's learning rate does not decay.

    Args:
        mixer: Form of Q: ``centralised``, ``vdn`` or ``qmix``.
        n_critics: Members of Q's ensemble; the smallest answer counts.
        expectile: τ in (0, 1): .5 values the behaviour as it is (SARSA), larger values its best.
        inverse_temperature: β >= 0; 0 is plain cloning, large values clone only the best.
        maximum_weight: m, above which a weight is cut.
        scale_advantages: Whether A is divided by its root mean square over the batch, so that β does not depend on the
            unit of the rewards.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead (the original), 1 to the end of the window.
        critic_hidden_dims: Widths of the hidden blocks of Q and V.
        critic_learning_rate: Adam's step size for Q and V.
        critic_target_rate: Rate in (0, 1] at which the lagged copies follow.
        hidden_dims: Widths of the policy's hidden blocks.
        learning_rate: Adam's step size for the policy.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        mixer: MixerKind = "centralised",
        n_critics: int = 2,
        expectile: float = 0.7,
        inverse_temperature: float = 3.0,
        maximum_weight: float = 100.0,
        scale_advantages: bool = True,
        discount: float = 0.99,
        trace_decay: float = 0.0,
        critic_hidden_dims: Sequence[int] = (192, 192, 192),
        critic_learning_rate: float = 5e-4,
        critic_target_rate: float = 0.005,
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 3e-4,
        **team_options: Any,
    ) -> None:
        super().__init__(**team_options)
        self.save_hyperparameters()
        require(n_critics >= 1, "n_critics", "at least 1", n_critics)
        require(0 < expectile < 1, "expectile", "in (0, 1)", expectile)
        require(inverse_temperature >= 0, "inverse_temperature", "at least 0", inverse_temperature)
        require(maximum_weight > 0, "maximum_weight", "above 0", maximum_weight)
        require_targets(discount, trace_decay, critic_target_rate=critic_target_rate)
        self.inverse_temperature, self.maximum_weight = inverse_temperature, maximum_weight
        self.scale_advantages = scale_advantages
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        returns = (discount, trace_decay, critic_target_rate)
        self.critic = ExpectileCritic(self.shape, critic_hidden_dims, mixer, n_critics, expectile, *returns)
        self.head = ActionHead(self.shape, hidden_dims)

    @property
    def policy(self) -> HeadPolicy:
        """Samples the weighted clone."""
        return HeadPolicy(self.head)

    def evaluation_policies(self) -> Mapping[str, HeadPolicy]:
        """Sampled, and the most likely action."""
        return sampled_and_mode(self.head)

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Critic and policy."""
        critic = parameter_group(self.critic_learning_rate, self.critic)
        return (critic, parameter_group(self.learning_rate, self.head))

    def target_pairs(self) -> Sequence[TargetPair]:
        """Q and V."""
        return self.critic.target_pairs()

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        actions, legal = batch.actions[:, :-1], batch.legal_actions[:, :-1]
        logs = self.head.log_prob(self.head.encoder(batch.obs[:, :-1]), actions, legal)  # (B, T-1, N)
        clones = self._weights(batch).unsqueeze(-1) * logs
        return {**self.critic.losses(batch), "policy": -masked_mean(clones, batch.valid[:, :-1, None])}

    def _weights(self, batch: TeamBatch) -> Tensor:
        """Weights of the recorded joint actions, (B, T-1)."""
        advantages = self.critic.advantages(batch, "q")
        if self.scale_advantages:
            advantages = in_batch_units(advantages, batch.valid[:, :-1])
        return exponential_weights(advantages, 1 / max(self.inverse_temperature, 1e-8), self.maximum_weight)

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Means of the critic's answers and of the weights."""
        usable = td_mask(batch.valid, batch.terminals)
        means = {
            "q_mean": self.critic.action_values(batch),
            "v_mean": self.critic.state_values(batch)[:, :-1],
            "target_mean": self.critic.targets(batch),
            "weight_mean": self._weights(batch),
        }
        return {name: masked_mean(values, usable) for name, values in means.items()}
