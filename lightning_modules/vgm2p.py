"""VGM2P: value guidance for multi-agent MeanFlow policies (Pang et al., arXiv:2604.08174)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.advantage_module import AdvantageModule, CreditKind
from lightning_modules.base import TargetPair, require
from lightning_modules.flows import coupling, guidance, meanflow, path
from lightning_modules.joint_steps import JointSteps, joint_steps
from lightning_modules.losses.advantage import continuous_condition, quantile_labels, sign_labels
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.noise import Noise
from lightning_modules.networks.policies import FlowPolicy
from lightning_modules.networks.targets import target_copy
from lightning_modules.networks.velocity import FlowContext, FlowTrace, VelocityNetwork


class PolicyRows(NamedTuple):
    """One row per recorded step and agent, R rows.

    Attributes:
        context: What the velocity depends on.
        actions: Clean action vectors x, (R, A).
        noise: z at t = 1, (R, A).
        guided: Rows whose target carries guidance, (R,) bool.
        straight: Rows whose noise was paired with their action, (R,) bool.
    """

    context: FlowContext
    actions: Tensor
    noise: Tensor
    guided: Tensor
    straight: Tensor


class VGM2P(AdvantageModule):
    """Decentralised one-step policies by conditional behaviour cloning under value guidance.

    The critic's stage learns a global critic in-sample; its advantage A says how good each recorded joint action was.
    The credit's stage finds each agent's share in it (``LocalCredit``; skipped with ``credit: joint``) and labels every
    recorded action c, good or not. The policy's stage clones all actions with a MeanFlow u(z, r, t | o_i, i, c, w),
    shared by agents:

        L = E | t (u + (t - r) sg[Du] - sg[v_g]) |²,   v_g = v + (1 - 1/w)(u(z, t, t | c, w) - u(z, t, t | ∅))

    with v = noise - action, Du the derivative of u along the flow (Geng et al., arXiv:2505.13447 and the improved
    form of arXiv:2512.02012). Its one-step map x = z - u(z, 0, 1 | c = good, w) samples π(a|o) p(good|o, a)^w
    approximately. There is no Q term in the policy's loss, hence no coefficient to balance cloning against value.

    Deviation: the paper's text about labels is not public beyond "global advantage values"; local credit is ours
    (README, "What decides").

    Differences from published MeanFlow, all measured to matter for actions of 2 to 10 dimensions (README):
    the adaptive loss weight is off, the network predicts the clean action, the error is measured in action space.

    Args:
        credit: Whose label a row carries. ``local``: each agent's own share in the global advantage, labelled per
            agent. ``joint``: the global advantage, one label for all agents.
        label: What the policy is conditioned on. ``quantile``: above the ``label_quantile`` of its kind in the
            dataset. ``sign``: above ``label_threshold`` standard deviations. ``continuous``: the standardised number.
        label_quantile: For ``quantile``, in (0, 1): share called bad. Small is lenient and robust (only what is
            clearly bad counts as bad), large asks for the best only and needs a critic that deserves it.
        label_threshold: For ``sign``; 0 is better than average, below 0 is lenient.
        executed_condition: For ``continuous``: the standardised advantage that is asked for when acting, in (0, 3].
        output: ``endpoint``: the network predicts the clean action, always a valid one. ``velocity``: the velocity.
        objective: ``improved_meanflow`` differentiates along the network's own velocity; ``meanflow`` along the
            target's.
        guidance_placement: ``input``: the scale w is an input, free when acting, one network call. ``train``: one
            fixed scale, built in. ``test``: no guidance in training, two network calls when acting.
        guidance_scale: w with which ``policy`` acts; 1 is plain conditional cloning.
        guidance_maximum: For ``input``: w is drawn log-uniformly from [1, this] in training.
        guidance_mix: For ``train``: share κ in [0, 1) of the conditional prediction in the target; more is less noisy.
        condition_dropout: Share of rows that train the null condition.
        flow_ratio: Share of rows with r < t; the others are plain flow matching.
        one_step_share: Share of those rows that train exactly the step which acting takes, from t = 1 to r = 0.
        time_distribution: Distribution of flow times: ``uniform`` or ``logit_normal``.
        min_time: Smallest t in training; the endpoint output divides by t.
        adaptive_exponent: p of MeanFlow's loss weight 1 / (error + ε)^p; 0 is plain squared error.
        adaptive_epsilon: ε of that weight.
        noise: ``normal`` starts from N(0, I); ``zero`` starts from 0 and acts deterministically.
        shared_noise: Agents of a team use one common noise, paired in training with joint actions, so that they draw
            the same mode without communication.
        sampling_steps: Network calls per decision; 1 is what the method is for.
        hidden_dims: Widths of the policy's hidden blocks.
        learning_rate: Adam's step size for the policy.
        ema_rate: Rate at which the acting copy follows the trained policy.
        **critic_options: Dimensions and critic of ``AdvantageModule``; all are options of this class too.

    Raises:
        ValueError: If a number is outside its range.
    """

    signal_quantile: Tensor
    noise_directions: Tensor

    def __init__(
        self,
        credit: CreditKind = "local",
        label: Literal["quantile", "sign", "continuous"] = "quantile",
        label_quantile: float = 0.2,
        label_threshold: float = 0.0,
        executed_condition: float = 1.5,
        output: Literal["endpoint", "velocity"] = "endpoint",
        objective: Literal["improved_meanflow", "meanflow"] = "improved_meanflow",
        guidance_placement: Literal["input", "train", "test"] = "input",
        guidance_scale: float = 2.0,
        guidance_maximum: float = 8.0,
        guidance_mix: float = 0.5,
        condition_dropout: float = 0.1,
        flow_ratio: float = 0.5,
        one_step_share: float = 0.0,
        time_distribution: Literal["uniform", "logit_normal"] = "uniform",
        min_time: float = 0.05,
        adaptive_exponent: float = 0.0,
        adaptive_epsilon: float = 0.01,
        noise: Noise = "normal",
        shared_noise: bool = False,
        sampling_steps: int = 1,
        hidden_dims: Sequence[int] = (192, 192, 192),
        learning_rate: float = 3e-4,
        ema_rate: float = 0.005,
        **critic_options: Any,
    ) -> None:
        super().__init__(credit=credit, **critic_options)
        self.save_hyperparameters()
        require(0 < label_quantile < 1, "label_quantile", "in (0, 1)", label_quantile)
        require(guidance_scale >= 0, "guidance_scale", "at least 0", guidance_scale)
        require(guidance_maximum >= 1, "guidance_maximum", "at least 1", guidance_maximum)
        require(0 <= guidance_mix < 1, "guidance_mix", "in [0, 1)", guidance_mix)
        require(0 <= condition_dropout < 1, "condition_dropout", "in [0, 1)", condition_dropout)
        require(0 <= flow_ratio <= 1, "flow_ratio", "in [0, 1]", flow_ratio)
        require(0 <= one_step_share <= 1, "one_step_share", "in [0, 1]", one_step_share)
        require(0 < min_time < 1, "min_time", "in (0, 1)", min_time)
        require(sampling_steps >= 1, "sampling_steps", "at least 1", sampling_steps)
        require(0 < ema_rate <= 1, "ema_rate", "in (0, 1]", ema_rate)
        self.label, self.label_threshold, self.label_quantile = label, label_threshold, label_quantile
        self.executed_condition = executed_condition
        self.output, self.objective = output, objective
        self.guidance_placement, self.guidance_scale = guidance_placement, guidance_scale
        self.guidance_maximum, self.guidance_mix = guidance_maximum, guidance_mix
        self.condition_dropout, self.flow_ratio = condition_dropout, flow_ratio
        self.one_step_share = one_step_share
        self.time_distribution, self.min_time = time_distribution, min_time
        self.adaptive_exponent, self.adaptive_epsilon = adaptive_exponent, adaptive_epsilon
        self.noise, self.shared_noise, self.sampling_steps = noise, shared_noise, sampling_steps
        self.learning_rate, self.ema_rate = learning_rate, ema_rate
        shape = (self.n_agents, self.obs_dim, self.action_dim, self.discrete)
        self.velocity = VelocityNetwork(*shape, hidden_dims, output, self.encoder, self.memory_dim)
        self.acting_velocity = target_copy(self.velocity)
        self.register_buffer("signal_quantile", torch.zeros(()))
        # Which joint action each direction of a shared noise stands for; only used with shared_noise.
        directions = torch.randn(
            self.n_agents * self.action_dim, self.action_dim, generator=torch.Generator().manual_seed(0)
        )
        self.register_buffer("noise_directions", torch.linalg.qr(directions).Q)

    @property
    def policy(self) -> FlowPolicy:
        """The EMA policy at ``guidance_scale``."""
        value = self.executed_condition / 3 if self.label == "continuous" else 1.0
        return FlowPolicy(
            network=self.acting_velocity,
            condition=(value, 1.0),
            guidance_scale=self.guidance_scale,
            placement=self.guidance_placement,
            noise=self.noise,
            shared_noise=self.shared_noise,
            steps=self.sampling_steps,
        )

    def evaluation_policies(self) -> Mapping[str, FlowPolicy]:
        """Cloning by the null condition, several guidance scales, zero noise, and more steps."""
        policy = self.policy
        scales = (1.0, 2.0, 4.0, 8.0) if self.guidance_placement != "train" else (self.guidance_scale,)
        named = {"cloning (null condition)": policy.unconditional()}
        named |= {f"policy, w = {scale:g}": replace(policy, guidance_scale=scale) for scale in scales}
        named["policy, zero noise"] = replace(policy, noise="zero")
        named["policy, 4 steps"] = replace(policy, steps=4)
        return named

    def policy_groups(self) -> Sequence[dict[str, Any]]:
        """The velocity network."""
        return ({"params": list(self.velocity.parameters()), "lr": self.learning_rate},)

    def policy_pairs(self) -> Sequence[TargetPair]:
        """The acting copy."""
        return (TargetPair(self.velocity, self.acting_velocity, self.ema_rate),)

    def condition_values(self, signal: Tensor) -> Tensor:
        """How good each action is called, in [-1, 1], same shape as the signal."""
        if self.label == "continuous":
            return continuous_condition(signal, self.signal_mean, self.signal_std, clip=3.0) / 3
        if self.label == "quantile":
            good = quantile_labels(signal, self.signal_quantile)
        else:
            good = sign_labels(signal / self.signal_std, self.label_threshold)
        return good.to(signal.dtype) * 2 - 1

    def policy_losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The MeanFlow regression; see the class."""
        with torch.autocast(self.device.type, enabled=False):  # the derivative needs full precision
            return {"policy": self._flow_loss(joint_steps(batch, self.steps_per_update, generator), generator)}

    def start_policy(self, signal: Tensor) -> None:
        """Fixes the threshold of the labels; see ``AdvantageModule``."""
        super().start_policy(signal)
        # Not torch.quantile, which refuses more than 16 million entries.
        rank = max(1, math.ceil(self.label_quantile * signal.numel()))
        self.signal_quantile.copy_(signal.flatten().kthvalue(rank).values)

    def _flow_loss(self, steps: JointSteps, generator: torch.Generator) -> Tensor:
        rows = self._rows(steps, generator)
        r, t, apart = self._draw_times(len(rows.actions), generator)
        z = path.interpolate(rows.actions, rows.noise, t)
        average, trace = self.velocity.forward_with_trace(z, r, t, rows.context)
        target, derivative = self._regression(rows, trace, apart)
        error = meanflow.compound_velocity(average, derivative, r, t) - target
        if self.output == "endpoint":
            error = t * error  # Deviation: the velocity's error times t is the action's error
        squared = error.square().sum(dim=-1)
        return (meanflow.adaptive_weight(squared, self.adaptive_exponent, self.adaptive_epsilon) * squared).mean()

    def _draw_times(self, n_rows: int, generator: torch.Generator) -> path.FlowTimes:
        """Flow times of all rows; among those with r < t, ``one_step_share`` go all the way from t = 1 to r = 0."""
        r, t, apart = path.sample_times(
            (n_rows,), self.flow_ratio, self.min_time, self.time_distribution, generator, self.device
        )
        if self.one_step_share > 0:
            chance = torch.rand(t.shape, generator=generator, device=self.device)
            whole = apart.unsqueeze(-1) & (chance < self.one_step_share)
            r, t = r.masked_fill(whole, 0.0), t.masked_fill(whole, 1.0)
        return path.FlowTimes(r, t, apart)

    def _rows(self, steps: JointSteps, generator: torch.Generator) -> PolicyRows:
        """Recorded actions as rows, with conditions, dropout, scales and noise drawn."""
        actions = encode_actions(steps.actions, self.action_dim, self.discrete)
        shape = actions.shape[:-1]  # (M, N)
        value = self.condition_values(self.signal(steps))
        kept = ~guidance.drop_condition(shape, self.condition_dropout, generator, self.device)
        guided = kept & ((value > 0) | (self.label == "continuous"))
        if self.guidance_placement == "test":
            guided = torch.zeros_like(guided)
        scale = torch.ones(shape, device=actions.device)
        if self.guidance_placement == "input":
            drawn = guidance.sample_scale(shape, self.guidance_maximum, generator, self.device)
            scale = torch.where(guided, drawn, scale)
        context = FlowContext(
            obs=steps.features(self.velocity.encoder).flatten(0, 1),
            condition=torch.stack([value * kept, kept.to(value.dtype)], dim=-1).flatten(0, 1),
            scale=scale.reshape(-1, 1),
            legal_actions=steps.legal_actions.flatten(0, 1),
        )
        noise, paired = self._draw_noise(steps, actions, value, generator)
        rows = (actions.flatten(0, 1), noise.flatten(0, 1), guided.flatten(), paired.expand(shape).flatten())
        return PolicyRows(context, *rows)

    def _draw_noise(
        self, steps: JointSteps, actions: Tensor, value: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Noise (M, N, A), one per agent or one per team, and which steps' noise was paired with the action, (M, 1)."""
        alone = torch.zeros((len(actions), 1), dtype=torch.bool, device=actions.device)
        if not self.shared_noise:
            return torch.randn(actions.shape, generator=generator, device=actions.device), alone
        shared = torch.randn((len(actions), self.action_dim), generator=generator, device=actions.device)
        situation = torch.cat([steps.state, value], dim=-1)
        _, groups, sizes = torch.unique(situation, dim=0, return_inverse=True, return_counts=True)
        order = coupling.pair_shared_noise(shared, actions.flatten(1), groups, self.noise_directions)
        return shared[order].unsqueeze(1).expand(actions.shape), (sizes[groups] > 1).unsqueeze(-1)

    @torch.no_grad()
    def _regression(self, rows: PolicyRows, trace: FlowTrace, apart: Tensor) -> tuple[Tensor, Tensor]:
        """Guided velocity v_g and derivative Du (zero on rows with r = t), both (R, A).

        Du is also zero where noise was paired with the action: such paths are straight and do not cross, so the
        velocity along them is constant, while the network's jump between two modes would make Du explode.
        """
        slow = apart.nonzero().squeeze(-1)  # the derivative is needed on these rows only
        guided = rows.guided.nonzero().squeeze(-1)
        there = trace.rows(slow)
        # Instantaneous velocities in one call: the network's own (at r = t the trained forward already is it), and
        # those without condition.
        index = torch.cat([slow, guided])
        z, t = trace.z.index_select(0, index), trace.t.index_select(0, index)
        asked = there.context.followed_by(rows.context.rows(guided).unconditional())
        own, unconditional = self.velocity(z, t, t, asked).split([len(slow), len(guided)])
        own = trace.velocity.index_copy(0, slow, own)
        target = self._guided_velocity(rows, guided, own, unconditional)
        tangent = own if self.objective == "improved_meanflow" else target
        derivative = self.velocity.derivative(there, tangent.index_select(0, slow))
        derivative = derivative.masked_fill(rows.straight.index_select(0, slow).unsqueeze(-1), 0.0)
        return target, torch.zeros_like(target).index_copy(0, slow, derivative)

    def _guided_velocity(self, rows: PolicyRows, guided: Tensor, own: Tensor, unconditional: Tensor) -> Tensor:
        """Targets: v on rows without guidance, v_g of the chosen placement on the guided ones, (R, A)."""
        velocity = path.path_velocity(rows.actions, rows.noise)
        v, conditional = velocity.index_select(0, guided), own.index_select(0, guided)
        if self.guidance_placement == "input":
            scale = rows.context.scale.index_select(0, guided)
            target = guidance.input_guided_velocity(v, conditional, unconditional, scale)
        else:
            omega = self.guidance_scale * (1 - self.guidance_mix)
            target = guidance.train_guided_velocity(v, conditional, unconditional, omega, self.guidance_mix)
        return velocity.index_copy(0, guided, target)
