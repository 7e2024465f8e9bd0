"""Lagged copies of networks and frozen forwards."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def target_copy(source: Module) -> Module:
    """A copy that shares no storage with its source and never receives gradients."""
    return copy.deepcopy(source).requires_grad_(False)


@torch.no_grad()
def polyak_update(source: nn.Module, target: nn.Module, rate: float) -> None:
    """Moves every parameter of the target towards the source.

    θ̄ <- (1 - τ) θ̄ + τ θ        (Lillicrap et al., arXiv:1509.02971, Algorithm 1)

    After k updates towards a constant the target has covered 1 - (1 - τ)^k of the way.

    Args:
        source: The trained network θ.
        target: Its lagged copy θ̄, changed in place.
        rate: τ in (0, 1]; 1 copies.
    """
    targets: list[Tensor] = list(target.parameters())
    sources: list[Tensor] = list(source.parameters())
    torch._foreach_lerp_(targets, sources, rate)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Gradients flow through the modules to their inputs, but not into their parameters."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
