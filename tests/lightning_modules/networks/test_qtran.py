import pytest
import torch

from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.qtran import AdditiveJointValue, QTRANNetwork
from tests.lightning_modules.batches import normal, randomise

ROWS, N_AGENTS, FEATURES_DIM, STATE_DIM, ACTION_DIM = 6, 3, 4, 5, 2


@pytest.fixture
def network():
    torch.manual_seed(0)
    return randomise(QTRANNetwork(FEATURES_DIM, STATE_DIM, ACTION_DIM, (8,)).double()).requires_grad_(False)


def inputs():
    return normal(ROWS, N_AGENTS, FEATURES_DIM), normal(ROWS, STATE_DIM, seed=1), normal(ROWS, N_AGENTS, 2, seed=2)


def test_agents_meet_in_a_sum(network):
    features, state, actions = inputs()
    joint = network.q
    embedded = sum(
        joint.action_embedding(torch.cat([features[:, agent], actions[:, agent]], dim=-1)) for agent in range(N_AGENTS)
    )
    expected = joint.joint(torch.cat([state, embedded], dim=-1)).squeeze(-1)
    torch.testing.assert_close(network(features, state, actions), expected)


def test_agents_are_told_apart_by_their_features_only(network):
    features, state, actions = inputs()
    order = [2, 0, 1]
    before = network(features, state, actions)
    torch.testing.assert_close(network(features[:, order], state, actions[:, order]), before)
    assert float((network(features, state, actions[:, order]) - before).abs().min()) > 1e-6


def test_what_it_sees(network):
    features, state, actions = inputs()
    before = network(features, state, actions)
    for changed in ((features + 1, state, actions), (features, state + 1, actions), (features, state, -actions)):
        assert float((network(*changed) - before).abs().min()) > 1e-9


def test_actions_may_have_more_axes(network):
    features, state, _ = inputs()
    proposals = normal(7, ROWS, N_AGENTS, ACTION_DIM, seed=3)
    values = network(features, state, proposals)
    assert values.shape == (7, ROWS)
    torch.testing.assert_close(values[4], network(features, state, proposals[4]))


def test_the_states_value_sees_the_state_alone(network):
    state = normal(2, 3, STATE_DIM)
    assert network.state_value(state).shape == (2, 3)
    torch.testing.assert_close(network.state_value(state)[1, 2], network.state_value(state[1, 2]))


def test_it_is_not_bound_to_be_monotone_or_additive():
    """The payoff of two agents who have to differ, which no sum of their values can rank."""
    torch.manual_seed(0)
    network = AdditiveJointValue(1, 1, 2, (32,))
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(2))
    payoff = torch.tensor([-1.0, 1.0, 1.0, -1.0])
    features, state, actions = torch.zeros(4, 2, 1), torch.zeros(4, 1), encode_actions(pairs, 2, discrete=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        loss = (network(features, state, actions) - payoff).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-3
