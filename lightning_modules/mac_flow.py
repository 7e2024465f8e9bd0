"""MAC-Flow: a flow of the joint action, distilled into one-step actors of single agents under additive values."""

from __future__ import annotations

from typing import Any

from lightning_modules.distilling_module import DistillingModule
from lightning_modules.networks.one_step import TeacherScope


class MACFlow(DistillingModule):
    """Multi-agent coordination via flow matching (Lee et al., arXiv:2511.05005).

        L_Q = ½ Σ_k E (mean_i Q_k(o_i, a_i) - G)²,   G from mean_i agg_k Q̄_k(o'_i, μ(o'_i, i, z'_i))
        L_v = flow matching of the recorded joint actions given all observations (``FlowDistillation``)
        L_μ = α E mean_i |μ(o_i, i, z_i) - x_i(z_1, …, z_N)|² / A - E mean_i mean_k Q_k(o_i, clip μ(o_i, i, z_i))

    with x(z) where v's flow takes the team's noise in K steps of Euler. An actor sees its own observation and its own
    part of the noise only, so that what a joint action is agreed upon by the other parts is averaged out. For choices
    x_i is a one-hot vector and the cross entropy of its largest entry takes the place of the squared error.

    The released code (https://github.com/dongsuleetech/mac-flow) is ``teacher: local, discrete_q: original, output:
    velocity, normalise_q: false``. Its teacher is a flow of each agent's own, and its values of choices, Q(o, one-hot
    of argmax μ), have no gradient: for choices it is a distilled flow of the behaviour.

    Differences from that code: bootstraps are cut at the terminal step itself (there the next step's flag is read);
    illegal choices are masked in training too (there when acting only); each of two critics has an error of its own
    (there, for choices, their mean has one, and agents' values are summed); LayerNorm in all networks; one-hot vectors
    in {-1, 1} (there {0, 1}); time runs from noise at t = 1 to actions at t = 0. Choices act from noise as continuous
    actions do; there, and in the row "zero noise" of the final table, they start from 0. Deviation: ``discrete_q``;
    values are normalised; the flow's network predicts clean actions; ``steps_per_update`` of the recorded steps for
    flow and actors.

    Args:
        teacher: Whether the flow is of the ``joint`` action given all observations, as in the paper, or of each agent's
            own (``local``), as in the released code. The policy is the same network in both cases.
        distillation_weight: α >= 0. It weighs against values in the unit of rewards, unless ``normalise_q``.
        **distilling_options: Actors, flow and critics of ``DistillingModule``, dimensions of ``OfflineModule``; all are
            options of this class, too.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self, teacher: TeacherScope = "joint", distillation_weight: float = 3.0, **distilling_options: Any
    ) -> None:
        super().__init__(
            team_value="additive", teacher=teacher, distillation_weight=distillation_weight, **distilling_options
        )
        self.save_hyperparameters()
