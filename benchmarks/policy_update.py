"""Cost of one policy update: the guided MeanFlow against plain cloning by flow matching, and what its parts cost.

    python benchmarks/policy_update.py

An update is loss, backward, Adam (fused) and the step of the acting copy. All variants get the same recorded joint
steps and have networks of the same size; 80 % of the actions are labelled good, as with the default label.

- *plain flow matching*: behaviour cloning with the same network, (u(z, t, t) - (noise - action))² and nothing else.
- *VGM2P*: the shipped update. On top of the above: the network's own velocity on the rows with r < t, its derivative
  there, and its velocity under the null condition on the guided rows.
- *derivative on all rows*: no rows are plain flow matching (``flow_ratio: 1``).
- *torch.func.jvp*: the derivative by PyTorch's forward mode instead of the closed form.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from synthetic import SHAPES, Shape, labelled_windows, policy_stage, random_batch
from timing import arguments, comparison, take_turns
from torch import Tensor

from datamodules.batch import TeamBatch
from lightning_modules import VGM2P
from lightning_modules.flows import flow_matching, meanflow, path
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.actions import append_agent_id, encode_actions
from lightning_modules.networks.targets import polyak_update
from lightning_modules.networks.velocity import FlowContext, FlowTrace, VelocityNetwork

JOINT_STEPS = 256
UPDATES_PER_TURN = 4
PLAIN = "plain flow matching"

Loss = Callable[[VGM2P, TeamBatch, torch.Generator], Tensor]


class JvpVelocity(VelocityNetwork):
    """The same network, its derivative by PyTorch's forward mode."""

    def derivative(self, trace: FlowTrace, tangent: Tensor) -> Tensor:
        """See ``VelocityNetwork``."""

        def velocity(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
            return self(z, r, t, trace.context)

        with torch.no_grad():
            return meanflow.time_derivative(velocity, trace.z, trace.r, trace.t, tangent)[1]


class Learner:
    """Trains a module as Lightning would, without Lightning.

    Args:
        module: What is trained, in the policy's stage.
        loss: Its loss.
        batch: What it is trained on, again and again.
    """

    def __init__(self, module: VGM2P, loss: Loss, batch: TeamBatch) -> None:
        self._module, self._loss, self._batch = module, loss, batch
        self._optimizer = module.configure_optimizers()
        self._updates = 0

    def update(self) -> None:
        """One update."""
        generator = torch.Generator().manual_seed(self._updates)
        self._updates += 1
        self._optimizer.zero_grad()
        self._loss(self._module, self._batch, generator).backward()
        self._optimizer.step()
        for source, target, rate in self._module.target_pairs():
            polyak_update(source, target, rate)


def guided_meanflow(module: VGM2P, batch: TeamBatch, generator: torch.Generator) -> Tensor:
    """What ships."""
    return module.losses(batch, generator)["policy"]


def plain_flow_matching(module: VGM2P, batch: TeamBatch, generator: torch.Generator) -> Tensor:
    """Cloning by flow matching on the same rows: r = t, no condition, no guidance."""
    steps = joint_steps(batch, module.steps_per_update, generator)
    actions = encode_actions(steps.actions, module.action_dim, module.discrete).flatten(0, 1)
    rows = len(actions)
    context = FlowContext(
        obs=append_agent_id(steps.obs).flatten(0, 1),
        condition=torch.zeros(rows, 2),
        scale=torch.ones(rows, 1),
        legal_actions=steps.legal_actions.flatten(0, 1),
    )
    noise = torch.randn(actions.shape, generator=generator)
    t = module.min_time + (1 - module.min_time) * torch.rand((rows, 1), generator=generator)
    velocity = module.velocity(path.interpolate(actions, noise, t), t, t, context)
    error = flow_matching.flow_matching_loss(velocity, actions, noise)
    return (t.square() * error).sum(dim=-1).mean()  # in action space, like ours


def learners(shape: Shape) -> dict[str, Learner]:
    """All variants for one scenario."""
    dataset = labelled_windows(shape, window=2)
    batch = random_batch(dataset, JOINT_STEPS)

    def learner(loss: Loss, kind: type[VelocityNetwork] = VelocityNetwork, flow_ratio: float = 0.5) -> Learner:
        module = policy_stage(shape, dataset, flow_ratio=flow_ratio)
        module.velocity.__class__ = kind  # the same weights, another derivative
        return Learner(module, loss, batch)

    return {
        PLAIN: learner(plain_flow_matching),
        "**VGM2P**": learner(guided_meanflow),
        "VGM2P, torch.func.jvp": learner(guided_meanflow, JvpVelocity),
        "VGM2P, derivative on all rows": learner(guided_meanflow, flow_ratio=1.0),
        "VGM2P, torch.func.jvp on all rows": learner(guided_meanflow, JvpVelocity, flow_ratio=1.0),
    }


def main() -> None:
    """Prints one table per scenario."""
    options = arguments("Cost of one policy update.", repeats=15)
    for shape in SHAPES:
        updates = {name: learner.update for name, learner in learners(shape).items()}
        seconds = take_turns(updates, options.repeats, UPDATES_PER_TURN, options.clock)
        title = f"{shape.name}: {JOINT_STEPS} joint steps of {shape.n_agents} agents, observations of {shape.obs_dim}"
        comparison(title, seconds, PLAIN, unit=1e3, label="ms per update")


if __name__ == "__main__":
    main()
