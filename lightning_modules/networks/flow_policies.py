"""Acting by following a flow, from noise to an action, in one step or in many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lightning_modules.flows import flow_matching, guidance, meanflow
from lightning_modules.networks.actions import decode_actions
from lightning_modules.networks.noise import Noise, team_noise
from lightning_modules.networks.velocity import FlowContext, VelocityNetwork

Solver = Literal["meanflow", "euler"]


@dataclass(frozen=True)
class FlowPolicy:
    """Draws actions from a flow under a condition, one or two network calls per step.

        meanflow    z <- z - (t - r) u(z, r, t | o, i, c, w)    exact for the exact u, in any number K of steps
        euler       z <- z - v(z, t | o, i, c) / K              v = u(z, t, t), the velocity of an instant

    Attributes:
        network: Velocity; its EMA copy acts.
        condition: (value, known) shown to the network: (1, 1) asks for good actions, (0, 0) clones the data.
        guidance_scale: w. 0 is the null condition, 1 samples the conditional model, larger moves further from the data
            towards what set good actions apart. Ignored under the null condition.
        placement: Where guidance happens: ``input`` gives w to the network; ``train`` has it built in; ``test``
            combines a conditional and an unconditional call.
        noise: ``normal`` draws z from N(0, I); ``zero`` starts from 0 and is deterministic.
        shared_noise: All agents of a team use the same z: a common seed, not communication.
        steps: K, at least 1.
        solver: Which of the two.
    """

    network: VelocityNetwork
    condition: tuple[float, float] = (1.0, 1.0)
    guidance_scale: float = 1.0
    placement: Literal["train", "input", "test"] = "input"
    noise: Noise = "normal"
    shared_noise: bool = False
    steps: int = 1
    solver: Solver = "meanflow"

    @property
    def network_calls(self) -> int:
        """Forward passes per decision."""
        return self.steps * (2 if self._guided_at_test else 1)

    @property
    def _null(self) -> bool:
        return self.condition == (0.0, 0.0) or (self.guidance_scale == 0 and self.placement != "train")

    @property
    def _guided_at_test(self) -> bool:
        return self.placement == "test" and not self._null and self.guidance_scale != 1.0

    def unconditional(self) -> FlowPolicy:
        """The same network under the null condition: behaviour cloning."""
        return replace(self, condition=(0.0, 0.0), guidance_scale=1.0)

    def with_other_noise(self) -> dict[str, FlowPolicy]:
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
        """See ``Policy.act``; all agents of all copies go through the network together."""
        features, state = self.network.encoder.step(obs, state)
        context = self._context(features.flatten(0, -2), legal_actions)
        shape = (*obs.shape[:-1], self.network.action_dim)
        noise = self._draw_noise(shape, obs, generator).flatten(0, -2)

        def velocity(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
            if not self._guided_at_test:
                return self.network(z, r, t, context)  # type: ignore[no-any-return]
            plain = self.network(z, r, t, context.unconditional())
            return guidance.guide(plain, self.network(z, r, t, context), self.guidance_scale)

        if self.solver == "euler":
            vectors = flow_matching.euler(lambda z, t: velocity(z, t, t), noise, self.steps)
        else:
            vectors = meanflow.sample(velocity, noise, self.steps)
        return decode_actions(vectors.view(shape), legal_actions, self.network.discrete), state

    def _context(self, features: Tensor, legal_actions: Tensor) -> FlowContext:
        value, known = (0.0, 0.0) if self._null else self.condition
        scale = self.guidance_scale if self.placement == "input" and known else 1.0
        return FlowContext(
            obs=features,
            condition=features.new_tensor([value, known]).expand(len(features), 2),
            scale=features.new_full((len(features), 1), scale),
            legal_actions=legal_actions.flatten(0, -2),
        )

    def _draw_noise(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.noise == "zero":
            return like.new_zeros(shape)
        return team_noise(shape, like, self.shared_noise, generator)
