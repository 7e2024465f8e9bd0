"""From the team's advantage to each agent's share in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.base import TargetPair
from lightning_modules.joint_steps import JointSteps
from lightning_modules.losses.masking import masked_mean
from lightning_modules.networks.actions import mask_illegal
from lightning_modules.networks.critics import LocalActionValue, LocalValue
from lightning_modules.networks.policies import ActionHead, HeadPolicy
from lightning_modules.networks.targets import target_copy
from lightning_modules.networks.team_shape import TeamShape


class LocalCredit(nn.Module):
    """What an agent's own action says about the global advantage A, given only its own observation.

    b(o_i) regresses A, g(o_i, a_i) regresses what b leaves, and β(a_i | o_i) clones the behaviour:

        L = E (b - A)² + E (g - (A - sg b))² - E log β,     credit h(o_i, a_i) = g(o_i, a_i) - Σ_a β(a | o_i) g(o_i, a).

    A label made from A asks agent i to answer for the luck and the skill of all others; h averages them out, and as a
    function of (o_i, a_i) it leaves no noise that guidance could amplify. Two details carry this. Subtracting the mean
    over β makes the credits of a state cancel: whatever g believes about the state itself drops out, and an action
    that everybody takes there is never called bad. And g starts at 0, so that an action which the data hardly knows
    is called average.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
        target_rate: Rate of the averaged copies that answer.
        n_samples: For continuous actions, draws from β that stand for the sum over actions.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int], target_rate: float, n_samples: int = 16) -> None:
        super().__init__()
        self.discrete, self.target_rate, self.n_samples = shape.discrete, target_rate, n_samples
        self.baseline = LocalValue(shape, hidden_dims, with_actions=False)
        self.action_value, self.behaviour = LocalActionValue(shape, hidden_dims), ActionHead(shape, hidden_dims)
        self.target_baseline, self.target_action_value = target_copy(self.baseline), target_copy(self.action_value)

    def losses(self, steps: JointSteps, advantages: Tensor) -> dict[str, Tensor]:
        """Scalar losses ``credit_baseline``, ``credit`` and ``credit_behaviour``; each moves only its own network.

        Args:
            steps: Recorded joint steps, M of them.
            advantages: Global advantages in units of their standard deviation, (M,).
        """
        baseline = self.baseline.of_features(steps.features(self.baseline.encoder))  # (M, N)
        team = advantages.unsqueeze(-1).expand_as(baseline)  # all agents regress the same number
        rest = team - baseline.detach()
        free = self.free_agents(steps)
        likelihood = self.behaviour.log_prob(steps.features(self.behaviour.encoder), steps.actions, steps.legal_actions)
        value = self._of_action(self.action_value, steps)
        return {
            "credit_baseline": masked_mean((baseline - team).square(), free),
            "credit": masked_mean((value - rest).square(), free),
            "credit_behaviour": masked_mean(-likelihood, free),
        }

    @torch.no_grad()
    def credits(self, steps: JointSteps, generator: torch.Generator | None = None) -> Tensor:
        """Credit h of each agent's recorded action, (M, N), from the averaged copies."""
        return self._of_action(self.target_action_value, steps) - self._mean_over_behaviour(steps, generator)

    @torch.no_grad()
    def held_out_error(self, steps: JointSteps, advantages: Tensor) -> Tensor:
        """Mean of (b + g - A)² with the averaged copies, scalar; advantages (M,) as in ``losses``."""
        baseline = self.target_baseline.of_features(steps.features(self.target_baseline.encoder))
        answer = baseline + self._of_action(self.target_action_value, steps)
        return masked_mean((answer - advantages.unsqueeze(-1)).square(), self.free_agents(steps))

    def free_agents(self, steps: JointSteps) -> Tensor:
        """Agents that had a choice, (M, N) bool: a dead unit's only action earns nothing."""
        if not self.discrete:
            return torch.ones(steps.obs.shape[:-1], dtype=torch.bool, device=steps.obs.device)
        return steps.legal_actions.sum(dim=-1) > 1

    def target_pairs(self) -> Sequence[TargetPair]:
        """The averaged copies."""
        return (
            TargetPair(self.baseline, self.target_baseline, self.target_rate),
            TargetPair(self.action_value, self.target_action_value, self.target_rate),
        )

    @staticmethod
    def _of_action(network: LocalActionValue, steps: JointSteps) -> Tensor:
        """The network's answer for the recorded actions, (M, N)."""
        return network.of_features(steps.features(network.encoder), steps.actions)

    def _mean_over_behaviour(self, steps: JointSteps, generator: torch.Generator | None) -> Tensor:
        """Σ_a β(a | o_i) g(o_i, a), (M, N)."""
        value, features = self.target_action_value, steps.features(self.target_action_value.encoder)
        behaved = steps.features(self.behaviour.encoder)
        if self.discrete:
            chances = mask_illegal(self.behaviour.of_features(behaved), steps.legal_actions).softmax(dim=-1)
            return (chances * value.all_of_features(features)).sum(dim=-1)
        policy = HeadPolicy(self.behaviour)
        draws = [policy.choose(behaved, steps.legal_actions, generator) for _ in range(self.n_samples)]
        return torch.stack([value.of_features(features, draw) for draw in draws]).mean(dim=0)
