"""Acting by one pass from noise to an action."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_modules.networks.actions import decode_actions
from lightning_modules.networks.noise import Noise, team_noise
from lightning_modules.networks.one_step import MeanFlowActor, OneStepActor

GenerativeActor = OneStepActor | MeanFlowActor


@dataclass(frozen=True)
class OneStepPolicy:
    """Draws actions by one network call: noise and the agent's own observation in, its action out.

    Attributes:
        network: Maps noise to actions, or to numbers of which the largest is the choice.
        noise: ``normal`` draws z from N(0, I); ``zero`` starts from 0 and is deterministic.
        shared_noise: All agents of a team use the same z: a common seed, not communication.
    """

    network: GenerativeActor
    noise: Noise = "normal"
    shared_noise: bool = False
    network_calls: int = 1

    def with_other_noise(self) -> dict[str, OneStepPolicy]:
        """The same with the noise that it does not have, by the names of their rows in the table of an evaluation."""
        other = replace(self, noise="normal", shared_noise=not self.shared_noise)
        return {
            "policy, zero noise": replace(self, noise="zero"),
            f"policy, {'shared' if other.shared_noise else 'own'} noise": other,
        }

    def initial_state(self, n_envs: int) -> Tensor | None:
        """The encoder's memory, if it has one."""
        return self.network.encoder.initial_memory(n_envs)

    def act(
        self, obs: Tensor, legal_actions: Tensor, state: Tensor | None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See ``Policy.act``."""
        features, state = self.network.encoder.step(obs, state)
        return self.choose(features, legal_actions, generator), state

    def choose(self, features: Tensor, legal_actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions given the encoder's features (…, N, F)."""
        shape = legal_actions.shape
        if self.noise == "zero":
            noise = features.new_zeros(shape)
        else:
            noise = team_noise(shape, features, self.shared_noise, generator)
        vectors = self.network.of_features(features, noise, legal_actions)
        return decode_actions(vectors, legal_actions, self.network.discrete)
