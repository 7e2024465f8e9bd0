"""One-step actors that turn noise into actions and climb critics: what FQL, MAC-Flow and OM2P share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from datamodules.batch import TeamBatch
from lightning_modules.base import OfflineModule, TargetPair, parameter_group
from lightning_modules.local_value_learning import Aggregate, DiscreteQ, LocalValueLearning, TeamValue
from lightning_modules.networks.noise import Noise
from lightning_modules.networks.one_step_policies import GenerativeActor, OneStepPolicy


class OneStepModule(OfflineModule):
    """Values by ``LocalValueLearning``, acting by ``OneStepPolicy``; a subclass has the actors and how they learn.

    Args:
        team_value: Whether agents' values have errors of their own, or their mean has.
        normalise_q: Whether values are divided by their mean size in the actors' loss.
        aggregate: What is made of two lagged critics in the targets: their ``mean`` or the smaller (``min``).
        discrete_q: How a choice's value is differentiated, see ``LocalValueLearning.of_choices``.
        noise: ``normal`` starts from N(0, I); ``zero`` starts from 0 and acts deterministically. When acting only.
        shared_noise: When acting, agents of a team start from one common noise.
        steps_per_update: Recorded joint steps of an update that actors learn from, drawn from the batch; null takes all
            of them.
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1] of the targets: 0 looks one step ahead, 1 to the end of the window.
        critic_hidden_dims: Widths of the critics' hidden blocks.
        critic_learning_rate: Adam's step size for the critics.
        target_rate: Rate in (0, 1] at which target networks follow.
        learning_rate: Adam's step size for all other networks.
        **team_options: Dimensions, ``standardise`` and ``encoder`` of ``OfflineModule``; all are options of this class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        team_value: TeamValue,
        normalise_q: bool = True,
        aggregate: Aggregate = "mean",
        discrete_q: DiscreteQ = "expected",
        noise: Noise = "normal",
        shared_noise: bool = False,
        steps_per_update: int | None = 256,
        discount: float = 0.99,
        trace_decay: float = 0.0,
        critic_hidden_dims: Sequence[int] = (192, 192, 192),
        critic_learning_rate: float = 5e-4,
        target_rate: float = 0.005,
        learning_rate: float = 3e-4,
        **team_options: Any,
    ) -> None:
        super().__init__(**team_options)
        self.normalise_q = normalise_q
        self.discrete_q: DiscreteQ = discrete_q
        self.noise: Noise = noise
        self.shared_noise, self.steps_per_update = shared_noise, steps_per_update
        self.critic_learning_rate, self.learning_rate = critic_learning_rate, learning_rate
        returns = (discount, trace_decay, target_rate)
        self.values = LocalValueLearning(self.shape, critic_hidden_dims, team_value, aggregate, *returns)

    @property
    @abstractmethod
    def acting_network(self) -> GenerativeActor:
        """The one-step actors."""

    @property
    @abstractmethod
    def learning_network(self) -> nn.Module:
        """Everything that learns besides the critics."""

    @property
    def policy(self) -> OneStepPolicy:
        """One call of the actors."""
        return OneStepPolicy(self.acting_network, self.noise, self.shared_noise)

    def evaluation_policies(self) -> Mapping[str, OneStepPolicy]:
        """The policy, and the same with other noise."""
        return {"policy": self.policy, **self.policy.with_other_noise()}

    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Critics, and all other networks."""
        critics = parameter_group(self.critic_learning_rate, self.values.critic)
        return (critics, parameter_group(self.learning_rate, self.learning_network))

    def target_pairs(self) -> Sequence[TargetPair]:
        """The critics."""
        return self.values.target_pairs()

    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Mean values of what was done, of what the actors would do, and of the targets."""
        return self.values.diagnostics(batch, self.acting_network)
