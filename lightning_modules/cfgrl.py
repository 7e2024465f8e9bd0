"""CFGRL: cloning by a flow under classifier-free guidance towards actions of positive advantage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_modules.base import require
from lightning_modules.conditional_cloning import ConditionalCloning
from lightning_modules.flow_regression import cloning_rows, flow_matching_error
from lightning_modules.flows import path
from lightning_modules.joint_steps import JointSteps
from lightning_modules.networks.flow_policies import FlowPolicy
from lightning_modules.networks.noise import standard_normal


class CFGRL(ConditionalCloning):
    """Guidance as policy improvement (Frans et al., arXiv:2505.23458), with the critic and the labels of VGM2P.

        L = E |v(z_t, t | o_i, i, c) - (ε - a_i)|²,   z_t = (1 - t) a_i + t ε,   t uniform,   c dropped now and then
        v_w = v(z, t | ∅) + w (v(z, t | good) - v(z, t | ∅))

    Following v_w from noise at t = 1 to t = 0 in K steps of Euler samples π(a|o) p(good|o, a)^w approximately, which
    improves on the behaviour π the more, the larger w. It costs 2K network calls, K where w is 0 (cloning) or 1 (plain
    conditional cloning). Training knows no w: it is free when acting.

    The authors' code (https://github.com/kvfrans/cfgrl) has this loss with K = 16, labels A >= 0 of a twin Q and an
    expectile V, and a tenth of the labels dropped (OGBench), or without bad rows under their own label, a tenth of the
    weight on the null condition and K = 32 (ExORL); w is varied from 1 to 100.

    Differences from that code: agents share one network, which knows the agent's number; choices, as one-hot vectors in
    {-1, 1}; memory is an option; LayerNorm; an averaged copy acts; the critic is trained first. Deviation: critic,
    credit and labels are VGM2P's (``credit: joint, label: sign, critic: expectile, advantage_estimate: q, expectile:
    0.9`` come close to the original); the network predicts the clean action and its error is measured in action space,
    t² L with t at least ``min_time`` (``output: velocity`` is the original's).

    Args:
        sampling_steps: K, at least 1.
        shared_noise: When acting, agents of a team start from one common noise.
        **conditional_options: Labels and network of ``ConditionalCloning``, critic and dimensions of
            ``AdvantageModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(self, sampling_steps: int = 16, shared_noise: bool = False, **conditional_options: Any) -> None:
        super().__init__(**conditional_options)
        self.save_hyperparameters()
        require(sampling_steps >= 1, "sampling_steps", "at least 1", sampling_steps)
        self.sampling_steps, self.shared_noise = sampling_steps, shared_noise

    @property
    def policy(self) -> FlowPolicy:
        """K steps of the averaged flow at ``guidance_scale``."""
        return FlowPolicy(
            network=self.acting_velocity,
            condition=self.asked_condition(),
            guidance_scale=self.guidance_scale,
            placement="test",
            noise=self.noise,
            shared_noise=self.shared_noise,
            steps=self.sampling_steps,
            solver="euler",
        )

    def evaluation_policies(self) -> Mapping[str, FlowPolicy]:
        """Cloning by the null condition, several guidance scales, other noise, and one step."""
        policy = self.policy
        return {
            "cloning (null condition)": policy.unconditional(),
            **{f"policy, w = {w:g}": replace(policy, guidance_scale=w) for w in (1.0, 2.0, 4.0, 8.0)},
            **policy.with_other_noise(),
            "policy, 1 step": replace(policy, steps=1),
        }

    def flow_loss(self, steps: JointSteps, generator: torch.Generator) -> Tensor:
        """Flow matching of all rows under their labels; see the class."""
        conditions = self.draw_conditions(steps, generator)
        noise = standard_normal(steps.legal_actions.shape, steps.obs, generator)
        rows = cloning_rows(steps, self.velocity, noise)
        rows = rows._replace(context=rows.context._replace(condition=conditions.shown()))
        t = path.sample_instants((len(rows.actions),), self.min_time, generator, self.device)
        return flow_matching_error(self.velocity, rows, t).mean()
