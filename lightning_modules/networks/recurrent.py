"""A GRU over whole sequences that is quick on processors, too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class GRU(nn.Module):
    """One layer of ``torch.nn.GRU`` over sequences, with its parameters (``layer``) and its numbers.

        r, z = σ(W_r x + U_r h), σ(W_z x + U_z h);   n = tanh(W_n x + r * U_n h);   h' = (1 - z) n + z h

    (Cho et al., 2014, arXiv:1406.1078; biases left out.) On a GPU PyTorch runs cuDNN's fused kernel. On a processor it
    builds a graph of small operations for every step. Here a step is five of them, in one buffer, and its derivative,
    written out, four: whatever does not depend on the neighbouring step is computed for the whole sequence at once.

    Args:
        input_dim: Size D of an input.
        hidden_dim: Size H of the memory.
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.layer = nn.GRU(input_dim, hidden_dim)

    def forward(self, inputs: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Runs over sequences.

        Args:
            inputs: (T, R, D), time first.
            memory: Before the first step, (R, H); zeros if None.

        Returns:
            Memories after each step, (T, R, H), and after the last, (R, H).
        """
        if memory is None:
            memory = inputs.new_zeros(inputs.shape[1], self.layer.hidden_size)
        if inputs.device.type != "cpu":
            outputs, last = self.layer(inputs, memory.unsqueeze(0))
            return outputs, last.squeeze(0)
        # PyTorch does not know that a function of ours returns a tensor
        outputs = _Recurrence.apply(inputs, memory, *self.layer.all_weights[0])  # type: ignore[no-untyped-call]
        return outputs, outputs[-1]


class _Recurrence(torch.autograd.Function):
    """A GRU over a sequence.

    One buffer (T, R, 4H) holds what a step computes; W x adds to its first three blocks, U h to the last three::

        n | r | z | U_n h
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        memory: Tensor,
        input_weight: Tensor,
        weight: Tensor,
        input_bias: Tensor,
        bias: Tensor,
    ) -> Tensor:
        steps, rows, width = inputs.shape[0], inputs.shape[1], memory.shape[1]
        inputs = inputs.to(memory.dtype)  # of lower precision under autocast
        buffer = inputs.new_empty(steps, rows, 4 * width)
        flat = buffer.view(steps * rows, 4 * width)
        # PyTorch's order is r, z, n
        input_weight = input_weight.roll(width, dims=0)
        start = input_bias.roll(width)
        start[width:] += bias[: 2 * width]
        torch.addmm(start, inputs.reshape(steps * rows, -1), input_weight.t(), out=flat[:, : 3 * width])
        flat[:, 3 * width :] = bias[2 * width :]
        outputs = inputs.new_empty(steps, rows, width)
        n, r, z, candidate = (block.unbind(0) for block in buffer.view(steps, rows, 4, width).unbind(2))
        switches, recurrent = buffer[..., width : 3 * width].unbind(0), buffer[..., width:].unbind(0)
        previous, transposed = memory, weight.t()
        for step, after in enumerate(outputs.unbind(0)):
            recurrent[step].addmm_(previous, transposed)
            switches[step].sigmoid_()
            n[step].addcmul_(r[step], candidate[step]).tanh_()
            previous = torch.lerp(n[step], previous, z[step], out=after)
        ctx.save_for_backward(inputs, memory, input_weight, weight, buffer, outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, ...]:
        inputs, memory, input_weight, weight, buffer, outputs = ctx.saved_tensors
        steps, rows, width = outputs.shape
        before = torch.cat([memory.unsqueeze(0), outputs[:-1]])  # h in front of each step
        n, r, z, candidate = buffer.view(steps, rows, 4, width).unbind(2)
        # By how much the entries of the buffer, before their nonlinearity, move h': first for all steps, then times the
        # slope of h', which has to come from behind, step by step.
        slopes = torch.empty_like(buffer).view(steps, rows, 4, width)
        by_n, by_r, by_z, by_candidate = slopes.unbind(2)
        keep = 1 - z
        torch.addcmul(keep, n.square(), keep, value=-1, out=by_n)  # (1 - z) (1 - n²)
        torch.mul(by_n, r, out=by_candidate)
        torch.mul(by_candidate, candidate, out=by_r).mul_(1 - r)
        torch.sub(before, n, out=by_z).mul_(keep.mul_(z))
        carried = torch.zeros_like(memory)
        now = torch.empty_like(memory)
        recurrent = slopes.view(steps, rows, 4 * width)[..., width:].unbind(0)
        for step in range(steps - 1, -1, -1):
            torch.add(slope[step], carried, out=now)
            slopes[step].mul_(now.unsqueeze(1))
            torch.mul(now, z[step], out=carried).addmm_(recurrent[step], weight)
        flat = slopes.view(steps * rows, 4 * width)
        of_input, of_memory = flat[:, : 3 * width], flat[:, width:]
        sums = flat.sum(dim=0)
        return (
            (of_input @ input_weight).view(steps, rows, -1),
            carried,
            (of_input.t() @ inputs.reshape(steps * rows, -1)).roll(-width, dims=0),
            of_memory.t() @ before.view(steps * rows, width),
            sums[: 3 * width].roll(-width),
            sums[width:],
        )
