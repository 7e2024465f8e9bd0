"""Deterministic actors under one critic of the joint action: what algorithms with continuous actions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from datamodules.batch import TeamBatch
from lightning_modules.base import TargetPair
from lightning_modules.joint_steps import JointSteps
from lightning_modules.losses.conservative import normal_log_density, uniform_log_density
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import lambda_returns, td_mask
from lightning_modules.networks.actions import with_one_replaced
from lightning_modules.networks.critics import Ensemble, JointActionValue
from lightning_modules.networks.policies import ActionHead
from lightning_modules.networks.targets import frozen, target_copy
from lightning_modules.networks.team_shape import TeamShape

OtherActions = Literal["recorded", "policies"]


class Proposals(NamedTuple):
    """Actions that a critic is asked about, though nobody recorded them.

    Attributes:
        actions: P of them for every agent at M steps, (P, M, N, A).
        log_density: How likely each was to be drawn, (P, M, N).
    """

    actions: Tensor
    log_density: Tensor


class ActorCritic(nn.Module):
    """Multi-agent deterministic policy gradients with twin critics, without the environment.

        L_Q = ½ Σ_k E (Q_k(s, a) - G^λ)²,   G^λ from V(s') = min_k Q̄_k(s', π̄(o') + noise)
        L_π = -E mean_i Q_1(s, a_{-i}, π_i(o_i)) + c mean π²

    (MADDPG, Lowe et al., arXiv:1706.02275; twin critics of TD3, Fujimoto et al., arXiv:1802.09477.)

    Args:
        shape: The team's sizes and memory; actions are continuous.
        hidden_dims: Widths of hidden blocks.
        discount: γ.
        trace_decay: λ of the targets along a window; 0 looks one step ahead.
        target_rate: Rate of the target networks.
        target_noise: Standard deviation of the noise in the targets' actions.
        others: a_{-i} of the actors' loss: what the others did (``recorded``), or would do now (``policies``; their
            actions are held fixed, so that the sum over agents is the gradient of Q_1 along the joint policy).
        action_penalty: c.
    """

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        discount: float,
        trace_decay: float,
        target_rate: float,
        target_noise: float = 0.0,
        others: OtherActions = "recorded",
        action_penalty: float = 1e-3,
    ) -> None:
        super().__init__()
        assert not shape.discrete, "deterministic actors have continuous actions"
        self.discount, self.trace_decay, self.target_rate = discount, trace_decay, target_rate
        self.target_noise, self.action_penalty = target_noise, action_penalty
        self.others: OtherActions = others
        self.actor = ActionHead(shape, hidden_dims)
        self.actor.log_std.requires_grad_(False)  # actors are deterministic
        self.critic = Ensemble([JointActionValue(shape, hidden_dims) for _ in range(2)])
        self.target_actor, self.target_critic = target_copy(self.actor), target_copy(self.critic)

    @property
    def members(self) -> tuple[JointActionValue, ...]:
        """The two critics."""
        return tuple(cast(JointActionValue, member) for member in self.critic.members)

    def actions(self, batch: TeamBatch) -> Tensor:
        """The actors' actions at all positions, (B, T, N, A); 0 where an entry only pads an action."""
        actions: Tensor = self.actor(batch.obs)
        return actions.masked_fill(~batch.legal_actions, 0.0)

    def targets(self, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """TD(λ) targets of positions 0..T-2, (B, T-1), no gradients."""
        with torch.no_grad():
            actions = self.target_actor(batch.obs)
            if self.target_noise > 0:
                noise = torch.randn(actions.shape, generator=generator, device=actions.device, dtype=actions.dtype)
                actions = (actions + self.target_noise * noise).clamp(-1.0, 1.0)
            actions = actions.masked_fill(~batch.legal_actions, 0.0)
            values = self.target_critic(batch.obs, batch.state, actions).amin(dim=0)
            return lambda_returns(batch.rewards, batch.terminals, batch.valid, values, self.discount, self.trace_decay)

    def td_loss(self, batch: TeamBatch, generator: torch.Generator) -> Tensor:
        """L_Q of the class, a scalar."""
        error = self.recorded_values(batch) - self.targets(batch, generator)  # (K, B, T-1)
        return masked_mean(error.square().sum(dim=0), td_mask(batch.valid, batch.terminals)) / 2

    def recorded_values(self, batch: TeamBatch) -> Tensor:
        """Q_k of recorded joint actions at positions 0..T-2, (K, B, T-1)."""
        values: Tensor = self.critic(batch.obs[:, :-1], batch.state[:, :-1], batch.actions[:, :-1])
        return values

    def actor_loss(self, batch: TeamBatch, actions: Tensor) -> Tensor:
        """L_π of the class for the actors' ``actions``, a scalar; moves no critic."""
        critic, learning = self.members[0], batch.valid[:, :-1]
        obs, state, own = batch.obs[:, :-1], batch.state[:, :-1], actions[:, :-1]
        others = batch.actions[:, :-1] if self.others == "recorded" else own.detach()
        with frozen(critic):
            values = critic.of_features(critic.features(obs, state), state, with_one_replaced(own, others))  # (N, …)
        return -masked_mean(values, learning) + self.action_penalty * masked_mean(own.square().mean((-2, -1)), learning)

    @staticmethod
    def proposals(
        batch: TeamBatch,
        actions: Tensor,
        steps: JointSteps,
        count: int,
        std: float,
        generator: torch.Generator,
    ) -> Proposals:
        """For each step ``count`` even draws, and as many around the actors' actions then and one step later.

        Args:
            batch: Windows.
            actions: The actors' actions at all positions, (B, T, N, A).
            steps: The M steps of the windows that are asked for.
            count: How many of each kind.
            std: Deviation of the draws around the actors' actions, which are then clipped to [-1, 1].
            generator: Source of the draws.

        Returns:
            P = 3 ``count`` proposals; no gradients. Behind an episode's end there are more of the last step.
        """
        here, counts = steps.position, steps.legal_actions
        following = here + batch.valid.flatten()[here + 1].long()
        centres = actions.detach().flatten(0, 1)[torch.stack([here, following])]  # (2, M, N, A)
        device, dtype = centres.device, centres.dtype
        even = 2 * torch.rand(count, *centres.shape[1:], generator=generator, device=device, dtype=dtype) - 1
        noise = torch.randn(count, *centres.shape, generator=generator, device=device, dtype=dtype)
        near = (centres + std * noise).clamp(-1.0, 1.0).flatten(0, 1)
        even_density = uniform_log_density(counts).to(centres.dtype).expand(count, *counts.shape[:-1])
        near_density = normal_log_density(noise, std, counts).flatten(0, 1)
        joined = torch.cat([even, near]).masked_fill(~counts, 0.0)
        return Proposals(joined, torch.cat([even_density, near_density]))

    def values_at(self, batch: TeamBatch, steps: JointSteps, actions: Tensor) -> Tensor:
        """Q_k of any joint actions (…, M, N, A) at M steps of the windows, (K, …, M)."""
        values = []
        for critic in self.members:
            features = critic.features(batch.obs, batch.state).flatten(0, 1)[steps.position]
            values.append(critic.of_features(features, steps.state, actions))
        return torch.stack(values, dim=0)

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean Q_1 of what was done and of what the actors would do, and the mean target."""
        usable, obs, state = td_mask(batch.valid, batch.terminals), batch.obs[:, :-1], batch.state[:, :-1]
        return {
            "q_recorded": masked_mean(self.recorded_values(batch)[0], usable),
            "q_policy": masked_mean(self.members[0](obs, state, self.actions(batch)[:, :-1]), usable),
            "q_target": masked_mean(self.targets(batch, generator), usable),
        }

    def target_pairs(self) -> Sequence[TargetPair]:
        """Actors and critics."""
        pairs = ((self.actor, self.target_actor), (self.critic, self.target_critic))
        return tuple(TargetPair(source, target, self.target_rate) for source, target in pairs)
