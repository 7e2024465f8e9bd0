"""Algorithms in stages: pretrain a global critic, label the data with its advantages, then clone conditionally.

VGM2P, CFGRL and weighted cloning (AWR) differ only in how the policy's stage uses the advantages, so that a comparison
between them holds the critic fixed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, require, require_targets
from lightning_modules.global_critic import AdvantageEstimate, ExpectileCritic, GlobalCritic, OmigaCritic, ValueCritic
from lightning_modules.joint_steps import JointSteps, joint_steps
from lightning_modules.local_credit import LocalCredit
from lightning_modules.losses.advantage import generalised_advantages
from lightning_modules.losses.masking import masked_mean
from lightning_modules.losses.temporal_difference import td_mask
from lightning_modules.networks.critics import MixerKind
from lightning_modules.networks.encoders import EncoderKind

CreditKind = Literal["local", "joint"]


class Stage(IntEnum):
    """What is being trained: the global critic, the agents' shares in its advantage (if used), or the policy."""

    CRITIC = 0
    CREDIT = 1
    POLICY = 2


class AdvantageModule(OfflineModule):
    """Trains a global critic first, then a policy from the advantages of recorded joint actions.

    ``callbacks.StageSwitch`` ends a stage after its number of updates; the policy's lasts until ``trainer.max_steps``.

    Args:
        n_agents: Number of agents N; linked from the data.
        obs_dim: Observation size O; linked from the data.
        state_dim: Global state size S; linked from the data.
        action_dim: Number of actions, or size of the action vector A; linked from the data.
        discrete: Whether actions are choices; linked from the data.
        credit: ``local``: each agent's own share in the global advantage (``LocalCredit``), found in a stage of its
            own. ``joint``: the global advantage stands for every agent.
        credit_updates: Updates of that stage; it comes between the critic's and the policy's.
        credit_hidden_dims: Widths of its networks' hidden blocks.
        critic_updates: Updates of the critic before anything else.
        critic: ``value``: V(s) alone. ``expectile``: an ensemble of Q(s, a) and an expectile V (Kostrikov et al.,
            arXiv:2110.06169). ``omiga``: local Q and V under a non-negative linear mixer (Wang et al.,
            arXiv:2307.11620).
        mixer: Form of the expectile critic's Q: ``centralised``, ``vdn``, ``qmix`` or ``qtran``; the other critics have
            no choice.
        n_critics: Members of the expectile critic's ensemble; the smallest answer counts.
        discount: Weight of the next step's value, in [0, 1].
        expectile: Expectile of the state value, in (0, 1): .5 values the behaviour as it is, larger values its best.
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window (``data.window``).
        omiga_temperature: OMIGA's α: small approaches the best recorded action, large the average.
        advantage_estimate: ``return``: recorded return minus V(s). ``q``: Q(s, a) - V(s), for critics that have a Q.
        advantage_trace_decay: λ in [0, 1] of ``return``. 0: r + γ V(s') - V(s), what this action changed. 1: all that
            followed in the episode counts, which tells good teams from bad ones.
        critic_hidden_dims: Widths of the critic's hidden blocks.
        critic_learning_rate: Adam's step size for the critic.
        critic_target_rate: Rate in (0, 1] at which the target critic follows; the target critic labels the data.
        steps_per_update: Recorded joint steps of a policy update, drawn from the batch; null takes all of them. A
            policy update costs several times a critic update, so that the critic can use larger batches.
        standardise: Whether networks see observations and states with mean 0 and standard deviation 1 in each entry.
        encoder: Whether critic, credit and policy see the present (``mlp``) or remember (``gru``); the critic of the
            state remembers states. Sequences are as long as ``data.window``.
        memory_dim: Size of the memory.

    Raises:
        ValueError: If a number is outside its range, or ``q`` is asked of a critic without a Q.
    """

    advantage_std: Tensor
    signal_mean: Tensor
    signal_std: Tensor

    def __init__(
        self,
        n_agents: int,
        obs_dim: int,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        credit: CreditKind,
        credit_updates: int = 1500,
        credit_hidden_dims: Sequence[int] = (128, 128),
        critic_updates: int = 3000,
        critic: Literal["value", "expectile", "omiga"] = "value",
        mixer: MixerKind = "centralised",
        n_critics: int = 2,
        discount: float = 0.99,
        expectile: float = 0.5,
        trace_decay: float = 0.9,
        omiga_temperature: float = 10.0,
        advantage_estimate: AdvantageEstimate = "return",
        advantage_trace_decay: float = 0.0,
        critic_hidden_dims: Sequence[int] = (192, 192, 192),
        critic_learning_rate: float = 5e-4,
        critic_target_rate: float = 0.01,
        steps_per_update: int | None = 256,
        standardise: bool = False,
        encoder: EncoderKind = "mlp",
        memory_dim: int = 64,
    ) -> None:
        super().__init__(n_agents, obs_dim, state_dim, action_dim, discrete, standardise, encoder, memory_dim)
        require(critic_updates >= 1, "critic_updates", "at least 1", critic_updates)
        require(credit_updates >= 1, "credit_updates", "at least 1", credit_updates)
        require_targets(discount, trace_decay, critic_target_rate=critic_target_rate)
        require(0 < expectile < 1, "expectile", "in (0, 1)", expectile)
        require(omiga_temperature > 0, "omiga_temperature", "above 0", omiga_temperature)
        require(n_critics >= 1, "n_critics", "at least 1", n_critics)
        require(steps_per_update is None or steps_per_update >= 1, "steps_per_update", "at least 1", steps_per_update)
        require(0 <= advantage_trace_decay <= 1, "advantage_trace_decay", "in [0, 1]", advantage_trace_decay)
        no_q = critic == "value" and advantage_estimate == "q"
        require(not no_q, "advantage_estimate", "'return' with critic 'value', which has no Q", advantage_estimate)
        self.critic_updates, self.credit_updates = critic_updates, credit_updates
        self.critic_learning_rate = critic_learning_rate
        self.advantage_estimate: AdvantageEstimate = advantage_estimate
        self.advantage_trace_decay = advantage_trace_decay
        self.steps_per_update = steps_per_update
        self.stage = Stage.CRITIC
        self.register_buffer("advantage_std", torch.ones(()))
        # Mean and deviation over the dataset of what the policy learns from: advantages or credits.
        self.register_buffer("signal_mean", torch.zeros(()))
        self.register_buffer("signal_std", torch.ones(()))
        returns = (discount, trace_decay, critic_target_rate)
        self.global_critic: GlobalCritic
        if critic == "value":
            self.global_critic = ValueCritic(self.shape, critic_hidden_dims, expectile, *returns)
        elif critic == "expectile":
            ensemble = (mixer, n_critics, expectile)
            self.global_critic = ExpectileCritic(self.shape, critic_hidden_dims, *ensemble, *returns)
        else:
            self.global_critic = OmigaCritic(self.shape, critic_hidden_dims, omiga_temperature, *returns)

        local = credit == "local"
        self.local_credit = LocalCredit(self.shape, credit_hidden_dims, critic_target_rate) if local else None

    @abstractmethod
    def policy_losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of the policy's stage; ``batch.advantages`` is filled."""

    @abstractmethod
    def policy_groups(self) -> Sequence[dict[str, Any]]:
        """Adam's parameter groups of the policy's stage."""

    def policy_pairs(self) -> Sequence[TargetPair]:
        """Lagged copies of the policy's stage."""
        return ()

    @property
    def stage_end(self) -> int | None:
        """Number of updates after which the current stage ends; None for the policy's."""
        ends = {Stage.CRITIC: self.critic_updates, Stage.CREDIT: self.critic_updates + self.credit_updates}
        return ends.get(self.stage)

    @property
    def updates_before_policy(self) -> int:
        """Updates of all stages before the policy's."""
        return self.critic_updates + (0 if self.local_credit is None else self.credit_updates)

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of the current stage."""
        if self.stage == Stage.CRITIC:
            return self.global_critic.losses(batch)
        if self.stage == Stage.CREDIT and self.local_credit is not None:
            steps = joint_steps(batch, self.steps_per_update, generator)
            return self.local_credit.losses(steps, steps.advantages / self.advantage_std)
        return self.policy_losses(batch, generator)

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Critic, credit and policy; networks of other stages have no gradients and stay as they are."""
        learned = [*self.global_critic.parameters()]
        if self.local_credit is not None:
            learned += self.local_credit.parameters()
        critic = {"params": [p for p in learned if p.requires_grad], "lr": self.critic_learning_rate}
        return [critic, *self.policy_groups()]

    def target_pairs(self) -> Sequence[TargetPair]:
        """Lagged copies of the networks that the current stage trains."""
        if self.stage == Stage.CRITIC:
            return self.global_critic.target_pairs()
        if self.stage == Stage.CREDIT and self.local_credit is not None:
            return self.local_credit.target_pairs()
        return self.policy_pairs()

    def advantages(self, batch: TeamBatch) -> Tensor:
        """One-step global advantages of the windows' learning steps, (B, T-1)."""
        return self.global_critic.advantages(batch, self.advantage_estimate)

    def accumulate(self, one_step: Tensor, ends: Tensor) -> Tensor:
        """The advantages that label the data, from those of single steps in the order of the recording.

        Args:
            one_step: ``advantages`` of all recorded steps, (L,).
            ends: Last steps of episodes, (L,) bool.

        Returns:
            (L,); see ``advantage_trace_decay``.
        """
        if self.advantage_estimate == "q" or self.advantage_trace_decay == 0:
            return one_step
        return generalised_advantages(one_step, ends, self.global_critic.discount * self.advantage_trace_decay)

    def credits(self, batch: TeamBatch) -> tuple[Tensor, Tensor]:
        """Credits of a batch's learning steps and which agents had a choice, (M, N) each; see ``LocalCredit``."""
        assert self.local_credit is not None, "asked in the credit's stage only"
        steps = joint_steps(batch)
        generator = torch.Generator(self.device).manual_seed(0)  # the same credits whenever they are asked for
        return self.local_credit.credits(steps, generator), self.local_credit.free_agents(steps)

    def signal(self, steps: JointSteps) -> Tensor:
        """What the policy learns from: credits, or the global advantage for every agent, (M, N)."""
        if self.local_credit is not None:
            return steps.credits
        return steps.advantages.unsqueeze(-1).expand(steps.obs.shape[:-1])

    def finish_critic(self, advantages: Tensor) -> None:
        """Ends the critic's stage.

        Args:
            advantages: Global advantages of all recorded steps, (L,).
        """
        self.advantage_std.copy_(advantages.std().clamp_min(1e-8))
        if self.local_credit is None:
            self.start_policy(advantages)
        else:
            self.stage = Stage.CREDIT

    def start_policy(self, signal: Tensor) -> None:
        """Begins the policy's stage, after the credit's or, without one, after the critic's.

        Args:
            signal: What labels or weights are made from, over the whole dataset, (K,): advantages of all recorded
                steps, or credits of all agents that had a choice.
        """
        self.signal_mean.copy_(signal.mean())
        self.signal_std.copy_(signal.std().clamp_min(1e-8))
        self.stage = Stage.POLICY

    def held_out_error(self, batch: TeamBatch) -> Tensor | None:
        """What the current stage should predict well on episodes that it was not trained on; None for the policy's.

        Critic: squared difference between the target critic's V(s) and the recorded return up to the window's end, from
        there on V again (λ = 1: less of the critic's own opinion than in its training targets). Credit: squared
        error of predicting the global advantage, in units of its variance.

        Returns:
            Scalar; ``callbacks.StageSwitch`` keeps the weights where it is smallest.
        """
        if self.stage == Stage.CREDIT and self.local_credit is not None:
            steps = joint_steps(batch)
            return self.local_credit.held_out_error(steps, steps.advantages / self.advantage_std)
        if self.stage != Stage.CRITIC:
            return None
        with torch.no_grad():
            error = self.global_critic.targets(batch, trace_decay=1.0) - self.global_critic.state_values(batch)[:, :-1]
            return masked_mean(error.square(), td_mask(batch.valid, batch.terminals))

    def trained_in_stage(self) -> nn.Module | None:
        """The networks, lagged copies included, that the current stage trains and that are kept where best."""
        return {Stage.CRITIC: self.global_critic, Stage.CREDIT: self.local_credit}.get(self.stage)

    def get_extra_state(self) -> Tensor:
        """The stage travels with the weights: a plain int would not be saved, a buffer would cost a device sync."""
        return torch.tensor(int(self.stage))

    def set_extra_state(self, state: Any) -> None:
        """Restores the stage from a checkpoint."""
        self.stage = Stage(int(state))

    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Means of the critic's answers on a batch; see the README's table of metrics."""
        if self.stage != Stage.CRITIC:
            return {}
        usable = td_mask(batch.valid, batch.terminals)
        with torch.no_grad():
            values = self.global_critic.state_values(batch)[:, :-1]
            targets = self.global_critic.targets(batch)
        advantages = self.advantages(batch)
        return {
            "v_mean": masked_mean(values, usable),
            "q_mean": masked_mean(self.global_critic.action_values(batch), usable),
            "target_mean": masked_mean(targets, usable),
            "advantage_mean": masked_mean(advantages, usable),
            "advantage_square": masked_mean(advantages.square(), usable),
            "positive_share": masked_mean((advantages > 0).float(), usable),
        }
