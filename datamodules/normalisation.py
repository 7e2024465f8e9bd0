"""Standardise observations and states: fitted on the training split, with its inverse."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONSTANT = 1e-6  # a spread below this share of the column's mean is float32 rounding, not information


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
    def fit(cls, pieces: Iterable[NDArray[np.float32]]) -> "Standardisation":
        """Measure the columns in one pass, so that the values need not fit into memory.

        Means and sums of squares of the pieces are merged as in Chan, Golub and LeVeque (1979): with n values so far
        and m new ones, whose means differ by δ, the sum of squared deviations grows by that of the piece and by δ²
        n m / (n + m).

        Args:
            pieces: Arrays of shape (..., D) each; all axes but the last are pooled, so agents share their statistics
                as they share weights.

        Returns:
            The fitted transformation.

        Raises:
            ValueError: If there is no row to measure.
        """
        count, mean, squares = 0, np.zeros(()), np.zeros(())
        for piece in pieces:
            rows = piece.reshape(-1, piece.shape[-1]).astype(np.float64)
            if not len(rows):
                continue
            piece_mean = rows.mean(axis=0)
            rows -= piece_mean
            shift, total = piece_mean - mean, count + len(rows)
            squares = squares + np.einsum("rd,rd->d", rows, rows) + shift**2 * (count * len(rows) / total)
            mean, count = mean + shift * (len(rows) / total), total
        if not count:
            raise ValueError("expected at least one row to fit a standardisation on, got none; hold out fewer episodes")
        std = np.sqrt(squares / count)
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
