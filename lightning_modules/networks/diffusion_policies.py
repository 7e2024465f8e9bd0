"""Acting by taking the noise out of an action, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from lightning_modules.flows.diffusion import DiffusionSampler, sample
from lightning_modules.flows.noise_schedules import visited_levels
from lightning_modules.networks.actions import decode_actions, encode_actions
from lightning_modules.networks.critics import LocalValue
from lightning_modules.networks.denoiser import Denoiser
from lightning_modules.networks.encoders import Encoder
from lightning_modules.networks.local_critics import LocalCritics
from lightning_modules.networks.noise import Noise, team_noise

Memories = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class DiffusionPolicy:
    """Draws actions from a diffusion; among several candidates, one whose value is large more often than the others.

        candidate p of agent i    x_p, at the end of S steps from noise
        what is done              one of them, with chances in proportion to exp(min_k Q_k(o_i, x_p))

    (Diffusion-QL, Wang et al., arXiv:2208.06193.)

    Attributes:
        network: Finds actions in noise.
        steps: S, network calls of a sample, at most the network's levels.
        sampler: See ``flows.diffusion.sample``.
        eta: How much chance the steps of ``ddim`` have, in [0, 1].
        noise: ``normal`` draws from N(0, I); ``zero`` has zeros in place of all noise, so that a single candidate is
            deterministic.
        shared_noise: All agents of a team use the same draws, everywhere: first noise, noise in between, and the draw
            among candidates. A common seed, not communication.
        critics: Q_k, needed for more than one candidate.
        candidates: How many.
    """

    network: Denoiser
    steps: int
    sampler: DiffusionSampler = "ddpm"
    eta: float = 0.0
    noise: Noise = "normal"
    shared_noise: bool = False
    critics: LocalCritics | None = None
    candidates: int = 1

    @property
    def network_calls(self) -> int:
        """Forward passes per decision: S, and one of each critic. Candidates go through side by side, as one batch."""
        return self.steps + (len(self._judges.members) if self.candidates > 1 else 0)

    @property
    def _judges(self) -> LocalCritics:
        assert self.critics is not None, "candidates are judged by critics"
        return self.critics

    @property
    def _encoders(self) -> Sequence[Encoder]:
        judges = self._judges.members if self.candidates > 1 else ()
        return (self.network.encoder, *(cast(LocalValue, member).encoder for member in judges))

    def with_other_noise(self) -> dict[str, DiffusionPolicy]:
        """The same with the noise that it does not have, by the names of their rows in the table of an evaluation."""
        other = replace(self, noise="normal", shared_noise=not self.shared_noise)
        return {
            "policy, zero noise": replace(self, noise="zero", candidates=1),
            f"policy, {'shared' if other.shared_noise else 'own'} noise": other,
        }

    def initial_state(self, n_envs: int) -> Memories:
        """The memories of the network, and of critics that judge candidates, if they have any."""
        return tuple(encoder.initial_memory(n_envs) for encoder in self._encoders)

    def act(
        self, obs: Tensor, legal_actions: Tensor, state: Memories, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Memories]:
        """See ``Policy.act``; all candidates of all agents of all copies go through the network together."""
        stepped = [encoder.step(obs, memory) for encoder, memory in zip(self._encoders, state, strict=True)]
        features, *judging = (known for known, _ in stepped)
        discrete = self.network.discrete
        vectors = self.generate(features, legal_actions, self.candidates, generator)  # (P, E, N, A)
        drawn = decode_actions(vectors, legal_actions, discrete)
        memories = tuple(memory for _, memory in stepped)
        if self.candidates == 1:
            return drawn.squeeze(0), memories
        executable = encode_actions(drawn, self.network.action_dim, discrete).to(vectors.dtype)
        values = self._judges.of_features(judging, executable).amin(dim=0)  # (P, E, N)
        chosen = self._drawn_candidate(values, generator)
        if not discrete:
            chosen = chosen.unsqueeze(-1).expand(1, *drawn.shape[1:])
        return drawn.gather(0, chosen).squeeze(0), memories

    def generate(
        self, features: Tensor, legal_actions: Tensor, count: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws action vectors; gradients pass through the whole chain.

        Args:
            features: From the network's encoder, (…, N, F).
            legal_actions: (…, N, A) bool.
            count: P, how many for each agent.
            generator: Source of all noise.

        Returns:
            x in [-1, 1], (P, …, N, A).
        """
        shape, network = (count, *legal_actions.shape), self.network

        def draw() -> Tensor:
            if self.noise == "zero":
                return features.new_zeros(shape)
            return team_noise(shape, features, self.shared_noise, generator)

        def endpoint(z: Tensor, level: int) -> Tensor:
            return network.predicted(z, level, features, legal_actions)

        levels = visited_levels(network.levels, self.steps)
        return sample(endpoint, draw(), network.kept, levels, self.sampler, draw, self.eta)

    def _drawn_candidate(self, values: Tensor, generator: torch.Generator | None) -> Tensor:
        """Numbers (1, E, N) of candidates, drawn in proportion to exp(values), values (P, E, N).

        The largest of Q_p - log(w_p) with w_p from the exponential distribution: agents that share noise share all w.
        """
        shape = (*values.shape[:-1], 1) if self.shared_noise else values.shape
        waits = values.new_empty(shape).exponential_(generator=generator)
        scores = values - waits.clamp(min=torch.finfo(waits.dtype).tiny).log()
        return scores.argmax(dim=0, keepdim=True)
