"""The GRU over sequences: PyTorch's own numbers, forward and backward."""

import pytest
import torch
from torch import nn

from lightning_modules.networks.recurrent import GRU

STEPS, ROWS, INPUT, HIDDEN = 7, 5, 3, 4


@pytest.fixture(params=["memory given", "memory zero"])
def case(request):
    torch.manual_seed(0)
    gru = GRU(INPUT, HIDDEN).double()
    inputs = torch.randn(STEPS, ROWS, INPUT, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(ROWS, HIDDEN, dtype=torch.float64, requires_grad=True)
    return gru, inputs, memory if request.param == "memory given" else None


def test_outputs_are_pytorchs(case):
    gru, inputs, memory = case
    outputs, last = gru(inputs, memory)
    expected, expected_last = gru.layer(inputs, None if memory is None else memory.unsqueeze(0))
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(last, expected_last.squeeze(0), rtol=0, atol=1e-14)


def test_gradients_are_pytorchs(case):
    gru, inputs, memory = case
    wanted = [inputs, *gru.parameters(), *([] if memory is None else [memory])]
    weight = torch.randn(STEPS, ROWS, HIDDEN, dtype=torch.float64)
    ours = torch.autograd.grad((gru(inputs, memory)[0].square() * weight).sum(), wanted)
    theirs, _ = gru.layer(inputs, None if memory is None else memory.unsqueeze(0))
    for got, expected in zip(ours, torch.autograd.grad((theirs.square() * weight).sum(), wanted), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(1)
    gru = GRU(2, 3).double()
    inputs = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, h: gru(x, h)[0], (inputs, memory))


def test_one_step_by_hand():
    gru = GRU(1, 1).double()
    values = {"weight_ih_l0": [1.0, 2.0, 3.0], "weight_hh_l0": [0.5, -1.0, 2.0], "bias_ih_l0": [0.1, 0.2, 0.3]}
    with torch.no_grad():
        for name, column in values.items():
            getattr(gru.layer, name).copy_(torch.tensor(column).view_as(getattr(gru.layer, name)))
        gru.layer.bias_hh_l0.copy_(torch.tensor([0.0, 0.0, 0.4]))
    x, h = torch.tensor(0.7, dtype=torch.float64), torch.tensor(-0.2, dtype=torch.float64)
    r, z = torch.sigmoid(x + 0.1 + 0.5 * h), torch.sigmoid(2 * x + 0.2 - h)
    n = torch.tanh(3 * x + 0.3 + r * (2 * h + 0.4))
    outputs, _ = gru(x.view(1, 1, 1), h.view(1, 1))
    torch.testing.assert_close(outputs.squeeze(), (1 - z) * n + z * h, rtol=0, atol=1e-7)


def test_half_precision_outside_does_not_reach_the_recurrence():
    torch.manual_seed(0)
    gru, inputs = GRU(INPUT, HIDDEN), torch.randn(STEPS, ROWS, INPUT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = gru(inputs)
    outputs.sum().backward()
    assert outputs.dtype == torch.float32
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in gru.parameters())
    torch.testing.assert_close(outputs, gru(inputs)[0], rtol=0, atol=2e-2)


def test_a_long_sequence_forgets_nothing_of_where_it_was_cut():
    torch.manual_seed(0)
    gru: nn.Module = GRU(INPUT, HIDDEN).double()
    inputs = torch.randn(STEPS, ROWS, INPUT, dtype=torch.float64)
    first, memory = gru(inputs[:3])
    second, _ = gru(inputs[3:], memory)
    torch.testing.assert_close(torch.cat([first, second]), gru(inputs)[0], rtol=0, atol=1e-14)
