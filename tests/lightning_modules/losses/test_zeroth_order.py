import pytest
import torch

from lightning_modules.losses.zeroth_order import best_action, searched_actions
from tests.lightning_modules.batches import generator, normal

BEST = 0.8 * torch.tensor([[0.5, -0.25], [-0.9, 0.1], [0.0, 1.0]], dtype=torch.float64)


def quadratic(scale=20.0):
    return lambda actions: -scale * (actions - BEST).square().sum(dim=-1)


@pytest.mark.parametrize(("elites", "tolerance"), [(None, 0.08), (20, 0.02)])
def test_the_search_finds_the_maximum_of_a_quadratic(elites, tolerance):
    found = searched_actions(quadratic(), BEST, 5, 400, 2.0, elites, generator())
    assert float((found - BEST).abs().max()) < tolerance


def test_elites_do_not_depend_on_the_unit_of_values():
    one, other = (searched_actions(quadratic(s), BEST, 4, 20, 2.0, 5, generator()) for s in (0.5, 64.0))
    assert torch.equal(one, other)


@pytest.mark.parametrize("elites", [None, 3])
def test_each_round_follows_the_equations(elites):
    seen = []

    def score(actions):
        seen.append(actions)
        return quadratic(1.0)(actions)

    found = searched_actions(score, BEST, 3, 6, 2.0, elites, generator(4))
    draws, mean, deviation, kept = generator(4), torch.zeros_like(BEST), torch.full_like(BEST, 2.0), None
    for actions in seen:
        expected = (mean + deviation * torch.randn(6, *BEST.shape, generator=draws, dtype=BEST.dtype)).clamp(-1, 1)
        expected = expected if kept is None else torch.cat([expected, kept])
        torch.testing.assert_close(actions, expected, rtol=0, atol=1e-12)
        values = quadratic(1.0)(actions)
        if elites is None:
            weights = values.exp() / values.exp().sum(dim=0)
            mean = sum(w.unsqueeze(-1) * a for w, a in zip(weights, actions, strict=True))
            deviation = (sum((a - mean) ** 2 for a in actions) / len(actions)).sqrt()
        else:
            order = values.argsort(dim=0, descending=True)[:elites]
            kept = torch.stack([actions[order[:, row], row] for row in range(3)], dim=1)
            mean, deviation = kept.mean(dim=0), kept.std(dim=0)
    last = quadratic(1.0)(seen[-1])
    assert torch.equal(found, torch.stack([seen[-1][int(last[:, row].argmax()), row] for row in range(3)]))


@pytest.mark.parametrize("elites", [None, 3])
def test_what_is_selected_never_scores_below_the_own_action(elites):
    def score(actions):  # rugged
        return (7 * actions).sin().sum(dim=-1) + 3 * (actions[..., 0] * 11).cos()

    own = normal(50, 2).clamp(-1, 1)
    found = searched_actions(score, own, 2, 4, 2.0, elites, generator())
    selected = best_action(score, torch.stack([own, found]))
    assert bool((score(selected) >= score(own)).all()) and bool((score(selected) >= score(found)).all())
    assert bool((selected == own).all(dim=-1).any()) and bool((selected == found).all(dim=-1).any())


def test_nothing_is_learned_through_a_search():
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    found = searched_actions(lambda actions: (actions * weight).sum(dim=-1), BEST, 2, 4, 1.0, None, generator())
    assert not found.requires_grad and bool((found.abs() <= 1).all())
