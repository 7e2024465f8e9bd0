"""Time of one decision: the policies of the project against a bare forward of their network.

    python benchmarks/decision_latency.py

A decision is ``Policy.act`` for all agents of all environment copies: from observations to executable actions, noise,
agent numbers and legality included. The baseline is the forward of an MLP with the flow network's layers on inputs
that are ready, rows = copies x agents. Everything above a ratio of 1 is what the policy adds to its network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from synthetic import SHAPES, Shape, labelled_windows, policy_stage
from timing import Work, arguments, comparison, take_turns

from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.policies import ActionHead, HeadPolicy, Policy

HIDDEN_DIMS = (192, 192, 192)
CALLS = {1: 20, 256: 2}  # decisions per turn, by number of environment copies
BASELINE = "bare MLP forward"


def decisions(shape: Shape, copies: int) -> dict[str, Work]:
    """What is timed for one scenario and number of environment copies."""
    dataset = labelled_windows(shape, window=2, episodes=1 + copies // shape.length)
    batch = dataset[torch.arange(copies)]
    obs, legal_actions = batch.obs[:, 0], batch.legal_actions[:, 0]
    module = policy_stage(shape, dataset, hidden_dims=HIDDEN_DIMS)
    flow = module.policy
    head = ActionHead(module.shape, HIDDEN_DIMS)
    return {
        BASELINE: _forward(module.velocity.mlp, HIDDEN_DIMS, copies * shape.n_agents),
        "**FlowPolicy**, one step": _decision(flow, obs, legal_actions),
        "FlowPolicy, noise 0": _decision(replace(flow, noise="zero"), obs, legal_actions),
        "FlowPolicy, guidance at test time (two calls)": _decision(replace(flow, placement="test"), obs, legal_actions),
        "FlowPolicy, four steps": _decision(replace(flow, steps=4), obs, legal_actions),
        "HeadPolicy, sampled": _decision(HeadPolicy(head), obs, legal_actions),
        "HeadPolicy, mode": _decision(HeadPolicy(head, sample=False), obs, legal_actions),
    }


def _forward(like: MLP, hidden_dims: Sequence[int], rows: int) -> Work:
    """Forward of a network with the same layers."""
    first = like.linears[0]
    assert isinstance(first, torch.nn.Linear)
    mlp = MLP(first.in_features, hidden_dims, like.head.out_features)
    inputs = torch.randn(rows, first.in_features)
    return torch.no_grad()(lambda: mlp(inputs))


def _decision(policy: Policy, obs: torch.Tensor, legal_actions: torch.Tensor) -> Work:
    """One decision for all copies."""
    generator = torch.Generator().manual_seed(0)
    state = policy.initial_state(len(obs))
    return torch.no_grad()(lambda: policy.act(obs, legal_actions, state, generator))


def main() -> None:
    """Prints one table per scenario and number of environment copies."""
    options = arguments("Time of one decision.", repeats=15)
    for shape in SHAPES:
        for copies, calls in CALLS.items():
            seconds = take_turns(decisions(shape, copies), options.repeats, calls, options.clock)
            title = f"{shape.name}, environment copies: {copies} ({copies * shape.n_agents} rows)"
            comparison(title, seconds, BASELINE, unit=1e3, label="ms per decision", digits=3)


if __name__ == "__main__":
    main()
