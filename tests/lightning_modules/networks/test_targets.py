import pytest
import torch
from torch import nn

from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.targets import frozen, polyak_update, target_copy
from tests.lightning_modules.batches import normal, randomise


def storages(module):
    return {tensor.untyped_storage().data_ptr() for tensor in [*module.parameters(), *module.buffers()]}


def test_a_copy_is_equal_shares_no_storage_and_gets_no_gradients():
    source = randomise(MLP(3, (4,), 2))
    target = target_copy(source)
    assert not storages(source) & storages(target)
    for ours, theirs in zip(source.parameters(), target.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.requires_grad and not theirs.requires_grad


@pytest.mark.parametrize("rate", [0.005, 0.3, 1.0])
def test_the_way_covered_towards_a_constant_after_k_updates(rate):
    source, updates = randomise(MLP(3, (4,), 2).double(), seed=1), 7
    target = target_copy(randomise(MLP(3, (4,), 2).double(), seed=2))
    before = [parameter.clone() for parameter in target.parameters()]
    for _ in range(updates):
        polyak_update(source, target, rate)
    covered = 1 - (1 - rate) ** updates
    for ours, theirs, start in zip(source.parameters(), target.parameters(), before, strict=True):
        torch.testing.assert_close(theirs, start + covered * (ours.detach() - start), rtol=0, atol=1e-12)
    assert all(not parameter.requires_grad for parameter in target.parameters())


def test_an_update_leaves_the_source_alone():
    source = randomise(MLP(3, (4,), 2), seed=1)
    before = [parameter.clone() for parameter in source.parameters()]
    polyak_update(source, target_copy(randomise(MLP(3, (4,), 2), seed=2)), 0.5)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), before, strict=True))


def test_an_actors_gradient_passes_through_a_frozen_critic():
    actor, critic, x = nn.Linear(3, 2).double(), randomise(MLP(2, (8,), 1).double()), normal(5, 3)
    with frozen(critic):
        through = critic(actor(x)).mean()
    through.backward()
    assert all(parameter.grad is None for parameter in critic.parameters())
    for parameter in actor.parameters():
        frozen_gradient, parameter.grad = parameter.grad, None
        (gradient,) = torch.autograd.grad(critic(actor(x)).mean(), parameter)
        torch.testing.assert_close(frozen_gradient, gradient)
        assert float(gradient.abs().max()) > 1e-6


def test_freezing_gives_back_the_flags_it_found():
    first, second = MLP(2, (3,), 1), MLP(2, (3,), 1)
    first.head.bias.requires_grad_(False)
    before = [parameter.requires_grad for module in (first, second) for parameter in module.parameters()]
    with frozen(first, second):
        assert not any(parameter.requires_grad for module in (first, second) for parameter in module.parameters())
    assert [p.requires_grad for module in (first, second) for p in module.parameters()] == before
    with pytest.raises(KeyError), frozen(first):
        raise KeyError
    assert [p.requires_grad for module in (first, second) for p in module.parameters()] == before
