"""Early stopping without stopping: a stage goes back to the weights that did best on held-out episodes."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation_mode import evaluating
from datamodules.batch import TeamBatch
from lightning_modules.advantage_module import AdvantageModule


class BestInStage:
    """The best weights so far of the networks that a stage trains, by their error on held-out episodes.

    A critic trained too long remembers its episodes, and its advantages are then about memories; nothing in the
    training loss shows it. The number of updates stays fixed, so that runs remain comparable.
    """

    def __init__(self) -> None:
        self.error = float("inf")
        self.update = 0
        self.last_error = float("nan")
        self._weights: dict[str, Tensor] = {}

    def check(self, module: AdvantageModule, batches: Iterable[TeamBatch], update: int) -> float:
        """Measures the error on held-out batches and keeps the weights if it is the smallest so far.

        Args:
            module: In a stage that has something to measure.
            batches: Held-out windows, on the module's device.
            update: Number of updates done.

        Returns:
            The error, averaged over batches.
        """
        trained = module.trained_in_stage()
        assert trained is not None, "asked in the stages before the policy's only"
        with evaluating(module):
            errors = [module.held_out_error(batch) for batch in batches]
        self.last_error = float(torch.stack([error for error in errors if error is not None]).mean())
        if self.last_error < self.error:
            self.error, self.update = self.last_error, update
            self._weights = {name: value.detach().clone() for name, value in trained.state_dict().items()}
        return self.last_error

    def restore(self, module: AdvantageModule) -> bool:
        """Puts the best weights back, if any were kept, and forgets them; the next stage begins anew.

        Returns:
            Whether there were any.
        """
        trained = module.trained_in_stage()
        kept = bool(self._weights) and trained is not None
        if kept and trained is not None:
            trained.load_state_dict(self._weights)
        self.error, self.update, self._weights = float("inf"), 0, {}
        return kept

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint; tensors and numbers only."""
        return {"error": self.error, "update": self.update, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint."""
        self.error, self.update, self._weights = state["error"], state["update"], state["weights"]
