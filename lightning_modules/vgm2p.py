"""VGM2P: value guidance for multi-agent MeanFlow policies (Pang et al., arXiv:2604.08174)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_modules.base import require
from lightning_modules.conditional_cloning import ConditionalCloning, Conditions
from lightning_modules.flow_regression import FlowRows, MeanFlowRegression, Objective, clean_actions, cloning_rows
from lightning_modules.flows import coupling, guidance, path
from lightning_modules.joint_steps import JointSteps
from lightning_modules.networks.flow_policies import FlowPolicy
from lightning_modules.networks.noise import standard_normal


class VGM2P(ConditionalCloning):
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
        objective: ``improved_meanflow`` differentiates along the network's own velocity; ``meanflow`` along the
            target's.
        guidance_placement: ``input``: the scale w is an input, free when acting, one network call. ``train``: one
            fixed scale, built in. ``test``: no guidance in training, two network calls when acting.
        guidance_maximum: For ``input``: w is drawn log-uniformly from [1, this] in training.
        guidance_mix: For ``train``: share κ in [0, 1) of the conditional prediction in the target; more is less noisy.
        flow_ratio: Share of rows with r < t; the others are plain flow matching.
        one_step_share: Share of those rows that train exactly the step which acting takes, from t = 1 to r = 0.
        time_distribution: Distribution of flow times: ``uniform`` or ``logit_normal``.
        adaptive_exponent: p of MeanFlow's loss weight 1 / (error + ε)^p; 0 is plain squared error.
        adaptive_epsilon: ε of that weight.
        shared_noise: Agents of a team use one common noise, paired in training with joint actions, so that they draw
            the same mode without communication.
        sampling_steps: Network calls per decision; 1 is what the method is for.
        compared_steps: Other numbers of network calls that the final table plays, too, at ``guidance_scale``.
        **conditional_options: Labels and network of ``ConditionalCloning``, critic and dimensions of
            ``AdvantageModule``; all are options of this class too.

    Raises:
        ValueError: If a number is outside its range.
    """

    noise_directions: Tensor

    def __init__(
        self,
        objective: Objective = "improved_meanflow",
        guidance_placement: Literal["input", "train", "test"] = "input",
        guidance_maximum: float = 8.0,
        guidance_mix: float = 0.5,
        flow_ratio: float = 0.5,
        one_step_share: float = 0.0,
        time_distribution: path.TimeDistribution = "uniform",
        adaptive_exponent: float = 0.0,
        adaptive_epsilon: float = 0.01,
        shared_noise: bool = False,
        sampling_steps: int = 1,
        compared_steps: Sequence[int] = (4,),
        **conditional_options: Any,
    ) -> None:
        super().__init__(**conditional_options)
        self.save_hyperparameters()
        require(guidance_maximum >= 1, "guidance_maximum", "at least 1", guidance_maximum)
        require(0 <= guidance_mix < 1, "guidance_mix", "in [0, 1)", guidance_mix)
        require(0 <= flow_ratio <= 1, "flow_ratio", "in [0, 1]", flow_ratio)
        require(0 <= one_step_share <= 1, "one_step_share", "in [0, 1]", one_step_share)
        require(sampling_steps >= 1, "sampling_steps", "at least 1", sampling_steps)
        require(all(n >= 1 for n in compared_steps), "compared_steps", "numbers of at least 1", compared_steps)
        self.guidance_placement: Literal["input", "train", "test"] = guidance_placement
        self.guidance_maximum, self.guidance_mix = guidance_maximum, guidance_mix
        self.flow_ratio, self.one_step_share = flow_ratio, one_step_share
        self.time_distribution: path.TimeDistribution = time_distribution
        self.shared_noise, self.sampling_steps, self.compared_steps = shared_noise, sampling_steps, compared_steps
        self.regression = MeanFlowRegression(objective, adaptive_exponent, adaptive_epsilon, self.guided_velocity)
        # Which joint action each direction of a shared noise stands for; only used with shared_noise.
        directions = torch.randn(
            self.n_agents * self.action_dim, self.action_dim, generator=torch.Generator().manual_seed(0)
        )
        self.register_buffer("noise_directions", torch.linalg.qr(directions).Q)

    @property
    def policy(self) -> FlowPolicy:
        """The EMA policy at ``guidance_scale``."""
        return FlowPolicy(
            network=self.acting_velocity,
            condition=self.asked_condition(),
            guidance_scale=self.guidance_scale,
            placement=self.guidance_placement,
            noise=self.noise,
            shared_noise=self.shared_noise,
            steps=self.sampling_steps,
        )

    def evaluation_policies(self) -> Mapping[str, FlowPolicy]:
        """Cloning by the null condition, several guidance scales, other noise, and more steps."""
        policy = self.policy
        scales = (1.0, 2.0, 4.0, 8.0) if self.guidance_placement != "train" else (self.guidance_scale,)
        return {
            "cloning (null condition)": policy.unconditional(),
            **{f"policy, w = {scale:g}": replace(policy, guidance_scale=scale) for scale in scales},
            **policy.with_other_noise(),
            **{f"policy, {n} steps": replace(policy, steps=n) for n in self.compared_steps},
        }

    def flow_loss(self, steps: JointSteps, generator: torch.Generator) -> Tensor:
        """The MeanFlow regression; see the class."""
        rows = self._rows(steps, generator)
        return self.regression.loss(self.velocity, rows, self._draw_times(len(rows.actions), generator))

    def guided_velocity(self, velocity: Tensor, conditional: Tensor, unconditional: Tensor, scale: Tensor) -> Tensor:
        """Target of guided rows, (G, A): v_g of the chosen placement, from v and the network's own answers."""
        if self.guidance_placement == "input":
            return guidance.input_guided_velocity(velocity, conditional, unconditional, scale)
        omega = self.guidance_scale * (1 - self.guidance_mix)
        return guidance.train_guided_velocity(velocity, conditional, unconditional, omega, self.guidance_mix)

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

    def _rows(self, steps: JointSteps, generator: torch.Generator) -> FlowRows:
        """Recorded actions as rows, with conditions, dropout, scales and noise drawn."""
        conditions = self.draw_conditions(steps, generator)
        guided = conditions.kept & ((conditions.value > 0) | (self.label == "continuous"))
        if self.guidance_placement == "test":
            guided = torch.zeros_like(guided)
        scale = torch.ones(guided.shape, device=self.device)
        if self.guidance_placement == "input":
            drawn = guidance.sample_scale(guided.shape, self.guidance_maximum, generator, self.device)
            scale = torch.where(guided, drawn, scale)
        noise, paired = self._draw_noise(steps, conditions, generator)
        rows = cloning_rows(steps, self.velocity, noise)
        context = rows.context._replace(condition=conditions.shown(), scale=scale.reshape(-1, 1))
        straight = paired.expand(guided.shape).flatten()
        return rows._replace(context=context, guided=guided.flatten(), straight=straight)

    def _draw_noise(
        self, steps: JointSteps, conditions: Conditions, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Noise (M, N, A), one per agent or one per team, and which steps' noise was paired with the action, (M, 1)."""
        shape = steps.legal_actions.shape
        if not self.shared_noise:
            alone = torch.zeros((shape[0], 1), dtype=torch.bool, device=self.device)
            return standard_normal(shape, steps.obs, generator), alone
        shared = standard_normal((shape[0], self.action_dim), steps.obs, generator)
        actions = clean_actions(steps, self.velocity)
        situation = torch.cat([steps.state, conditions.value], dim=-1)
        _, groups, sizes = torch.unique(situation, dim=0, return_inverse=True, return_counts=True)
        order = coupling.pair_shared_noise(shared, actions.flatten(1), groups, self.noise_directions)
        return shared[order].unsqueeze(1).expand(shape), (sizes[groups] > 1).unsqueeze(-1)
