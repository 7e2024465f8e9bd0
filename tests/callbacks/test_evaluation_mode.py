import pytest
import torch
from torch import nn

from callbacks.evaluation_mode import evaluating


def test_every_submodule_returns_to_its_own_mode():
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(1, 1)))
    module[1][0].eval()
    with evaluating(module):
        assert not any(part.training for part in module.modules())
        assert not module(torch.ones(1)).requires_grad
    assert [part.training for part in module.modules()] == [True, True, True, False, True]
    assert torch.is_grad_enabled()


def test_modes_return_after_an_error():
    module = nn.Dropout()
    with pytest.raises(RuntimeError), evaluating(module):
        raise RuntimeError
    assert module.training
