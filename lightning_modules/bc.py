"""Behaviour cloning: maximum likelihood of the recorded actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, parameter_group
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.encoders import EncoderKind
from lightning_modules.networks.policies import ActionHead, HeadPolicy, sampled_and_mode


class BC(OfflineModule):
    """Clones the behaviour: L = -E log π(a_i | o_i), categorical for choices, Gaussian with tanh mean otherwise.

    Differences from OG-MARL's baseline (https://github.com/instadeepai/og-marl): memory is an option (``encoder``),
    illegal actions are masked in training too, and continuous actions have a learned deviation (there: squared error).

    Args:
        n_agents: Number of agents N; linked from the data.
        obs_dim: Observation size O; linked from the data.
        state_dim: Global state size S; linked from the data.
        action_dim: Number of actions, or size of the action vector A; linked from the data.
        discrete: Whether actions are choices; linked from the data.
        hidden_dims: Widths of the hidden blocks.
        learning_rate: Adam's step size.
        steps_per_update: Recorded joint steps of an update, drawn from the batch; null takes all of them.
        standardise: Whether networks see observations with mean 0 and standard deviation 1 in each entry.
        encoder: Whether agents act on the present observation (``mlp``) or remember (``gru``).
        memory_dim: Size of the memory.
    """

    def __init__(
        self,
        n_agents: int,
        obs_dim: int,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 3e-4,
        steps_per_update: int | None = 256,
        standardise: bool = False,
        encoder: EncoderKind = "mlp",
        memory_dim: int = 64,
    ) -> None:
        super().__init__(n_agents, obs_dim, state_dim, action_dim, discrete, standardise, encoder, memory_dim)
        self.save_hyperparameters()
        self.learning_rate, self.steps_per_update = learning_rate, steps_per_update
        self.head = ActionHead(self.shape, hidden_dims)

    @property
    def policy(self) -> HeadPolicy:
        """Samples the cloned behaviour."""
        return HeadPolicy(self.head)

    def evaluation_policies(self) -> Mapping[str, HeadPolicy]:
        """Sampled, and the most likely action."""
        return sampled_and_mode(self.head)

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """The head."""
        return (parameter_group(self.learning_rate, self.head),)

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Negative log-likelihood over steps and agents."""
        steps = joint_steps(batch, self.steps_per_update, generator)
        logs = self.head.log_prob(steps.features(self.head.encoder), steps.actions, steps.legal_actions)
        return {"policy": -logs.mean()}
