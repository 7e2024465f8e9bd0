"""What tests of exact numbers ask for."""

import pytest
import torch

from tests.lightning_modules.batches import default_dtype


@pytest.fixture
def float64():
    """Networks and batches in double precision, and the same initial weights in every run."""
    torch.manual_seed(0)
    with default_dtype(torch.float64):
        yield
