"""OM2P: one-step MeanFlow actors that climb a critic while they clone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules.base import require
from lightning_modules.flow_regression import FlowRows, cloning_rows
from lightning_modules.flows import meanflow, path
from lightning_modules.joint_steps import JointSteps, joint_steps
from lightning_modules.losses.cloning import squared_cloning_error
from lightning_modules.losses.zeroth_order import best_action, searched_actions
from lightning_modules.networks.noise import standard_normal
from lightning_modules.networks.one_step import FlowOutput, MeanFlowActor, counted_entries
from lightning_modules.networks.velocity import FlowTrace
from lightning_modules.one_step_module import OneStepModule

Identity = Literal["corrected", "published"]

_SEARCH = (3, 10, 1.0, None)  # iterations, samples, first deviation, elites: as in https://github.com/lizr16/OM2P


class OM2P(OneStepModule):
    """Offline multi-agent mean-flow policy (Li et al., arXiv:2508.06269), every agent for itself.

        L_Q = ½ Σ_k E mean_i (Q_k(o_i, a_i) - G_i)²,   G_i from agg_k Q̄_k(o'_i, μ(o'_i, i, z'))
        L_μ = E |u(z_t, r, t | o_i, i) - u_target|² / A - β E mean_i mean_k Q_k(o_i, clip μ(o_i, i, z))
              + ω E |μ(o_i, i, z) - a*_i|² / A

    with z_t = (1 - t) a + t ε, v = ε - a, D u the derivative of u along (v, dr = 0, dt = 1), and a* the better by Q of
    μ and what a cross-entropy search finds (``losses.zeroth_order``). Two forms of the flow:

        corrected     r <= t,              u_target = sg[v - (t - r) D u],   μ = z - u(z, 0, 1)
        published     r, t independent,    u_target = sg[v + (t - r) D u],   μ = -u(z, r = 1, t = 0)

    ``corrected`` is MeanFlow (Geng et al., arXiv:2505.13447). ``published`` is what the authors' code
    (https://github.com/lizr16/OM2P) computes, in our direction of time: its sign is not that of the identity, its pairs
    of times are in no order, and it acts with the network's raw answer to noise at the time at which training put data.

    Differences from that code: agents share networks, which know the agent's number; choices; memory is an option;
    LayerNorm in all networks; the search scores by the mean of both critics; its conservative, implicit, episodic and
    Q-weighted variants and DOM2's repeated trajectories are left out. Deviation: ``corrected`` by default, with a share
    of rows at r = t; choices, by a network that predicts clean actions and whose error is measured in action space
    (|t (u - u_target)|²); values are normalised, which there is off but advised for new environments;
    ``steps_per_update`` of the recorded steps for the actors.

    Args:
        identity: Which of the two forms.
        output: What the network predicts: velocities, as in that code, or clean actions (``endpoint``), always valid
            ones, with the error in action space. Null is ``endpoint`` for choices and ``velocity`` otherwise.
        derivative: ``exact``: D u in closed form; ``zero``: plain flow matching of v at all pairs of times, which is
            what the code's difference quotient over 1e-12 comes to in single precision.
        flow_ratio: For ``corrected``: share of rows with r < t; the others are plain flow matching.
        time_distribution: For ``corrected``: distribution of times, ``uniform`` or ``logit_normal``.
        min_time: For ``corrected``: smallest t in training; an endpoint's velocity is divided by t.
        q_weight: β >= 0. It weighs values in the unit of rewards, unless ``normalise_q``; 0 is MeanFlow cloning.
        discrete_q: How a choice's value is differentiated, see ``LocalValueLearning.of_choices``.
        search_weight: ω >= 0, for continuous actions.
        hidden_dims: Widths of the actors' hidden blocks.
        **one_step_options: Acting and critics of ``OneStepModule``, dimensions of ``OfflineModule``; all are options of
            this class, too.

    Raises:
        ValueError: If a number is outside its range, or the form does not fit choices.
    """

    def __init__(
        self,
        identity: Identity = "corrected",
        output: FlowOutput | None = None,
        derivative: Literal["exact", "zero"] = "exact",
        flow_ratio: float = 0.5,
        time_distribution: path.TimeDistribution = "uniform",
        min_time: float = 0.05,
        q_weight: float = 1.0,
        discrete_q: Literal["straight_through", "expected"] = "expected",
        search_weight: float = 0.0,
        hidden_dims: Sequence[int] = (192, 192, 192),
        **one_step_options: Any,
    ) -> None:
        super().__init__(team_value="alone", discrete_q=discrete_q, **one_step_options)
        self.save_hyperparameters()
        predicted: FlowOutput = output or ("endpoint" if self.discrete else "velocity")
        if self.discrete and (identity == "published" or predicted == "velocity" or search_weight > 0):
            raise ValueError(
                "OM2P as published, velocity outputs and the search are for continuous actions, but the data's actions "
                f"are choices, and got identity {identity!r}, output {output!r}, search_weight {search_weight}; use "
                "identity: corrected with output: endpoint and search_weight: 0, or MACFlow "
                "(--model configs/model/mac_flow.yaml)"
            )
        fits = identity == "corrected" or predicted == "velocity"
        require(fits, "output", "'velocity' or null with identity: published", output)
        require(0 <= flow_ratio <= 1, "flow_ratio", "in [0, 1]", flow_ratio)
        require(0 < min_time < 1, "min_time", "in (0, 1)", min_time)
        require(q_weight >= 0, "q_weight", "at least 0", q_weight)
        require(search_weight >= 0, "search_weight", "at least 0", search_weight)
        self.identity: Identity = identity
        self.differentiates = derivative == "exact"
        self.flow_ratio, self.min_time = flow_ratio, min_time
        self.time_distribution: path.TimeDistribution = time_distribution
        self.q_weight, self.search_weight = q_weight, search_weight
        self.actor = MeanFlowActor(self.shape, hidden_dims, predicted, raw=identity == "published")

    @property
    def acting_network(self) -> MeanFlowActor:
        """One step of the flow."""
        return self.actor

    @property
    def learning_network(self) -> MeanFlowActor:
        """The flow."""
        return self.actor

    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """See the class."""
        steps = joint_steps(batch, self.steps_per_update, generator)
        noise = standard_normal(steps.legal_actions.shape, steps.obs, generator)
        rows = cloning_rows(steps, self.actor.velocity, noise)
        with torch.autocast(self.device.type, enabled=False):  # the derivative needs full precision
            cloning = self._flow_loss(rows, generator)
        start = standard_normal(noise.shape, noise, generator)
        own = self.actor.of_features(rows.context.obs.view(*start.shape[:2], -1), start, steps.legal_actions)
        policy = cloning + self.q_weight * self._climbing_loss(steps, own)
        if self.search_weight > 0:
            policy = policy + self.search_weight * self._search_loss(steps, own, generator)
        return {"q": self.values.td_loss(batch, self.actor, generator), "policy": policy}

    def _flow_loss(self, rows: FlowRows, generator: torch.Generator) -> Tensor:
        """The regression of u, a scalar."""
        r, t, apart = self._draw_times(len(rows.actions), generator)
        z = path.interpolate(rows.actions, rows.noise, t)
        average, trace = self.actor.velocity.forward_with_trace(z, r, t, rows.context)
        velocity = path.path_velocity(rows.actions, rows.noise)
        target = identity_target(self.identity, velocity, self._derivative(trace, velocity, apart), r, t)
        # Deviation: the velocity's error times t is the action's error
        unit = t if self.actor.velocity.output == "endpoint" else 1.0
        counts = counted_entries(rows.context.legal_actions, self.discrete)
        return squared_cloning_error(unit * average, unit * target, counts).mean()

    def _draw_times(self, n_rows: int, generator: torch.Generator) -> path.FlowTimes:
        """R and t, (R, 1), and which rows have them apart."""
        if self.identity == "published":
            r, t = torch.rand((2, n_rows, 1), generator=generator, device=self.device)
            return path.FlowTimes(r, t, torch.ones(n_rows, dtype=torch.bool, device=self.device))
        return path.sample_times(
            (n_rows,), self.flow_ratio, self.min_time, self.time_distribution, generator, self.device
        )

    @torch.no_grad()
    def _derivative(self, trace: FlowTrace, velocity: Tensor, apart: Tensor) -> Tensor:
        """D u, (R, A); 0 on rows where it is not needed."""
        derivative = torch.zeros_like(velocity)
        if not self.differentiates:
            return derivative
        index = apart.nonzero().squeeze(-1)
        there = self.actor.velocity.derivative(trace.rows(index), velocity.index_select(0, index))
        return derivative.index_copy(0, index, there)

    def _climbing_loss(self, steps: JointSteps, own: Tensor) -> Tensor:
        chances = (own + 1) / 2 if self.discrete else own  # the endpoint of a choice is 2 p - 1
        return self.values.climbing_loss(steps, chances, self.discrete_q, self.normalise_q)

    def _search_loss(self, steps: JointSteps, own: Tensor, generator: torch.Generator) -> Tensor:
        """Distance to the better, by Q, of what the actors do and what a search finds; a scalar."""
        known, own = self.values.features(steps), own.clamp(-1.0, 1.0)

        def score(actions: Tensor) -> Tensor:
            return self.values.of_vectors(known, actions.masked_fill(~steps.legal_actions, 0.0))

        found = searched_actions(score, own.detach(), *_SEARCH, generator)
        best = best_action(score, torch.stack([own.detach(), found]))
        return squared_cloning_error(own, best, steps.legal_actions).mean()


def identity_target(identity: Identity, velocity: Tensor, derivative: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """What u is regressed to: MeanFlow's identity, or with the sign of OM2P's published code.

        corrected    sg[v - (t - r) D u]        published    sg[v + (t - r) D u]

    Args:
        identity: Which of the two.
        velocity: v, shape (…, D).
        derivative: D u along v, shape (…, D).
        r: End times, shape (…, 1).
        t: Start times, shape (…, 1).

    Returns:
        Targets, shape (…, D), detached.
    """
    return meanflow.meanflow_target(velocity, derivative if identity == "corrected" else -derivative, r, t)
