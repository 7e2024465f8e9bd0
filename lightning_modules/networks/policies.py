"""What acts: from observations to actions, without Lightning, dataset or simulator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from lightning_modules.flows import guidance, meanflow
from lightning_modules.networks.actions import decode_actions, mask_illegal
from lightning_modules.networks.critics import LocalActionValue
from lightning_modules.networks.encoders import Encoder, EncoderKind
from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.noise import Noise, standard_normal, team_noise
from lightning_modules.networks.velocity import FlowContext, VelocityNetwork


class Policy(Protocol):
    """Acts for all agents of many environment copies at once; each agent uses its own observation only.

    Memory and randomness are arguments and results, never hidden attributes: two rollouts with equal generators are
    equal, and an evaluation cannot disturb training.
    """

    @property
    def network_calls(self) -> int:
        """Forward passes of the network that one decision costs."""
        ...

    def initial_state(self, n_envs: int) -> Any:
        """The memory with which an episode begins; ``None`` for policies without memory."""
        ...

    def act(
        self, obs: Tensor, legal_actions: Tensor, state: Any, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Any]:
        """Chooses actions.

        Args:
            obs: (E, N, O) float32.
            legal_actions: (E, N, A) bool.
            state: Memory from ``initial_state`` or the last call.
            generator: Source of all randomness; torch's global one if None.

        Returns:
            Actions, (E, N) int64 or (E, N, A) float32 in [-1, 1], and the new memory.
        """
        ...


@dataclass(frozen=True)
class StandardisedPolicy:
    """A policy that was trained on standardised observations, for those of an environment.

    Attributes:
        policy: The trained policy.
        mean: Mean of each entry of an observation, (O,).
        std: Standard deviation of each entry, (O,).
    """

    policy: Policy
    mean: Tensor
    std: Tensor

    @property
    def network_calls(self) -> int:
        """Forward passes of the network that one decision costs."""
        return self.policy.network_calls

    def initial_state(self, n_envs: int) -> Any:
        """The memory with which an episode begins."""
        return self.policy.initial_state(n_envs)

    def act(
        self, obs: Tensor, legal_actions: Tensor, state: Any, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Any]:
        """Chooses actions; see ``Policy``."""
        return self.policy.act((obs - self.mean) / self.std, legal_actions, state, generator)


class ActionHead(nn.Module):
    """A network with one output vector per agent: logits of a choice, or the mean of a continuous action.

    Args:
        n_agents: Number of agents N.
        obs_dim: Observation size O.
        action_dim: Number of actions, or size of the action vector.
        discrete: Whether outputs are logits; otherwise they are means in [-1, 1] through tanh.
        hidden_dims: Widths of the hidden blocks.
        encoder: Whether the network sees the present observation (``mlp``) or remembers (``gru``).
        memory_dim: Size of the memory.
    """

    def __init__(
        self,
        n_agents: int,
        obs_dim: int,
        action_dim: int,
        discrete: bool,
        hidden_dims: Sequence[int],
        encoder: EncoderKind = "mlp",
        memory_dim: int = 64,
    ) -> None:
        super().__init__()
        self.discrete = discrete
        self.encoder = Encoder(obs_dim, n_agents, encoder, memory_dim)
        self.mlp = MLP(self.encoder.features_dim, hidden_dims, action_dim)
        # Starts at a deviation of .37, a usual width of recorded exploration noise.
        self.log_std = nn.Parameter(torch.full((action_dim,), -1.0), requires_grad=not discrete)

    def forward(self, obs: Tensor) -> Tensor:
        """Logits or means (…, N, A) of observations (…, N, O)."""
        return self.of_features(self.encoder(obs))

    def of_features(self, features: Tensor) -> Tensor:
        """The same from the encoder's features (…, N, F), for whoever has them already."""
        output: Tensor = self.mlp(features)
        return output if self.discrete else output.tanh()

    def log_prob(self, features: Tensor, actions: Tensor, legal_actions: Tensor) -> Tensor:
        """Log-likelihood (…, N) of recorded actions, (…, N) int64 or (…, N, A), given the encoder's features."""
        output = self.of_features(features)
        if self.discrete:
            logs = mask_illegal(output, legal_actions).log_softmax(dim=-1)
            return logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        log_std = self.log_std.clamp(-5.0, 2.0)
        standard = (actions - output) / log_std.exp()
        entries = standard.square() / 2 + log_std + math.log(2 * math.pi) / 2
        # What only pads an action is always the same, and would drive the deviation that agents share to 0
        return -entries.masked_fill(~legal_actions, 0.0).sum(dim=-1)


