import torch

from lightning_modules.networks.actions import (
    ILLEGAL_LOGIT,
    append_agent_id,
    decode_actions,
    draw_legal_actions,
    encode_actions,
    mask_illegal,
    with_one_replaced,
)
from tests.lightning_modules.batches import generator, normal, random_legal_actions

N_ACTIONS = 5


def test_a_choice_is_a_corner_of_the_cube():
    encoded = encode_actions(torch.tensor([[2, 0]]), 3, discrete=True)
    assert torch.equal(encoded, torch.tensor([[[-1.0, -1.0, 1.0], [1.0, -1.0, -1.0]]]))


def test_choices_survive_the_round_trip():
    choices = torch.arange(N_ACTIONS).repeat(3, 2)
    legal = torch.ones(*choices.shape, N_ACTIONS, dtype=torch.bool)
    assert torch.equal(decode_actions(encode_actions(choices, N_ACTIONS, True), legal, True), choices)


def test_continuous_actions_survive_the_round_trip_and_are_clipped():
    actions = torch.tensor([[-1.0, 0.3], [1.0, -0.2]])
    legal = torch.ones(2, 2, dtype=torch.bool)
    assert torch.equal(decode_actions(encode_actions(actions, 2, False), legal, False), actions)
    assert torch.equal(decode_actions(4 * actions, legal, False), torch.tensor([[-1.0, 1.0], [1.0, -0.8]]))


def test_an_illegal_choice_is_never_decoded():
    legal = random_legal_actions(2000, N_ACTIONS)
    vectors = 10 * normal(2000, N_ACTIONS) - 50  # below -1 too, where an unmasked network may be
    choice = decode_actions(vectors, legal, True)
    assert bool(legal.gather(-1, choice.unsqueeze(-1)).all())
    best = vectors.masked_fill(~legal, -torch.inf).amax(dim=-1)
    assert torch.equal(vectors.gather(-1, choice.unsqueeze(-1)).squeeze(-1), best)


def test_padding_without_any_legal_choice_gives_numbers():
    nothing = torch.zeros(4, N_ACTIONS, dtype=torch.bool)
    scores = mask_illegal(normal(4, N_ACTIONS), nothing)
    assert bool((scores == ILLEGAL_LOGIT).all())
    torch.testing.assert_close(scores.softmax(-1), torch.full((4, N_ACTIONS), 1 / N_ACTIONS, dtype=torch.float64))
    choice = decode_actions(normal(4, N_ACTIONS), nothing, True)
    assert bool(((choice >= 0) & (choice < N_ACTIONS)).all())


def test_masking_leaves_legal_scores_alone():
    legal, scores = random_legal_actions(50, N_ACTIONS), normal(50, N_ACTIONS)
    masked = mask_illegal(scores, legal)
    assert torch.equal(masked[legal], scores[legal]) and bool((masked[~legal] == ILLEGAL_LOGIT).all())
    assert float(masked.softmax(dim=-1)[~legal].max()) == 0


def test_agents_get_their_own_number():
    features = normal(2, 3, 4)
    numbered = append_agent_id(features)
    assert torch.equal(numbered[..., :4], features)
    for agent in range(3):
        expected = torch.zeros(3, dtype=torch.float64)
        expected[agent] = 1
        assert torch.equal(numbered[:, agent, 4:], expected.expand(2, 3))


def test_legal_actions_are_drawn_evenly():
    legal = torch.tensor([[True, False, True, True], [False, False, True, False], [True, True, True, True]])
    drawn = draw_legal_actions(legal, 30_000, generator())
    assert drawn.shape == (30_000, 3)
    shares = torch.stack([(drawn == action).double().mean(dim=0) for action in range(4)], dim=-1)
    torch.testing.assert_close(shares, legal / legal.sum(dim=-1, keepdim=True).double(), rtol=0, atol=0.01)
    assert bool((shares[~legal] == 0).all())


def test_draws_come_from_their_generator_and_padding_gives_numbers():
    nothing = torch.zeros(5, 4, dtype=torch.bool)
    first = draw_legal_actions(nothing, 3, generator(1))
    assert torch.equal(first, draw_legal_actions(nothing, 3, generator(1)))
    assert bool(((first >= 0) & (first < 4)).all())


def test_one_agent_does_something_else():
    own, others = normal(2, 5, 3, 4), normal(5, 3, 4, seed=1)
    joint = with_one_replaced(own, others)
    assert joint.shape == (3, 2, 5, 3, 4)
    for deviating in range(3):
        for agent in range(3):
            expected = own if agent == deviating else others.expand_as(own)
            assert torch.equal(joint[deviating, ..., agent, :], expected[..., agent, :])
