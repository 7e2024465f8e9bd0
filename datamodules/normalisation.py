"""Standardise observations and states: fitted on the training split, with its inverse."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONSTANT = 1e-6  # a spread below this share of the column's mean is float32 rounding, not information
CHUNK = 65_536  # rows at a time, so that the float64 intermediate values stay small


@dataclass(frozen=True)
class Standardisation:
    """Shift and scale every column to mean 0 and standard deviation 1.

    y = (x - mean) / std, and back: x = y * std + mean. A column that does not vary keeps the scale 1, so that it
    becomes 0 and an unseen value does not explode.

    Attributes:
        mean: Mean of each column, shape (D,) float32.
        std: Standard deviation of each column (population, dividing by the number of rows), shape (D,) float32; 1
            where constant.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def fit(cls, values: NDArray[np.float32]) -> "Standardisation":
        """Measure the columns.

        Args:
            values: Shape (..., D); all axes but the last are pooled, so agents share their statistics as they share
                weights.

        Returns:
            The fitted transformation.

        Raises:
            ValueError: If there is no row to measure.
        """
        rows = values.reshape(-1, values.shape[-1])
        if len(rows) == 0:
            raise ValueError(f"expected at least one row to fit a standardisation on, got shape {values.shape}")
        mean = rows.mean(axis=0, dtype=np.float64)
        chunks = (rows[first : first + CHUNK] - mean for first in range(0, len(rows), CHUNK))
        std = np.sqrt(sum(np.einsum("rd,rd->d", chunk, chunk) for chunk in chunks) / len(rows))
        std = np.where(std > CONSTANT * np.abs(mean), std, 1.0)
        return cls(mean.astype(np.float32), std.astype(np.float32))

    def transform(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardised values.

        Args:
            values: Shape (..., D), in the data's own unit.

        Returns:
            The same shape; on the data that was fitted each column has mean 0 and standard deviation 1 (0 if constant).
        """
        return (values - self.mean) / self.std

    def inverse(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Undo ``transform``.

        Args:
            values: Standardised, shape (..., D).

        Returns:
            The same shape, in the data's own unit.
        """
        return values * self.std + self.mean
