"""Cost of one update with memory: whole sequences at once against a loop over their steps.

    python benchmarks/recurrent_update.py

An update is loss, backward, Adam and the step of the target network of conservative Q-learning (``MACQL``) with a GRU,
on 32 sequences of 20 learning steps: independent learners (``mixer: none``) and QMIX. Both sides have the same
networks, with the sizes of OG-MARL's (a layer of 64, a GRU of 64, a linear head), the same weights, loss and optimiser;
the program stops if their losses differ.

- *step by step*: the whole network runs once per time step, time first, its memory reset where an episode has ended, as
  OG-MARL's baselines do.
- *sequences*: what ships. Linear layers see all steps at once, the GRU runs over the sequence
  (``lightning_modules/networks/recurrent.py``). No window crosses an end of an episode: there is nothing to reset.
- *sequences, torch.nn.GRU*: the same with PyTorch's own layer.
- *matrix products alone*: no update at all, only the products that both sides need for the networks of agents, forward
  and backward, without anything between them. How these are ordered cannot make an update quicker than that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from synthetic import SHAPES, Shape, labelled_windows, random_batch
from timing import arguments, comparison, take_turns
from torch import Tensor
from torch.nn import functional

from datamodules.batch import TeamBatch
from lightning_modules import MACQL
from lightning_modules.networks.actions import append_agent_id
from lightning_modules.networks.recurrent import GRU
from lightning_modules.networks.targets import polyak_update
from lightning_modules.networks.team_value import TeamActionValue, Utilities

SEQUENCES, STEPS = 32, 20
UPDATES_PER_TURN = 2
PLAIN = "step by step"


class StepByStep(TeamActionValue):
    """The same values, one time step after the other."""

    def utilities(self, obs: Tensor, state: Tensor, legal_actions: Tensor) -> Utilities:
        """See ``TeamActionValue``; resets are what OG-MARL's baselines get from the ends of episodes."""
        encoder = self.local.encoder
        inputs = append_agent_id(obs).transpose(0, 1)  # (T, B, N, F)
        steps, envs, agents, size = inputs.shape
        resets = torch.zeros(steps, envs * agents, 1, dtype=torch.bool)
        memory = inputs.new_zeros(envs * agents, encoder.memory_dim)
        weights = encoder.memory.layer.all_weights[0]
        features, values = [], []
        for step in range(steps):
            own = inputs[step].reshape(envs * agents, size)
            memory = torch.where(resets[step], torch.zeros_like(memory), memory)
            memory = torch.gru_cell(functional.relu(encoder.embedding(own)), memory, *weights)
            features.append(torch.cat([own, memory], dim=-1))
            values.append(self.local.all_of_features(features[-1]))

        def joined(parts: list[Tensor]) -> Tensor:
            return torch.stack(parts).view(steps, envs, agents, -1).transpose(0, 1)

        return Utilities(joined(values), joined(features), state, legal_actions)


class LibraryGRU(GRU):
    """PyTorch's layer, wherever it runs."""

    def forward(self, inputs: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See ``GRU``."""
        outputs, last = self.layer(inputs, None if memory is None else memory.unsqueeze(0))
        return outputs, last.squeeze(0)


class Learner:
    """Trains a module as Lightning would, without Lightning.

    Args:
        module: What is trained.
        batch: What it is trained on, again and again.
    """

    def __init__(self, module: MACQL, batch: TeamBatch) -> None:
        self.module, self._batch = module, batch
        self._optimizer = module.configure_optimizers()

    def loss(self) -> Tensor:
        """With the same random proposals every time."""
        losses = self.module.losses(self._batch, torch.Generator().manual_seed(0))
        return torch.stack(list(losses.values())).sum()

    def update(self) -> None:
        """One update."""
        self._optimizer.zero_grad()
        self.loss().backward()
        self._optimizer.step()
        for source, target, rate in self.module.target_pairs():
            polyak_update(source, target, rate)


def matrix_products(shape: Shape) -> Callable[[], None]:
    """What an update multiplies at least, in the order of ``sequences``; the numbers in the matrices do not matter."""
    memory, rows = 64, SEQUENCES * shape.n_agents
    steps, inputs = STEPS + 1, shape.obs_dim + shape.n_agents
    layers = [(inputs, memory), (memory, 3 * memory), (inputs + memory, shape.n_actions)]
    whole = [(torch.randn(steps * rows, i), torch.randn(i, o), torch.randn(steps * rows, o)) for i, o in layers]
    weight, before, slope = torch.randn(memory, 3 * memory), torch.randn(rows, memory), torch.randn(rows, 3 * memory)
    all_before, all_slopes = torch.randn(steps * rows, memory), torch.randn(steps * rows, 3 * memory)

    def multiply() -> None:
        for _ in ("trained", "target"):
            for known, matrix, _slope in whole:
                torch.mm(known, matrix)
            for _step in range(steps):
                torch.mm(before, weight)
        for known, matrix, slopes in whole:
            torch.mm(known.t(), slopes)
            torch.mm(slopes, matrix.t())
        for _step in range(steps):
            torch.mm(slope, weight.t())
        torch.mm(all_before.t(), all_slopes)

    return multiply


def learners(shape: Shape, mixer: str) -> dict[str, Learner]:
    """All variants for one scenario.

    Raises:
        RuntimeError: If they do not compute the same loss.
    """
    batch = random_batch(labelled_windows(shape, window=STEPS + 1), SEQUENCES)
    torch.manual_seed(0)
    penalty = "local" if mixer == "none" else "joint"
    options = {"mixer": mixer, "penalty": penalty, "n_proposals": 20, "hidden_dims": (), "encoder": "gru"}
    sizes = (shape.n_agents, shape.obs_dim, shape.state_dim, shape.n_actions)
    dims = dict(zip(("n_agents", "obs_dim", "state_dim", "action_dim"), sizes, strict=True))
    ours = MACQL(**dims, discrete=True, **options)
    with torch.no_grad():
        for parameter in ours.parameters():  # heads start at 0, which would hide differences
            parameter.add_(0.05 * torch.randn(parameter.shape))
    plain, library = copy.deepcopy(ours), copy.deepcopy(ours)
    for network in (plain.learner.q, plain.learner.target_q):
        network.__class__ = StepByStep
    for network in (library.learner.q, library.learner.target_q):
        network.local.encoder.memory.__class__ = LibraryGRU
    named = {PLAIN: plain, "sequences, torch.nn.GRU": library, "**sequences**": ours}
    made = {name: Learner(module, batch) for name, module in named.items()}
    losses = {name: float(learner.loss().detach()) for name, learner in made.items()}
    if max(losses.values()) - min(losses.values()) > 1e-4 * max(map(abs, losses.values())):
        raise RuntimeError(f"expected the same loss of all variants, got {losses}")
    return made


def main() -> None:
    """Prints one table per scenario and mixer."""
    options = arguments("Cost of one update with memory.", repeats=15)
    for shape in SHAPES:
        for mixer in ("none", "qmix"):
            updates = {name: learner.update for name, learner in learners(shape, mixer).items()}
            updates["matrix products alone"] = matrix_products(shape)
            seconds = take_turns(updates, options.repeats, UPDATES_PER_TURN, options.clock)
            title = f"{shape.name}, mixer {mixer}: {SEQUENCES} sequences of {STEPS} steps, {shape.n_agents} agents"
            comparison(title, seconds, PLAIN, unit=1e3, label="ms per update")


if __name__ == "__main__":
    main()
