import pytest
import torch
from torch.nn import functional

from lightning_modules.networks.mlp import MLP
from tests.lightning_modules.batches import normal, randomise

ROWS, INPUT_DIM = 7, 6


def random_mlp(hidden_dims=(9, 5), output_dim=4):
    """All weights random: a fresh LayerNorm's gain of 1 and bias of 0 would hide their part in the derivative."""
    return randomise(MLP(INPUT_DIM, hidden_dims, output_dim).double())


def test_blocks_are_linear_norm_gelu_and_the_head_is_linear():
    mlp, x = random_mlp((9,)), normal(ROWS, INPUT_DIM)
    hidden = x @ mlp.linears[0].weight.T + mlp.linears[0].bias
    centred = hidden - hidden.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + mlp.norms[0].eps).sqrt()
    scaled = scaled * mlp.norms[0].weight + mlp.norms[0].bias
    gelu = scaled * (1 + torch.erf(scaled / 2**0.5)) / 2
    torch.testing.assert_close(mlp(x), gelu @ mlp.head.weight.T + mlp.head.bias, rtol=0, atol=1e-12)


def test_without_hidden_blocks_it_is_a_linear_map():
    mlp, x = random_mlp(()), normal(ROWS, INPUT_DIM)
    torch.testing.assert_close(mlp(x), functional.linear(x, mlp.head.weight, mlp.head.bias))


def test_any_leading_shape_gives_the_same_numbers():
    mlp, x = random_mlp(), normal(2, 3, INPUT_DIM)
    torch.testing.assert_close(mlp(x).flatten(0, 1), mlp(x.flatten(0, 1)))


def differentiate(mlp, x, direction):
    """Output and directional derivative."""
    output, trace = mlp.forward_with_trace(x)
    return output, mlp.tangent(trace, direction)


@pytest.mark.parametrize("hidden_dims", [(), (9,), (9, 5), (8, 8, 8)])
def test_the_tangent_is_the_jacobian_vector_product(hidden_dims):
    mlp, x, direction = random_mlp(hidden_dims), normal(ROWS, INPUT_DIM), normal(ROWS, INPUT_DIM, seed=1)
    output, slope = differentiate(mlp, x, direction)
    expected, expected_slope = torch.func.jvp(mlp, (x,), (direction,))
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(slope, expected_slope, rtol=0, atol=1e-10)
    assert float(slope.abs().min()) > 1e-6  # nothing to compare with zero


def test_the_tangent_is_the_limit_of_finite_differences():
    mlp, x, direction = random_mlp(), normal(ROWS, INPUT_DIM), normal(ROWS, INPUT_DIM, seed=1)
    step = 1e-5
    difference = (mlp(x + step * direction) - mlp(x - step * direction)) / (2 * step)
    torch.testing.assert_close(differentiate(mlp, x, direction)[1], difference.detach(), rtol=0, atol=1e-8)


def test_the_tangent_and_its_trace_leave_no_graph():
    mlp, x, direction = random_mlp(), normal(ROWS, INPUT_DIM), normal(ROWS, INPUT_DIM, seed=1)
    output, trace = mlp.forward_with_trace(x.requires_grad_())
    assert output.requires_grad
    assert not mlp.tangent(trace, direction.requires_grad_()).requires_grad
    assert not any(block.value.requires_grad or block.normalised.requires_grad for block in trace)


@pytest.mark.parametrize("hidden_dims", [(), (9, 5)])
def test_inputs_that_do_not_move_may_be_left_out_of_the_direction(hidden_dims):
    mlp, x, direction = random_mlp(hidden_dims), normal(ROWS, INPUT_DIM), normal(ROWS, INPUT_DIM, seed=1)
    direction[:, 4:] = 0
    _, trace = mlp.forward_with_trace(x)
    torch.testing.assert_close(mlp.tangent(trace, direction[:, :4]), mlp.tangent(trace, direction), rtol=0, atol=1e-12)


def test_rows_of_a_trace():
    mlp, x, index = random_mlp(), normal(ROWS, INPUT_DIM), torch.tensor([3, 0, 3])
    _, trace = mlp.forward_with_trace(x)
    for block in trace:
        for field, chosen in zip(block, block.rows(index), strict=True):
            assert torch.equal(chosen, field[index])
