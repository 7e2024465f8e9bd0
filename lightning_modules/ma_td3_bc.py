"""TD3+BC for teams: deterministic actors that climb a critic and are held back by cloning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.actor_critic import OtherActions
from lightning_modules.base import OfflineModule, TargetPair, require, require_targets
from lightning_modules.losses.cloning import choice_cloning_error, squared_cloning_error
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import lambda_returns, td_mask
from lightning_modules.networks.actions import decode_actions, encode_actions, with_one_replaced
from lightning_modules.networks.critics import Ensemble, JointActionValue
from lightning_modules.networks.gumbel import straight_through_choice
from lightning_modules.networks.local_critics import LocalCritics
from lightning_modules.networks.policies import ActionHead, HeadPolicy
from lightning_modules.networks.targets import frozen, target_copy


class MATD3BC(OfflineModule):
    """TD3+BC with decentralised actors (Fujimoto & Gu, arXiv:2106.06860; for teams as MATD3, arXiv:1910.01465).

        L_Q = Σ_k E (Q_k(s, a) - G^λ)²,   G^λ from V(s') = min_k Q̄_k(s', clip(π̄(o') + clip(σ ε, -c, c), -1, 1))
        L_π = -α / E|Q_1| · E mean_i Q_1(s, a_{-i}, π_i(o_i)) + E mean_i (π_i(o_i) - a_i)²,   E|Q_1| held fixed

    With a ``local`` critic Q_i(o_i, a_i) takes the place of Q(s, a), in every agent's own target too.

    Choices: π_i is a softmax over legal choices. For Q_1 one is drawn, with the straight-through Gumbel-softmax
    gradient; the cross entropy of the recorded choice takes the place of the squared error; targets take π̄'s most
    likely choice, without noise. So it is in https://github.com/zzq-bot/offline-marl-framework-offpymarl (``matd3_bc``,
    with ``others: policies``).

    Differences from the original (https://github.com/sfujim/TD3_BC): observations are standardised only with
    ``standardise``; truncated last steps have no target; memory is an option. Deviation: actors learn and targets move
    with every update (there with every second one).

    Args:
        critic: ``centralised``: twin critics of state and joint action; ``local``: of an agent's observation and
            action.
        others: With whose actions an agent is improved under the ``centralised`` critic: what the others did
            (``recorded``), or would do now (``policies``, held fixed).
        alpha: α >= 0, the weight of the critic; 0 is behaviour cloning.
        target_noise: σ >= 0, deviation of the noise in the targets' continuous actions.
        target_noise_bound: c >= 0, where that noise is cut.
        gumbel_temperature: Above 0; how soft the gradient of a choice is.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window.
        critic_hidden_dims: Widths of the critics' hidden blocks.
        critic_learning_rate: Adam's step size for the critics.
        target_rate: Rate in (0, 1] at which target networks follow.
        hidden_dims: Widths of the actors' hidden blocks.
        learning_rate: Adam's step size for the actors.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        critic: Literal["centralised", "local"] = "centralised",
        others: OtherActions = "recorded",
        alpha: float = 2.5,
        target_noise: float = 0.2,
        target_noise_bound: float = 0.5,
        gumbel_temperature: float = 1.0,
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
        require(alpha >= 0, "alpha", "at least 0", alpha)
        require(target_noise >= 0, "target_noise", "at least 0", target_noise)
        require(target_noise_bound >= 0, "target_noise_bound", "at least 0", target_noise_bound)
        require(gumbel_temperature > 0, "gumbel_temperature", "above 0", gumbel_temperature)
        require_targets(discount, trace_decay, target_rate=target_rate)
        self.others: OtherActions = others
        self.alpha, self.gumbel_temperature = alpha, gumbel_temperature
        self.target_noise, self.target_noise_bound = target_noise, target_noise_bound
        self.discount, self.trace_decay, self.target_rate = discount, trace_decay, target_rate
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        self.head = ActionHead(self.shape, hidden_dims)
        self.head.log_std.requires_grad_(False)  # continuous actors are deterministic
        self.critic: Ensemble | LocalCritics
        if critic == "local":
            self.critic = LocalCritics(self.shape, critic_hidden_dims)
        else:
            self.critic = Ensemble([JointActionValue(self.shape, critic_hidden_dims) for _ in range(2)])
        self.target_head, self.target_critic = target_copy(self.head), target_copy(self.critic)

    @property
    def policy(self) -> HeadPolicy:
        """Each agent's mean action or most likely choice."""
        return HeadPolicy(self.head, sample=False)

    def evaluation_policies(self) -> Mapping[str, HeadPolicy]:
        """The same, and choices that are sampled."""
        sampled = {"policy, sampled": HeadPolicy(self.head)} if self.discrete else {}
        return {"policy, mode": self.policy, **sampled}

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
        errors = self._recorded_values(batch) - self._targets(batch, generator)  # (2, B, T-1) or (2, N, B, T-1)
        learning, legal, recorded = batch.valid[:, :-1], batch.legal_actions[:, :-1], batch.actions[:, :-1]
        output = self.head(batch.obs[:, :-1])
        error = choice_cloning_error if self.discrete else squared_cloning_error
        values = self._policy_values(batch, self._own_actions(output, legal, generator))
        size = masked_mean(values.detach().abs(), learning).clamp(min=1e-6)
        climbing = self.alpha / size * masked_mean(values, learning)
        return {
            "q": masked_mean(errors.square().sum(dim=0), td_mask(batch.valid, batch.terminals)),
            "policy": masked_mean(error(output, recorded, legal), learning.unsqueeze(-1)) - climbing,
        }

    def _values(self, critic: Ensemble | LocalCritics, obs: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """Twin values of encoded actions, (2, B, T), or (2, N, B, T) where agents have their own."""
        if isinstance(critic, LocalCritics):
            return critic(obs, actions).movedim(-1, 1)  # type: ignore[no-any-return]
        return critic(obs, state, actions)  # type: ignore[no-any-return]

    def _recorded_values(self, batch: TeamBatch) -> Tensor:
        actions = encode_actions(batch.actions[:, :-1], self.action_dim, self.discrete)
        return self._values(self.critic, batch.obs[:, :-1], batch.state[:, :-1], actions)

    @torch.no_grad()
    def _targets(self, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """TD(λ) targets of the target networks, (B, T-1), or (N, B, T-1) where agents have their own."""
        output = self.target_head(batch.obs)
        if not self.discrete and self.target_noise > 0:
            noise = torch.randn(output.shape, generator=generator, device=output.device, dtype=output.dtype)
            output = output + (self.target_noise * noise).clamp(-self.target_noise_bound, self.target_noise_bound)
        actions = decode_actions(output, batch.legal_actions, self.discrete)
        actions = encode_actions(actions, self.action_dim, self.discrete)
        values = self._values(self.target_critic, batch.obs, batch.state, actions).amin(dim=0)
        return lambda_returns(batch.rewards, batch.terminals, batch.valid, values, self.discount, self.trace_decay)

    def _own_actions(self, output: Tensor, legal: Tensor, generator: torch.Generator) -> Tensor:
        """The actors' encoded actions, with gradients."""
        if not self.discrete:
            return output.masked_fill(~legal, 0.0)
        return 2 * straight_through_choice(output, legal, self.gumbel_temperature, generator) - 1

    def _policy_values(self, batch: TeamBatch, own: Tensor) -> Tensor:
        """Q_1 of each agent's own action (B, T-1, N, A), (N, B, T-1); gradients reach the actions only."""
        obs, state = batch.obs[:, :-1], batch.state[:, :-1]
        with frozen(self.critic):
            if isinstance(self.critic, LocalCritics):
                return self.critic.first(obs, own).movedim(-1, 0)  # type: ignore[no-any-return]
            first = cast(JointActionValue, self.critic.members[0])
            recorded = encode_actions(batch.actions[:, :-1], self.action_dim, self.discrete)
            others = recorded if self.others == "recorded" else own.detach()
            return first.of_features(first.features(obs, state), state, with_one_replaced(own, others))

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done, of what the actors would do, of the targets, and the cloning error."""
        generator = torch.Generator(batch.obs.device).manual_seed(0)
        learning, legal, usable = (
            batch.valid[:, :-1],
            batch.legal_actions[:, :-1],
            td_mask(batch.valid, batch.terminals),
        )
        output = self.head(batch.obs[:, :-1])
        error = choice_cloning_error if self.discrete else squared_cloning_error
        own = encode_actions(decode_actions(output, legal, self.discrete), self.action_dim, self.discrete)
        return {
            "q_mean": masked_mean(self._recorded_values(batch)[0], usable),
            "q_policy_mean": masked_mean(self._policy_values(batch, own), learning),
            "target_mean": masked_mean(self._targets(batch, generator), usable),
            "cloning_error": masked_mean(error(output, batch.actions[:, :-1], legal), learning.unsqueeze(-1)),
        }
