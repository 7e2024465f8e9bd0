"""Implicit constraint Q-learning: values of recorded actions only, which compete within the batch to be cloned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require, require_targets
from lightning_modules.losses.advantage import in_batch_units, softmax_weights
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import lambda_returns, td_mask
from lightning_modules.networks.actions import mask_illegal
from lightning_modules.networks.critics import LocalActionValue
from lightning_modules.networks.mixers import NormalisedLinearMixer
from lightning_modules.networks.policies import ActionHead, HeadPolicy, sampled_and_mode
from lightning_modules.networks.targets import target_copy


class ICQ(OfflineModule):
    """Multi-agent implicit constraint Q-learning (ICQ-MA, Yang et al., arXiv:2106.03400).

        Q_tot = Σ_i k_i(s) Q_i(s, o_i, a_i),  k_i >= 0,  Σ_i k_i = 1
        L_Q = E[ (Q_tot(s, a) - G^λ)² ], where G^λ bootstraps from ρ Q̄_tot(s', a') of the recorded next actions
        L_π = -E Σ_i k_i ω_i log π(a_i | o_i),  ω_i ~ exp(A_i / β),  A_i = Q_i(a_i) - E_{b ~ π} Q_i(b)

    ρ ~ exp(Q̄_tot / α) and ω are softmaxes over the steps of the batch with mean 1: they turn the recorded behaviour
    into the one that is meant, so that no action outside the recording enters a target.

    Differences from the original (https://github.com/YiqinYang/ICQ, ICQ-MA): one Adam and slowly following copies
    instead of RMSprop, one step of the optimiser for every time step of an episode, and hard copies. Steps compete with
    all steps of the batch, there with those at the same time, padding included. The published λ is .8 in the
    configuration and .75 in the code that runs. Deviation: continuous actions, which the original has for a single
    agent only; there A is the TD error, here E_{b ~ π} is a mean over a few samples of the policy. Deviation: A is
    measured in units of its size in the batch (``scale_advantages``).

    Args:
        temperature: β > 0 of the policy's weights: small clones only the best steps, large all alike.
        scale_advantages: Whether A is divided by its root mean square over the batch, so that β does not depend on the
            unit of the rewards; with ``temperature: 0.1`` and without scaling it is the original.
        target_temperature: α > 0 of the targets' weights: small bootstraps only from the best steps, large is SARSA.
        policy_samples: Samples in E_{b ~ π} for continuous actions; choices are summed over exactly.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window.
        critic_hidden_dims: Widths of Q_i's hidden blocks.
        critic_learning_rate: Adam's step size for Q_i and the mixer.
        critic_target_rate: Rate in (0, 1] at which the lagged copies follow.
        hidden_dims: Widths of the policy's hidden blocks.
        learning_rate: Adam's step size for the policy.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        scale_advantages: bool = True,
        target_temperature: float = 1000.0,
        policy_samples: int = 4,
        discount: float = 0.99,
        trace_decay: float = 0.75,
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
        require(target_temperature > 0, "target_temperature", "above 0", target_temperature)
        require(policy_samples >= 1, "policy_samples", "at least 1", policy_samples)
        require_targets(discount, trace_decay, critic_target_rate=critic_target_rate)
        self.temperature, self.target_temperature = temperature, target_temperature
        self.scale_advantages = scale_advantages
        self.policy_samples, self.discount, self.trace_decay = policy_samples, discount, trace_decay
        self.critic_target_rate = critic_target_rate
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        seen = replace(self.shape, obs_dim=self.shape.state_dim + self.shape.obs_dim)
        self.q = LocalActionValue(seen, critic_hidden_dims)
        self.mixer = NormalisedLinearMixer(self.n_agents, self.shape.state_dim)
        self.target_q, self.target_mixer = target_copy(self.q), target_copy(self.mixer)
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
        critic = parameter_group(self.critic_learning_rate, self.q, self.mixer)
        return (critic, parameter_group(self.learning_rate, self.head))

    def target_pairs(self) -> Sequence[TargetPair]:
        """Q_i and the mixer."""
        pairs = ((self.q, self.target_q), (self.mixer, self.target_mixer))
        return tuple(TargetPair(source, target, self.critic_target_rate) for source, target in pairs)

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        state, actions, legal = batch.state[:, :-1], batch.actions[:, :-1], batch.legal_actions[:, :-1]
        known = self.q.encoder(_seen(batch)[:, :-1])
        q = self.q.of_features(known, actions)  # (B, T-1, N)
        errors = self.mixer(q, state) - self._targets(batch)
        features = self.head.encoder(batch.obs[:, :-1])
        weights = self._weights(q - self._baseline(known, features, legal, generator), batch)
        clones = (weights * self.head.log_prob(features, actions, legal)).sum(dim=-1)
        return {
            "q": masked_mean(errors.square(), td_mask(batch.valid, batch.terminals)),
            "policy": -masked_mean(clones, batch.valid[:, :-1]),
        }

    @torch.no_grad()
    def _weights(self, advantages: Tensor, batch: TeamBatch) -> Tensor:
        """k_i ω_i of the recorded actions with these advantages, (B, T-1, N) both."""
        usable = batch.valid[:, :-1]
        if self.scale_advantages:
            advantages = in_batch_units(advantages, usable.unsqueeze(-1))
        return softmax_weights(advantages, self.temperature, usable) * self.mixer.weights(batch.state[:, :-1])

    @torch.no_grad()
    def _targets(self, batch: TeamBatch) -> Tensor:
        """TD(λ) targets that bootstrap from weighted recorded actions, (B, T-1)."""
        values = self.target_mixer(self.target_q(_seen(batch), batch.actions), batch.state)
        values = softmax_weights(values, self.target_temperature, batch.valid) * values
        fields = (batch.rewards, batch.terminals, batch.valid, values)
        return lambda_returns(*fields, self.discount, self.trace_decay)

    @torch.no_grad()
    def _baseline(self, known: Tensor, features: Tensor, legal: Tensor, generator: torch.Generator) -> Tensor:
        """What the present policy's legal actions are worth, (B, T-1, N), given critic's and policy's features."""
        if self.discrete:
            chances = mask_illegal(self.head.of_features(features), legal).softmax(dim=-1)
            return (chances * self.q.all_of_features(known)).sum(dim=-1)
        proposed = [self.policy.choose(features, legal, generator) for _ in range(self.policy_samples)]
        return torch.stack([self.q.of_features(known, actions) for actions in proposed]).mean(dim=0)

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Means of the critic's answers."""
        usable = td_mask(batch.valid, batch.terminals)
        q = self.mixer(self.q(_seen(batch), batch.actions), batch.state)[:, :-1]
        return {"q_mean": masked_mean(q, usable), "target_mean": masked_mean(self._targets(batch), usable)}


def _seen(batch: TeamBatch) -> Tensor:
    """What a local critic knows: the state and the agent's own observation, (B, T, N, S + O)."""
    state = batch.state.unsqueeze(-2).expand(*batch.obs.shape[:-1], batch.state.shape[-1])
    return torch.cat([state, batch.obs], dim=-1)
