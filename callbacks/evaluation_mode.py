"""Looking at a module in training without leaving a trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """No gradients and evaluation mode inside; afterwards every submodule is in the mode it was in.

    ``module.train()`` afterwards would not do: it also switches submodules that were kept in evaluation mode.

    Args:
        module: The module to look at.
    """
    modes = {submodule: submodule.training for submodule in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for submodule, training in modes.items():
            submodule.training = training
