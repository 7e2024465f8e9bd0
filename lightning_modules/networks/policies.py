"""What acts: from observations to actions, without Lightning, dataset or simulator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lightning_modules.networks.actions import decode_actions, mask_illegal
from lightning_modules.networks.critics import LocalActionValue
from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.noise import standard_normal
from lightning_modules.networks.team_shape import TeamShape


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
    """A network with one output vector per agent: logits of a choice, or a continuous action's mean through tanh.

    Args:
        shape: The team's sizes and memory.
        hidden_dims: Widths of the hidden blocks.
    """

    def __init__(self, shape: TeamShape, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.discrete = shape.discrete
        self.encoder = shape.agent_encoder()
        self.mlp = MLP(self.encoder.features_dim, hidden_dims, shape.action_dim)
        # Starts at a deviation of .37, a usual width of recorded exploration noise.
        self.log_std = nn.Parameter(torch.full((shape.action_dim,), -1.0), requires_grad=not shape.discrete)

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
