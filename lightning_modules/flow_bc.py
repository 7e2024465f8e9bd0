"""Flow BC: behaviour cloning by flow matching, followed in several steps when acting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_modules.base import require
from lightning_modules.flow_cloning import FlowCloning
from lightning_modules.flow_regression import FlowRows, flow_matching_error
from lightning_modules.flows import path
from lightning_modules.networks.flow_policies import FlowPolicy


class FlowBC(FlowCloning):
    """Clones every agent's recorded actions by flow matching (Lipman et al., arXiv:2210.02747).

        L = E |v(z_t, t | o_i, i) - (ε - a_i)|²,   z_t = (1 - t) a_i + t ε,   t uniform

    Acting follows v from noise ε ~ N(0, I) at t = 1 to t = 0 in K steps of Euler, K network calls. This is the flow of
    behaviour that FQL (Park et al., arXiv:2502.02538, https://github.com/seohongpark/fql) starts from, without a
    critic. Choices are one-hot vectors in {-1, 1}; the largest legal entry is chosen.

    Differences from that code: agents share one network, which knows the agent's number; choices; memory is an option;
    LayerNorm; an averaged copy acts; time runs from noise at t = 1 to actions at t = 0. Deviation: the network predicts
    the clean action and its error is measured in action space, t² L with t at least ``min_time``, as VGM2P's
    (``output: velocity`` is the original's, of the same times).

    Args:
        sampling_steps: K, at least 1.
        **cloning_options: Network, noise and dimensions of ``FlowCloning``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(self, sampling_steps: int = 10, **cloning_options: Any) -> None:
        super().__init__(**cloning_options)
        self.save_hyperparameters()
        require(sampling_steps >= 1, "sampling_steps", "at least 1", sampling_steps)
        self.sampling_steps = sampling_steps

    @property
    def policy(self) -> FlowPolicy:
        """K steps of the averaged flow."""
        return FlowPolicy(
            network=self.acting_velocity,
            condition=(0.0, 0.0),
            noise=self.noise,
            shared_noise=self.shared_noise,
            steps=self.sampling_steps,
            solver="euler",
        )

    def evaluation_policies(self) -> Mapping[str, FlowPolicy]:
        """The policy, other noise, and fewer steps."""
        fewer = {"policy, 4 steps": replace(self.policy, steps=4), "policy, 1 step": replace(self.policy, steps=1)}
        return {"policy": self.policy, **self.policy.with_other_noise(), **fewer}

    def cloning_loss(self, rows: FlowRows, generator: torch.Generator) -> Tensor:
        """Flow matching of all rows; see the class."""
        t = path.sample_instants((len(rows.actions),), self.min_time, generator, self.device)
        return flow_matching_error(self.velocity, rows, t).mean()