@dataclass(frozen=True)
class HeadPolicy:
    """Acts from an ``ActionHead``: samples, or takes the most likely action.

    Attributes:
        network: The head.
        sample: Sample the distribution; otherwise its mode (argmax over legal actions, or the mean).
    """

    network: ActionHead
    sample: bool = True
    network_calls: int = 1

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
        output = self.network.of_features(features)
        if not self.network.discrete:
            if self.sample:
                std = self.network.log_std.clamp(-5.0, 2.0).exp()
                output = output + std * standard_normal(output.shape, output, generator)
            return decode_actions(output, legal_actions, discrete=False)
        logits = mask_illegal(output, legal_actions)
        if not self.sample:
            return logits.argmax(dim=-1)
        chances = logits.softmax(dim=-1)
        choice = torch.multinomial(chances.flatten(0, -2), 1, generator=generator)
        return choice.view(chances.shape[:-1])


@dataclass(frozen=True)
class GreedyPolicy:
    """Takes the legal action of the largest value; without chance.

        a_i = argmax_{a legal} Q_i(o_i, a)

    Attributes:
        network: Values of all choices.
    """

    network: LocalActionValue
    network_calls: int = 1

    def initial_state(self, n_envs: int) -> Tensor | None:
        """The encoder's memory, if it has one."""
        return self.network.encoder.initial_memory(n_envs)

    def act(
        self, obs: Tensor, legal_actions: Tensor, state: Tensor | None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See ``Policy.act``."""
        features, state = self.network.encoder.step(obs, state)
        return self.choose(features, legal_actions), state

    def choose(self, features: Tensor, legal_actions: Tensor) -> Tensor:
        """Choices (…, N) given the encoder's features (…, N, F)."""
        return mask_illegal(self.network.all_of_features(features), legal_actions).argmax(dim=-1)


def sampled_and_mode(head: ActionHead) -> dict[str, HeadPolicy]:
    """The two ways in which a cloned head acts, by the names of their rows in the table of an evaluation."""
    return {"policy, sampled": HeadPolicy(head), "policy, mode": HeadPolicy(head, sample=False)}


@dataclass(frozen=True)
class FlowPolicy:
    """Draws actions from a conditional MeanFlow: x = z - u(z, 0, 1 | o, i, c, w), one network call by default.

    Attributes:
        network: Average velocity; its EMA copy acts.
        condition: (value, known) shown to the network: (1, 1) asks for good actions, (0, 0) clones the data.
        guidance_scale: w. 1 samples the conditional model, larger moves further from the data towards what set good
            actions apart. Ignored under the null condition.
        placement: Where guidance happens: ``input`` gives w to the network; ``train`` has it built in; ``test``
            combines a conditional and an unconditional call.
        noise: ``normal`` draws z from N(0, I); ``zero`` starts from 0 and is deterministic.
        shared_noise: All agents of a team use the same z: a common seed, not communication.
        steps: Network steps from t = 1 to t = 0.
    """

    network: VelocityNetwork
    condition: tuple[float, float] = (1.0, 1.0)
    guidance_scale: float = 1.0
    placement: Literal["train", "input", "test"] = "input"
    noise: Noise = "normal"
    shared_noise: bool = False
    steps: int = 1

    @property
    def network_calls(self) -> int:
        """Forward passes per decision."""
        return self.steps * (2 if self._guided_at_test else 1)

    @property
    def _guided_at_test(self) -> bool:
        return self.placement == "test" and self.condition != (0.0, 0.0) and self.guidance_scale != 1.0

    def unconditional(self) -> FlowPolicy:
        """The same network under the null condition: behaviour cloning."""
        return replace(self, condition=(0.0, 0.0), guidance_scale=1.0)

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

        vectors = meanflow.sample(velocity, noise, self.steps).view(shape)
        return decode_actions(vectors, legal_actions, self.network.discrete), state

    def _context(self, features: Tensor, legal_actions: Tensor) -> FlowContext:
        value, known = self.condition
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
