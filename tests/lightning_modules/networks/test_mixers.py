import math

import pytest
import torch

from lightning_modules.networks.mixers import LinearMixer, NormalisedLinearMixer, QMixer, VDNMixer

N_AGENTS, STATE_DIM = 4, 6
MIXERS = [VDNMixer, lambda: QMixer(N_AGENTS, STATE_DIM), lambda: LinearMixer(N_AGENTS, STATE_DIM)]
MIXERS += [lambda: NormalisedLinearMixer(N_AGENTS, STATE_DIM)]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def fill(module, **values):
    """Sets whole parameter tensors by name; all others become zero."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.tensor(values.get(name.replace(".", "_"), 0.0)).expand_as(parameter))
    return module.double()


def test_vdn_is_the_sum():
    values = torch.tensor([[1.0, 2.0, -4.0], [0.5, 0.25, 0.25]])
    assert torch.equal(VDNMixer()(values, torch.zeros(2, 7)), torch.tensor([-1.0, 1.0]))


def test_qmix_by_hand():
    mixer = fill(
        QMixer(2, 1, embed_dim=1, hypernet_dim=1),
        first_weight_2_bias=[-2.0, 3.0],
        first_bias_bias=-1.0,
        last_weight_2_bias=-0.5,
        last_bias_2_bias=7.0,
    )
    values = torch.tensor([[1.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    # |−2|·1 + 3·1 − 1 = 4, then ½·4 + 7; |−2|·(−1) − 1 = −3, then ½·ELU(−3) + 7
    expected = torch.tensor([9.0, 7 + 0.5 * (math.exp(-3) - 1)], dtype=torch.float64)
    torch.testing.assert_close(mixer(values, torch.zeros(2, 1, dtype=torch.float64)), expected)


def test_the_linear_mixer_by_hand():
    mixer = fill(
        LinearMixer(2, 1, hidden_dim=1),
        hidden_weight=1.0,
        weight_weight=[[-2.0], [1.0]],
        weight_bias=[0.0, 0.5],
        bias_weight=-3.0,
        bias_bias=1.0,
    )
    state = torch.tensor([[2.0], [-2.0]], dtype=torch.float64)  # hidden: relu(±2)
    weight, bias = mixer.weights(state)
    torch.testing.assert_close(weight, torch.tensor([[4.0, 2.5], [0.0, 0.5]], dtype=torch.float64))
    torch.testing.assert_close(bias, torch.tensor([-5.0, 1.0], dtype=torch.float64))
    values = torch.tensor([[1.0, 2.0], [3.0, -4.0]], dtype=torch.float64)
    torch.testing.assert_close(mixer(values, state), torch.tensor([4.0, -1.0], dtype=torch.float64))


def test_the_linear_mixer_is_its_weights_and_bias():
    mixer, values, state = LinearMixer(N_AGENTS, STATE_DIM).double(), normal(5, N_AGENTS), normal(5, STATE_DIM, seed=1)
    weight, bias = mixer.weights(state)
    torch.testing.assert_close(mixer(values, state), torch.einsum("bn,bn->b", weight, values) + bias)
    assert bool((weight >= 0).all())


def test_the_normalised_mixer_by_hand():
    mixer = fill(
        NormalisedLinearMixer(2, 1, hypernet_dim=1),
        weight_0_weight=1.0,
        weight_2_weight=[[-3.0], [1.0]],
        weight_2_bias=[1.0, 0.0],
    )
    state = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)  # hidden: relu(±1)
    torch.testing.assert_close(
        mixer.weights(state), torch.tensor([[2 / 3, 1 / 3], [1.0, 0.0]], dtype=torch.float64), rtol=0, atol=2e-6
    )
    values = torch.tensor([[3.0, 6.0], [3.0, -4.0]], dtype=torch.float64)
    torch.testing.assert_close(mixer(values, state), torch.tensor([4.0, 3.0], dtype=torch.float64), rtol=0, atol=1e-5)


def test_the_normalised_mixers_weights_sum_to_one_and_there_is_no_bias():
    mixer, state = NormalisedLinearMixer(N_AGENTS, STATE_DIM).double(), 20 * normal(500, STATE_DIM, seed=1)
    weights = mixer.weights(state).detach()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(500, dtype=torch.float64), rtol=0, atol=1e-12)
    assert bool((weights >= 0).all()) and float(weights.std(dim=0).min()) > 0.05  # they depend on the state
    same = torch.full((500, N_AGENTS), 3.7, dtype=torch.float64)
    torch.testing.assert_close(mixer(same, state).detach(), same[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", MIXERS)
def test_the_team_value_never_falls_when_an_agents_value_rises(make):
    mixer = make().double()
    values = (10 * normal(500, N_AGENTS)).requires_grad_()
    total = mixer(values, 10 * normal(500, STATE_DIM, seed=1))
    (gradient,) = torch.autograd.grad(total.sum(), values)
    assert bool((gradient >= 0).all()) and bool((gradient > 0).any(dim=0).all())


def test_qmix_is_not_linear_and_depends_on_the_state():
    mixer, state = QMixer(N_AGENTS, STATE_DIM).double().requires_grad_(False), normal(1, STATE_DIM)
    values = 5 * normal(1, N_AGENTS, seed=1)
    at_zero = mixer(torch.zeros_like(values), state)
    assert float((mixer(-values, state) + mixer(values, state) - 2 * at_zero).abs()) > 1e-3
    assert float((mixer(values, state) - mixer(values, -state)).abs()) > 1e-3


@pytest.mark.parametrize("make", MIXERS)
def test_a_batch_of_one_keeps_its_axis(make):
    assert make()(torch.zeros(1, N_AGENTS), torch.zeros(1, STATE_DIM)).shape == (1,)


@pytest.mark.parametrize("make", MIXERS)
def test_any_leading_shape_gives_the_same_numbers(make):
    mixer, values, state = make().double(), normal(3, 2, N_AGENTS), normal(3, 2, STATE_DIM, seed=1)
    total = mixer(values, state)
    assert total.shape == (3, 2)
    flat = mixer(values.flatten(0, 1), state.flatten(0, 1))
    torch.testing.assert_close(total.flatten(), flat)
    torch.testing.assert_close(mixer(values[1, 1], state[1, 1]), total[1, 1])
