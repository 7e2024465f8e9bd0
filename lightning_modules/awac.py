"""Advantage-weighted actor critic for teams: the current policy is evaluated, recorded actions are cloned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group, require, require_targets
from lightning_modules.losses.advantage import exponential_weights, in_batch_units
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import td_mask, td_target
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.critics import Ensemble, JointActionValue, MixerKind
from lightning_modules.networks.policies import ActionHead, HeadPolicy, sampled_and_mode
from lightning_modules.networks.targets import target_copy


class AWAC(OfflineModule):
    """Advantage-weighted actor critic (Nair et al., arXiv:2006.09359) with one critic of the whole team.

        L_Q = Σ_k E[ (Q_k(s, a) - r - γ (1 - d) min_k Q̄_k(s', a'))² ],  a'_i ~ π(o'_i), legal ones
        L_π = -E min(exp(A / λ), m) Σ_i log π(a_i | o_i) / N,  A = min_k Q_k(s, a) - min_k Q_k(s, ã),  ã_i ~ π(o_i)

    Unlike in IQL, the critic is asked about actions of the policy, which weighted cloning keeps close to recorded ones.
    The advantage of the joint action is the weight of every agent.

    Differences from the original (https://github.com/rail-berkeley/rlkit; offline, without its online phase): the Q of
    the team is a ``centralised`` network of the state and the joint action, or mixed from the agents' own. Deviation:
    advantages are measured in units of their size in the batch (``scale_advantages``), where the original chooses λ for
    each dataset.

    Args:
        mixer: Form of Q: ``centralised``, ``vdn`` or ``qmix``.
        n_critics: Members of Q's ensemble; the smallest answer counts.
        temperature: λ > 0: large is plain cloning, small clones only the best.
        maximum_weight: m, above which a weight is cut.
        scale_advantages: Whether A is divided by its root mean square over the batch, so that λ does not depend on the
            unit of the rewards.
        discount: γ in [0, 1].
        critic_hidden_dims: Widths of Q's hidden blocks.
        critic_learning_rate: Adam's step size for Q.
        critic_target_rate: Rate in (0, 1] at which the lagged copy follows.
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
        temperature: float = 1.0,
        maximum_weight: float = 100.0,
        scale_advantages: bool = True,
        discount: float = 0.99,
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
        require(temperature > 0, "temperature", "above 0", temperature)
        require(maximum_weight > 0, "maximum_weight", "above 0", maximum_weight)
        require_targets(discount, critic_target_rate=critic_target_rate)
        self.temperature, self.maximum_weight, self.scale_advantages = temperature, maximum_weight, scale_advantages
        self.discount, self.critic_target_rate = discount, critic_target_rate
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        self.q = Ensemble([JointActionValue(self.shape, critic_hidden_dims, mixer) for _ in range(n_critics)])
        self.target_q = target_copy(self.q)
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
        critic = parameter_group(self.critic_learning_rate, self.q)
        return (critic, parameter_group(self.learning_rate, self.head))

    def target_pairs(self) -> Sequence[TargetPair]:
        """Q."""
        return (TargetPair(self.q, self.target_q, self.critic_target_rate),)

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        features = self.head.encoder(batch.obs)  # (B, T, N, F)
        proposed = self._proposed(features, batch, generator)
        q = self._recorded(batch)
        targets, weights = self._targets(batch, proposed), self._weights(q.amin(dim=0), batch, proposed)
        logs = self.head.log_prob(features[:, :-1], batch.actions[:, :-1], batch.legal_actions[:, :-1])
        return {
            "q": masked_mean((q - targets).square().sum(dim=0), td_mask(batch.valid, batch.terminals)),
            "policy": -masked_mean(weights.unsqueeze(-1) * logs, batch.valid[:, :-1, None]),
        }

    def _recorded(self, batch: TeamBatch) -> Tensor:
        """Q of the recorded joint actions, (K, B, T-1)."""
        actions = encode_actions(batch.actions[:, :-1], self.action_dim, self.discrete)
        values: Tensor = self.q(batch.obs[:, :-1], batch.state[:, :-1], actions)
        return values

    @torch.no_grad()
    def _proposed(self, features: Tensor, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """Legal actions of the present policy at all positions, encoded, (B, T, N, A)."""
        actions = self.policy.choose(features, batch.legal_actions, generator)
        return encode_actions(actions, self.action_dim, self.discrete)

    @torch.no_grad()
    def _targets(self, batch: TeamBatch, proposed: Tensor) -> Tensor:
        """One-step targets with the policy's next actions, (B, T-1)."""
        next_values = self.target_q(batch.obs, batch.state, proposed).amin(dim=0)[:, 1:]
        return td_target(batch.rewards[:, :-1], batch.terminals[:, :-1], next_values, self.discount)

    @torch.no_grad()
    def _weights(self, recorded: Tensor, batch: TeamBatch, proposed: Tensor) -> Tensor:
        """Weights of the recorded joint actions with values (B, T-1), in the same shape."""
        baseline = self.q(batch.obs[:, :-1], batch.state[:, :-1], proposed[:, :-1]).amin(dim=0)
        advantages = recorded - baseline
        if self.scale_advantages:
            advantages = in_batch_units(advantages, batch.valid[:, :-1])
        return exponential_weights(advantages, self.temperature, self.maximum_weight)

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Means of the critic's answers for recorded and the policy's actions, and of the weights."""
        generator = torch.Generator(batch.obs.device).manual_seed(0)
        proposed = self._proposed(self.head.encoder(batch.obs), batch, generator)
        recorded = self._recorded(batch).amin(dim=0)
        means = {
            "q_mean": recorded,
            "q_policy_mean": self.q(batch.obs, batch.state, proposed).amin(dim=0)[:, :-1],
            "target_mean": self._targets(batch, proposed),
            "weight_mean": self._weights(recorded, batch, proposed),
        }
        usable = td_mask(batch.valid, batch.terminals)
        return {name: masked_mean(values, usable) for name, values in means.items()}
