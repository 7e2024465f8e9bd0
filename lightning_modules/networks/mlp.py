"""Multi-layer perceptron whose directional derivative is available in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class BlockTrace(NamedTuple):
    """What one hidden block leaves behind for its derivative, R rows of width D, detached.

    Attributes:
        value: Input of LayerNorm, (R, D).
        mean: Its mean, (R, 1).
        rstd: One over its standard deviation, (R, 1).
        normalised: Input of GELU, (R, D).
    """

    value: Tensor
    mean: Tensor
    rstd: Tensor
    normalised: Tensor

    def rows(self, index: Tensor) -> BlockTrace:
        """The rows of an index (K,) of int64."""
        return BlockTrace(*(field.index_select(0, index) for field in self))


Trace = tuple[BlockTrace, ...]


class MLP(nn.Module):
    """Linear, LayerNorm and GELU blocks, then a linear head.

    GELU is smooth, so the derivative that MeanFlow needs is smooth too (a ReLU's would be piecewise constant).

    Args:
        input_dim: Size of the last axis of the input.
        hidden_dims: Width of each hidden block; empty for a linear map.
        output_dim: Size of the last axis of the output.
    """

    def __init__(self, input_dim: int, hidden_dims: Sequence[int], output_dim: int) -> None:
        super().__init__()
        dims = [input_dim, *hidden_dims]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))
        self.norms = nn.ModuleList(nn.LayerNorm(b) for b in dims[1:])
        self.head = nn.Linear(dims[-1], output_dim)

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps inputs (…, input_dim) to outputs (…, output_dim)."""
        hidden = inputs
        for linear, norm in self._blocks():
            hidden = functional.gelu(norm(linear(hidden)))
        output: Tensor = self.head(hidden)
        return output

    def _blocks(self) -> Iterator[tuple[nn.Linear, nn.LayerNorm]]:
        for linear, norm in zip(self.linears, self.norms, strict=True):
            yield cast(nn.Linear, linear), cast(nn.LayerNorm, norm)

    def forward_with_trace(self, inputs: Tensor) -> tuple[Tensor, Trace]:
        """As ``forward``, on inputs (R, input_dim), and what ``tangent`` needs to know about these points."""
        hidden, blocks = inputs, []
        for linear, norm in self._blocks():
            value = linear(hidden)
            shape = list(norm.normalized_shape)
            normalised, mean, rstd = torch.native_layer_norm(value, shape, norm.weight, norm.bias, norm.eps)
            hidden = functional.gelu(normalised)
            blocks.append(BlockTrace(value.detach(), mean, rstd, normalised.detach()))
        output: Tensor = self.head(hidden)
        return output, tuple(blocks)

    @torch.no_grad()
    def tangent(self, trace: Trace, direction: Tensor) -> Tensor:
        """Derivative of the output along a direction, at points where ``forward_with_trace`` has been.

        Every layer maps dx to f'(x) dx with x from the trace, so that only tangents have to go through the linear
        layers. The kernels that PyTorch runs backward through GELU and LayerNorm also give the forward derivative,
        because the Jacobian of GELU is diagonal and that of the normalisation is symmetric. Same values as
        ``torch.func.jvp`` at a fraction of its cost (``benchmarks/``).

        Args:
            trace: The points, R rows.
            direction: Shape (R, K). Where K is less than ``input_dim``, the inputs behind the K-th do not move.

        Returns:
            Directional derivatives, (R, output_dim), detached.
        """
        slope = direction
        for (linear, norm), block in zip(self._blocks(), trace, strict=True):
            slope = slope @ linear.weight[:, : slope.shape[1]].T
            shape = list(norm.normalized_shape)
            # Without the gain, d(normalised)/dx = (I - 11'/D - x̂x̂'/D) / σ equals its transpose: backward is forward.
            slope, _, _ = torch.ops.aten.native_layer_norm_backward(
                slope, block.value, shape, block.mean, block.rstd, None, None, [True, False, False]
            )
            slope = torch.ops.aten.gelu_backward(slope * norm.weight, block.normalised)
        return slope @ self.head.weight[:, : slope.shape[1]].T
