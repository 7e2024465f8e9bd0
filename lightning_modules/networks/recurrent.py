"""A GRU over whole sequences that is quick on processors, too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class GRU(nn.Module):
    """One layer of ``torch.nn.GRU`` over sequences, with its parameters (``layer``) and its numbers.

        r, z = σ(W_r x + U_r h), σ(W_z x + U_z h);   n = tanh(W_n x + r * U_n h);   h' = (1 - z) n + z h

    (Cho et al., 2014, arXiv:1406.1078; biases left out.) On a GPU PyTorch runs cuDNN's fused kernel. On a processor it
    builds a graph of small operations for every step; here a step has six of them, and its derivative, written out,
    four, since all that does not depend on the step behind is computed for the whole sequence at once.

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
        input_weight, weight, input_bias, bias = self.layer.all_weights[0]
        gates = functional.linear(inputs, input_weight, input_bias)  # of all steps at once
        outputs = _Recurrence.apply(gates, memory, weight, bias)  # type: ignore[no-untyped-call]
        return outputs, outputs[-1]


class _Recurrence(torch.autograd.Function):
    """What is left of a GRU when the inputs' part of its gates (T, R, 3H) is known; PyTorch's order r, z, n."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, memory: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        steps, rows, width = gates.shape[0], gates.shape[1], memory.shape[1]
        gates = gates.to(memory.dtype)  # lower precision, under autocast
        outputs = gates.new_empty(steps, rows, width)
        switches = gates.new_empty(steps, rows, 2 * width)  # r and z
        proposals = gates.new_empty(steps, rows, width)  # n
        recurrent = gates.new_empty(steps, rows, 3 * width)  # U h + b
        transposed, previous = weight.t(), memory
        for step in range(steps):
            hidden = torch.addmm(bias, previous, transposed, out=recurrent[step])
            switch = torch.add(gates[step, :, : 2 * width], hidden[:, : 2 * width], out=switches[step]).sigmoid_()
            proposal = torch.addcmul(
                gates[step, :, 2 * width :], switch[:, :width], hidden[:, 2 * width :], out=proposals[step]
            ).tanh_()
            previous = torch.lerp(proposal, previous, switch[:, width:], out=outputs[step])
        ctx.save_for_backward(outputs, memory, switches, proposals, recurrent[..., 2 * width :], weight)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        outputs, memory, switches, proposals, recurrent, weight = ctx.saved_tensors
        steps, rows, width = outputs.shape
        before = torch.cat([memory.unsqueeze(0), outputs[:-1]])  # h in front of each step
        r, z = switches.split(width, dim=-1)
        # Derivatives of what enters the three gates by h', all steps at once; the loop only multiplies
        by_proposal = (1 - z) * (1 - proposals.square())
        by_gates = torch.stack(
            [by_proposal * recurrent * r * (1 - r), (before - proposals) * z * (1 - z), by_proposal * r], dim=2
        )  # (T, R, 3, H), of U h
        hidden_slopes = torch.empty_like(by_gates)
        slopes = torch.empty_like(outputs)  # by h' of each step
        carried = torch.zeros_like(memory)
        for step in range(steps - 1, -1, -1):
            now = torch.add(slope[step], carried, out=slopes[step])
            gate_slopes = torch.mul(by_gates[step], now.unsqueeze(1), out=hidden_slopes[step])
            carried = torch.addmm(now * z[step], gate_slopes.view(rows, 3 * width), weight)
        flat = hidden_slopes.view(steps * rows, 3 * width)
        input_slopes = hidden_slopes.view(steps, rows, 3 * width).clone()
        torch.mul(by_proposal, slopes, out=input_slopes[..., 2 * width :])  # n sees W x directly, U h through r
        return input_slopes, carried, flat.t() @ before.view(steps * rows, width), flat.sum(dim=0)
