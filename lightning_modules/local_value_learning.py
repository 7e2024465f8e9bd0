"""Values of each agent's own action, which one-step generative actors climb: what those algorithms share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.batch import TeamBatch
from lightning_modules.base import TargetPair, require_targets
from lightning_modules.joint_steps import JointSteps
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import lambda_returns, td_mask
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.critics import LocalValue
from lightning_modules.networks.local_critics import LocalCritics
from lightning_modules.networks.one_step import counted_entries
from lightning_modules.networks.one_step_policies import GenerativeActor, OneStepPolicy
from lightning_modules.networks.targets import frozen, target_copy
from lightning_modules.networks.team_shape import TeamShape

Aggregate = Literal["mean", "min"]
TeamValue = Literal["alone", "additive"]
DiscreteQ = Literal["straight_through", "expected", "original"]


class LocalValueLearning(nn.Module):
    """Twin values Q_k(o_i, a_i) that look ahead with the actions of a one-step actor.

        alone       L = ½ Σ_k E mean_i (Q_k(o_i, a_i) - G_i)²,   G_i from agg_k Q̄_k(o'_i, a'_i)
        additive    L = ½ Σ_k E (mean_i Q_k(o_i, a_i) - G)²,     G from mean_i agg_k Q̄_k(o'_i, a'_i)

    with a'_i of the actor as it is now (FQL, Park et al., arXiv:2502.02538) and TD(λ) targets G of the team's reward.
    A mean over agents and their sum have the same minimiser: the sum's values are N times these.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the values' hidden blocks.
        team: ``alone``: every agent learns from the team's reward for itself. ``additive``: the agents' values add up
            to the team's (VDN, Sunehag et al., arXiv:1706.05296).
        aggregate: agg of the two lagged values in a target: their ``mean``, or the smaller one (``min``).
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets along a window; 0 looks one step ahead.
        target_rate: Rate in (0, 1] of the target networks.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        shape: TeamShape,
        hidden_dims: Sequence[int],
        team: TeamValue,
        aggregate: Aggregate,
        discount: float,
        trace_decay: float,
        target_rate: float,
    ) -> None:
        super().__init__()
        require_targets(discount, trace_decay, target_rate=target_rate)
        self.action_dim, self.discrete = shape.action_dim, shape.discrete
        self.team: TeamValue = team
        self.aggregate: Aggregate = aggregate
        self.discount, self.trace_decay, self.target_rate = discount, trace_decay, target_rate
        self.critic = LocalCritics(shape, hidden_dims)
        self.target_critic = target_copy(self.critic)

    def td_loss(self, batch: TeamBatch, actor: GenerativeActor, generator: torch.Generator) -> Tensor:
        """L of the class, a scalar; it moves the critics only."""
        errors = self.recorded_values(batch) - self.targets(batch, actor, generator)
        return masked_mean(errors.square().sum(dim=0), td_mask(batch.valid, batch.terminals)) / 2

    def recorded_values(self, batch: TeamBatch) -> Tensor:
        """Q_k of recorded actions at positions 0..T-2: (2, N, B, T-1), or the team's (2, B, T-1)."""
        actions = self._encoded(batch.actions[:, :-1], batch.legal_actions[:, :-1])
        return self._of_team(self.critic(batch.obs[:, :-1], actions))

    @torch.no_grad()
    def targets(self, batch: TeamBatch, actor: GenerativeActor, generator: torch.Generator) -> Tensor:
        """TD(λ) targets of positions 0..T-2: (N, B, T-1), or the team's (B, T-1)."""
        chosen = OneStepPolicy(actor).choose(actor.encoder(batch.obs), batch.legal_actions, generator)
        twins = self.target_critic(batch.obs, self._encoded(chosen, batch.legal_actions))  # (2, B, T, N)
        values = self._of_team(twins.amin(dim=0) if self.aggregate == "min" else twins.mean(dim=0))
        return lambda_returns(batch.rewards, batch.terminals, batch.valid, values, self.discount, self.trace_decay)

    def features(self, steps: JointSteps) -> tuple[Tensor, ...]:
        """What each critic knows at M steps, (M, N, F), detached: actors that climb the critics do not move them."""
        with torch.no_grad():
            return tuple(steps.features(cast(LocalValue, member).encoder) for member in self.critic.members)

    def of_vectors(self, features: Sequence[Tensor], vectors: Tensor) -> Tensor:
        """Mean of both values of encoded actions (…, M, N, A) at M steps, (…, M, N).

        Gradients reach the actions only.
        """
        with frozen(self.critic):
            values: Tensor = self.critic.of_features(features, vectors)
        return values.mean(dim=0)

    def of_choices(self, features: Sequence[Tensor], chances: Tensor, how: DiscreteQ) -> Tensor:
        """Values of choices at M steps, in a form that can, or cannot, be differentiated by their chances.

            straight_through    Q(o, y), y = the likeliest choice; its gradient is taken as that of the chances
            expected            Σ_a p_a Q(o, a), exact, at the cost of A times as many values
            original            Q(o, y): no gradient, so that a loss made of it teaches nothing (MAC-Flow's release)

        Args:
            features: From ``features``.
            chances: p, (M, N, A); 0 where illegal.
            how: One of the above.

        Returns:
            (M, N); gradients reach ``chances`` only.
        """
        size = chances.shape[-1]
        if how == "expected":
            every = 2 * torch.eye(size, device=chances.device, dtype=chances.dtype) - 1
            with torch.no_grad():
                values = self.of_vectors(features, every[:, None, None].expand(size, *chances.shape))
            return (chances * values.movedim(0, -1)).sum(dim=-1)
        choice = functional.one_hot(chances.argmax(dim=-1), size).to(chances.dtype)
        if how == "straight_through":
            choice = choice + (chances - chances.detach())
        return self.of_vectors(features, 2 * choice - 1)

    def climbing_loss(self, steps: JointSteps, own: Tensor, how: DiscreteQ, normalise: bool) -> Tensor:
        """-mean Q, or -mean Q / sg[mean |Q|]: what an actor that maximises values minimises; a scalar.

        Args:
            steps: M recorded steps.
            own: What the actor does there, (M, N, A): actions, which are clipped here, or chances of choices.
            how: For choices, see ``of_choices``.
            normalise: Whether the unit of rewards is to make no difference.
        """
        known = self.features(steps)
        values = self.of_choices(known, own, how) if self.discrete else self.of_vectors(known, own.clamp(-1.0, 1.0))
        scale = values.detach().abs().mean().clamp(min=1e-6) if normalise else 1.0
        return -values.mean() / scale

    @torch.no_grad()
    def diagnostics(self, batch: TeamBatch, actor: GenerativeActor) -> dict[str, Tensor]:
        """Mean values of what was done, of what the actor would do, and of the targets."""
        generator = torch.Generator(batch.obs.device).manual_seed(0)
        usable, obs, legal = td_mask(batch.valid, batch.terminals), batch.obs[:, :-1], batch.legal_actions[:, :-1]
        own = self._encoded(OneStepPolicy(actor).choose(actor.encoder(obs), legal, generator), legal)
        return {
            "q_mean": masked_mean(self.recorded_values(batch), usable),
            "q_policy_mean": masked_mean(self._of_team(self.critic(obs, own)), usable),
            "target_mean": masked_mean(self.targets(batch, actor, generator), usable),
        }

    def target_pairs(self) -> Sequence[TargetPair]:
        """The critics."""
        return (TargetPair(self.critic, self.target_critic, self.target_rate),)

    def _encoded(self, actions: Tensor, legal_actions: Tensor) -> Tensor:
        vectors = encode_actions(actions, self.action_dim, self.discrete)
        return vectors.masked_fill(~counted_entries(legal_actions, self.discrete), 0.0)

    def _of_team(self, values: Tensor) -> Tensor:
        """Values (…, B, T, N) of agents as what learns: (…, N, B, T), or the team's (…, B, T)."""
        return values.movedim(-1, -3) if self.team == "alone" else values.mean(dim=-1)
