"""Advantage-weighted regression with one global critic: cloning that counts good joint actions more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.advantage_module import AdvantageModule, CreditKind
from lightning_modules.base import parameter_group, require
from lightning_modules.joint_steps import joint_steps
from lightning_modules.losses.advantage import exponential_weights
from lightning_modules.networks.policies import ActionHead, HeadPolicy, sampled_and_mode


class AWR(AdvantageModule):
    """Weighted cloning: L = -E min(exp(β A / std A), m) log π(a_i | o_i), A the global advantage, shared by all agents.

    Peng et al., arXiv:1910.00177. Differences from the original (https://github.com/xbpeng/awr): the advantage comes
    from the in-sample critic that VGM2P uses, not from returns, so that the two differ in stage two only.

    Args:
        credit: ``joint``: all agents of a step share the weight of the global advantage. ``local``: each agent's weight
            comes from its own share in it, as in VGM2P.
        inverse_temperature: β >= 0; 0 is plain cloning, large values clone only the best.
        maximum_weight: m, above which a weight is cut.
        hidden_dims: Widths of the policy's hidden blocks.
        learning_rate: Adam's step size for the policy.
        **critic_options: Dimensions and critic of ``AdvantageModule``; all are options of this class too.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        credit: CreditKind = "joint",
        inverse_temperature: float = 3.0,
        maximum_weight: float = 100.0,
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 3e-4,
        **critic_options: Any,
    ) -> None:
        super().__init__(credit=credit, **critic_options)
        self.save_hyperparameters()
        require(inverse_temperature >= 0, "inverse_temperature", "at least 0", inverse_temperature)
        require(maximum_weight > 0, "maximum_weight", "above 0", maximum_weight)
        self.inverse_temperature, self.maximum_weight = inverse_temperature, maximum_weight
        self.learning_rate = learning_rate
        self.head = ActionHead(self.shape, hidden_dims)

    @property
    def policy(self) -> HeadPolicy:
        """Samples the weighted clone."""
        return HeadPolicy(self.head)

    def evaluation_policies(self) -> Mapping[str, HeadPolicy]:
        """Sampled, and the most likely action."""
        return sampled_and_mode(self.head)

    def policy_groups(self) -> Sequence[dict[str, Any]]:
        """The head."""
        return (parameter_group(self.learning_rate, self.head),)

    def policy_losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted negative log-likelihood over steps and agents."""
        steps = joint_steps(batch, self.steps_per_update, generator)
        logs = self.head.log_prob(steps.features(self.head.encoder), steps.actions, steps.legal_actions)  # (M, N)
        scaled = self.signal(steps) / self.signal_std
        weights = exponential_weights(scaled, 1 / max(self.inverse_temperature, 1e-8), self.maximum_weight)
        return {"policy": -(weights * logs).mean()}
