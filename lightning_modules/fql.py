"""FQL for teams: each agent distils a flow of its behaviour into a one-step actor that climbs a critic of its own."""

from __future__ import annotations

from typing import Any, Literal

from lightning_modules.distilling_module import DistillingModule


class FQL(DistillingModule):
    """Flow Q-learning (Park et al., arXiv:2502.02538), every agent for itself from the team's reward.

        L_Q = ½ Σ_k E mean_i (Q_k(o_i, a_i) - G_i)²,   G_i from agg_k Q̄_k(o'_i, μ(o'_i, i, z'))
        L_v = flow matching of the recorded actions (``FlowDistillation``)
        L_μ = α E mean_i |μ(o_i, i, z) - x_i(z)|² / A - E mean_i mean_k Q_k(o_i, clip μ(o_i, i, z))

    with x(z) where v's flow takes the noise z in K steps of Euler. Only μ acts: one network call.

    Differences from the original (https://github.com/seohongpark/fql): agents share networks, which know the agent's
    number; choices; memory is an option; LayerNorm in all networks (there in critics only); time runs from noise at
    t = 1 to actions at t = 0. Deviation: for choices, which it does not know, x is a one-hot vector, the cross entropy
    of its largest entry takes the place of the squared error, and ``discrete_q`` the place of Q(o, clip μ). Deviation:
    values are normalised, which there is off but advised for new environments; the flow's network predicts clean
    actions; actors and flow learn from ``steps_per_update`` of the recorded steps.

    Args:
        distillation_weight: α >= 0. It weighs against values in the unit of rewards, unless ``normalise_q``; there it
            is chosen for every task, between 1 and 30,000.
        discrete_q: How a choice's value is differentiated, see ``LocalValueLearning.of_choices``.
        **distilling_options: Actors, flow and critics of ``DistillingModule``, dimensions of ``OfflineModule``; all are
            options of this class, too.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        distillation_weight: float = 10.0,
        discrete_q: Literal["straight_through", "expected"] = "expected",
        **distilling_options: Any,
    ) -> None:
        super().__init__(
            team_value="alone",
            teacher="local",
            distillation_weight=distillation_weight,
            discrete_q=discrete_q,
            **distilling_options,
        )
        self.save_hyperparameters()
