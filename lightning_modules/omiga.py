"""OMIGA: implicit global-to-local value regularisation, a critic and a policy for every agent that fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require, require_targets
from lightning_modules.global_critic import OmigaCritic
from lightning_modules.losses.advantage import exponential_weights
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import td_mask
from lightning_modules.networks.policies import ActionHead, HeadPolicy, sampled_and_mode


class OMIGA(OfflineModule):
    """OMIGA (Wang et al., arXiv:2307.11620): local values under a linear mixer, each agent cloned by its own advantage.

        Q_tot = Σ_i w_i(s) Q_i(o_i, a_i) + b(s),  V_tot alike,  w_i >= 0
        L_Q = E[ (Q_tot(s, a) - r - γ (1 - d) V̄_tot(s'))² ]
        L_V = E[ exp(z_i) + w̄_i V_i / α ],  z_i = w̄_i (Q̄_i - V_i) / α:  V_i = (α / w_i) log E exp(w_i Q_i / α)
        L_π = -E min(exp(z_i), m) log π(a_i | o_i)

    Under V_i's optimum the weights exp(z_i) have mean 1: π(a | o) is the behaviour times exp(w_i (Q_i - V_i) / α).

    Differences from the original (https://github.com/ZhengYinan-AIR/OMIGA): steps before a terminal are kept with a
    bootstrap of zero instead of dropped; illegal actions are masked in training too; continuous actions are Gaussian
    with a tanh mean instead of tanh of a Gaussian. Deviation: weights are cut at m, there at
    e^10; α is .1, there 10, with which returns of the size of one give plain cloning: α has the unit of the rewards.

    Args:
        temperature: α > 0, in the unit of the rewards: small clones only the best recorded actions, large all of them.
            10 for returns of thousands (the original), .1 for returns of the size of one.
        maximum_weight: m, above which a weight of cloning is cut.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead (the original), 1 to the end of the window.
        critic_hidden_dims: Widths of the hidden blocks of Q_i and V_i.
        critic_learning_rate: Adam's step size for Q_i, V_i and the mixer.
        critic_target_rate: Rate in (0, 1] at which the lagged copies follow.
        hidden_dims: Widths of the policy's hidden blocks.
        learning_rate: Adam's step size for the policy.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        maximum_weight: float = 100.0,
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
        require(temperature > 0, "temperature", "above 0", temperature)
        require(maximum_weight > 0, "maximum_weight", "above 0", maximum_weight)
        require_targets(discount, trace_decay, critic_target_rate=critic_target_rate)
        self.temperature, self.maximum_weight = temperature, maximum_weight
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        returns = (discount, trace_decay, critic_target_rate)
        self.critic = OmigaCritic(self.shape, critic_hidden_dims, temperature, *returns)
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
        """Q_i, V_i and the mixer."""
        return self.critic.target_pairs()

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        actions, legal = batch.actions[:, :-1], batch.legal_actions[:, :-1]
        logs = self.head.log_prob(self.head.encoder(batch.obs[:, :-1]), actions, legal)  # (B, T-1, N)
        clones = self._weights(batch) * logs
        return {**self.critic.losses(batch), "policy": -masked_mean(clones, batch.valid[:, :-1, None])}

    @torch.no_grad()
    def local_advantages(self, batch: TeamBatch) -> Tensor:
        """w̄_i (Q̄_i - V_i) of the recorded actions, (B, T-1, N): each agent's part of the global advantage."""
        obs = batch.obs[:, :-1]
        weights, _ = self.critic.target_mixer.weights(batch.state[:, :-1])
        gaps: Tensor = self.critic.target_q(obs, self.critic.encode(batch)) - self.critic.value(obs)
        return weights * gaps

    def _weights(self, batch: TeamBatch) -> Tensor:
        """Weights of the recorded actions, (B, T-1, N)."""
        return exponential_weights(self.local_advantages(batch), self.temperature, self.maximum_weight)

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Means of the critic's answers and of the weights; these should be 1 on average."""
        usable = td_mask(batch.valid, batch.terminals)
        means = {
            "q_mean": self.critic.action_values(batch),
            "v_mean": self.critic.state_values(batch)[:, :-1],
            "target_mean": self.critic.targets(batch),
            "weight_mean": self._weights(batch).mean(dim=-1),
        }
        return {name: masked_mean(values, usable) for name, values in means.items()}
