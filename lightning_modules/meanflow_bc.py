"""MeanFlow BC: behaviour cloning by an average velocity, one network call per decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_modules.base import require
from lightning_modules.flow_cloning import FlowCloning
from lightning_modules.flow_regression import FlowRows, MeanFlowRegression, Objective
from lightning_modules.flows import path
from lightning_modules.networks.flow_policies import FlowPolicy


class MeanFlowBC(FlowCloning):
    """Clones every agent's recorded actions by a MeanFlow (Geng et al., arXiv:2505.13447): VGM2P without its guidance.

        L = E |t (u + (t - r) sg[Du] - v)|²,   v = ε - a_i,   u at z_t = (1 - t) a_i + t ε and r <= t, given o_i and i

    with Du the derivative of u along the flow. One step, a = ε - u(ε, 0, 1 | o_i, i), draws from the behaviour. Actions
    of all qualities are cloned alike and no critic is trained, so that the difference to VGM2P is what value
    guidance is worth. Choices are one-hot vectors in {-1, 1}; the largest legal entry is chosen.

    Differences from published MeanFlow (https://github.com/Gsunshine/meanflow), as in VGM2P: the adaptive loss weight
    is off, flow times enter as t and t - r. Deviation: the network predicts the clean action and the error is measured
    in action space, hence the factor t (``output: velocity`` predicts u, without that factor).

    Args:
        objective: ``improved_meanflow`` (arXiv:2512.02012) differentiates along the network's own velocity;
            ``meanflow`` along v.
        flow_ratio: Share of rows with r < t; the others are plain flow matching.
        time_distribution: Distribution of flow times: ``uniform`` or ``logit_normal``.
        adaptive_exponent: p of MeanFlow's loss weight 1 / (error + ε)^p; 0 is plain squared error.
        adaptive_epsilon: ε of that weight.
        sampling_steps: Network calls per decision; 1 is what the method is for.
        **cloning_options: Network, noise and dimensions of ``FlowCloning``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        objective: Objective = "improved_meanflow",
        flow_ratio: float = 0.5,
        time_distribution: path.TimeDistribution = "uniform",
        adaptive_exponent: float = 0.0,
        adaptive_epsilon: float = 0.01,
        sampling_steps: int = 1,
        **cloning_options: Any,
    ) -> None:
        super().__init__(**cloning_options)
        self.save_hyperparameters()
        require(0 <= flow_ratio <= 1, "flow_ratio", "in [0, 1]", flow_ratio)
        require(sampling_steps >= 1, "sampling_steps", "at least 1", sampling_steps)
        self.flow_ratio, self.sampling_steps = flow_ratio, sampling_steps
        self.time_distribution: path.TimeDistribution = time_distribution
        self.regression = MeanFlowRegression(objective, adaptive_exponent, adaptive_epsilon)

    @property
    def policy(self) -> FlowPolicy:
        """The averaged flow, in one step unless asked for more."""
        return FlowPolicy(
            network=self.acting_velocity,
            condition=(0.0, 0.0),
            noise=self.noise,
            shared_noise=self.shared_noise,
            steps=self.sampling_steps,
        )

    def evaluation_policies(self) -> Mapping[str, FlowPolicy]:
        """The policy, other noise, and more steps."""
        policy = self.policy
        return {"policy": policy, **policy.with_other_noise(), "policy, 4 steps": replace(policy, steps=4)}

    def cloning_loss(self, rows: FlowRows, generator: torch.Generator) -> Tensor:
        """The MeanFlow regression of all rows; see the class."""
        shape, device = (len(rows.actions),), self.device
        times = path.sample_times(shape, self.flow_ratio, self.min_time, self.time_distribution, generator, device)
        return self.regression.loss(self.velocity, rows, times)
