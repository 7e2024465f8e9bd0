import torch

from lightning_modules.networks.gumbel import straight_through_choice
from tests.lightning_modules.batches import generator, normal, random_legal_actions


def test_choices_are_drawn_from_the_softmax_over_legal_ones():
    logits, legal = torch.tensor([0.3, -1.0, 2.0, 0.9]), torch.tensor([True, True, False, True])
    drawn = straight_through_choice(logits.expand(20_000, 4), legal, 0.7, generator())
    expected = logits.masked_fill(~legal, -torch.inf).softmax(dim=0)
    torch.testing.assert_close(drawn.mean(dim=0), expected, rtol=0, atol=0.012)  # 3.4 standard errors


def test_the_value_is_exactly_one_hot_and_legal():
    logits, legal = 5 * normal(200, 3, 4), random_legal_actions(200, 3, 4)
    drawn = straight_through_choice(logits, legal, 1.0, generator())
    assert bool(((drawn == 0) | (drawn == 1)).all()) and bool((drawn.sum(dim=-1) == 1).all())
    assert not bool((drawn.bool() & ~legal).any())


def test_the_gradient_is_that_of_the_soft_choice():
    logits, legal, slope = normal(6, 4).requires_grad_(), random_legal_actions(6, 4), normal(6, 4, seed=1)
    (straight_through_choice(logits, legal, 0.5, generator(2)) * slope).sum().backward()
    waits = torch.empty(6, 4, dtype=torch.float64).exponential_(generator=generator(2))
    again = logits.detach().requires_grad_()
    ((again - waits.log()).masked_fill(~legal, -torch.inf).div(0.5).softmax(dim=-1) * slope).sum().backward()
    torch.testing.assert_close(logits.grad, again.grad)
    assert bool((logits.grad[~legal] == 0).all())


def test_padding_without_legal_choices_gives_numbers():
    logits = normal(3, 4).requires_grad_()
    drawn = straight_through_choice(logits, torch.zeros(3, 4, dtype=torch.bool), 1.0, generator())
    drawn.sum().backward()
    assert bool(drawn.isfinite().all()) and bool(logits.grad.isfinite().all())
