import pytest
import torch

from lightning_modules.losses.masking import masked_mean


def test_only_entries_under_the_mask_count():
    values = torch.tensor([[1.0, 2.0], [30.0, 6.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True], [False, True]])
    assert float(masked_mean(values, mask)) == pytest.approx(3.0)


def test_the_gradient_is_shared_by_the_entries_that_count():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
    masked_mean(values, torch.tensor([True, False, True, True])).backward()
    torch.testing.assert_close(values.grad, torch.tensor([1 / 3, 0, 1 / 3, 1 / 3], dtype=torch.float64))


def test_an_empty_mask_gives_zero_with_zero_gradient():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    mean = masked_mean(values, torch.tensor([False, False]))
    mean.backward()
    assert float(mean.detach()) == 0 and torch.equal(values.grad, torch.zeros(2))


def test_masked_entries_may_be_nan():
    assert float(masked_mean(torch.tensor([5.0, float("nan")]), torch.tensor([True, False]))) == 5


def test_a_mask_broadcasts_like_any_tensor():
    values = torch.arange(12.0).view(2, 3, 2)
    over_members = torch.tensor([[True, False], [True, True], [False, False]])  # (3, 2) for values (2, 3, 2)
    assert float(masked_mean(values, over_members)) == pytest.approx((0 + 2 + 3 + 6 + 8 + 9) / 6)
    over_agents = torch.tensor([[True, False, False], [False, False, True]]).unsqueeze(-1)
    assert float(masked_mean(values, over_agents)) == pytest.approx((0 + 1 + 10 + 11) / 4)


def test_refuses_a_mask_of_another_shape():
    with pytest.raises(ValueError, match=r"mask of shape \(2,\) does not broadcast to values of shape \(2, 3\)"):
        masked_mean(torch.zeros(2, 3), torch.ones(2, dtype=torch.bool))
