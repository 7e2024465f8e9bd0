import pytest
import torch

from lightning_modules.networks import encoders
from lightning_modules.networks.actions import append_agent_id, encode_actions
from lightning_modules.networks.critics import Ensemble, JointActionValue, LocalActionValue, LocalValue, StateValue
from tests.lightning_modules.batches import normal, randomise, team_shape

ROWS, N_AGENTS, OBS_DIM, STATE_DIM, ACTION_DIM = 6, 3, 4, 7, 5
SHUFFLED = [2, 0, 1]
CHOICES, CONTINUOUS = (
    team_shape(discrete, n_agents=N_AGENTS, obs_dim=OBS_DIM, state_dim=STATE_DIM, action_dim=ACTION_DIM)
    for discrete in (True, False)
)


@pytest.fixture
def inputs():
    """Observations, states and encoded joint actions."""
    choices = torch.randint(ACTION_DIM, (ROWS, N_AGENTS), generator=torch.Generator().manual_seed(0))
    return (
        normal(ROWS, N_AGENTS, OBS_DIM),
        normal(ROWS, STATE_DIM, seed=1),
        encode_actions(choices, ACTION_DIM, True).double(),
    )


@pytest.fixture
def exchange_agents(monkeypatch):
    """Lets agents carry each other's numbers: agent k is then called SHUFFLED[k]."""

    def exchange():
        def exchanged(features):
            size = features.shape[-1]
            numbered = append_agent_id(features)
            return torch.cat([features, numbered[..., SHUFFLED, size:]], dim=-1)

        monkeypatch.setattr(encoders, "append_agent_id", exchanged)

    return exchange


def joint_value(mixer):
    return randomise(JointActionValue(CHOICES, (8,), mixer).double()).requires_grad_(False)


def test_vdn_is_the_sum_of_local_values(inputs):
    obs, _, actions = inputs
    value = joint_value("vdn")
    torch.testing.assert_close(value(*inputs), value.local(obs, actions).sum(dim=-1), rtol=0, atol=1e-12)


def test_qmix_is_the_mixer_of_local_values(inputs):
    obs, state, actions = inputs
    value = joint_value("qmix")
    torch.testing.assert_close(value(*inputs), value.mixer(value.local(obs, actions), state), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("mixer", "depends"), [("centralised", False), ("vdn", True), ("qmix", True), ("qtran", True)])
def test_what_a_joint_value_sees(inputs, mixer, depends):
    obs, state, actions = inputs
    value = joint_value(mixer)
    before = value(*inputs)
    assert bool((value(obs + 1, state, actions) != before).all()) == depends  # centralised: state instead
    assert bool((value(obs, state + 1, actions) != before).all()) == (mixer != "vdn")
    for agent in range(N_AGENTS):
        changed = actions.clone()
        changed[:, agent] = -changed[:, agent]
        assert float((value(obs, state, changed) - before).abs().min()) > 1e-9


@pytest.mark.parametrize("mixer", ["centralised", "vdn", "qmix", "qtran"])
def test_many_joint_actions_share_their_features(inputs, mixer):
    obs, state, actions = inputs
    value, proposals = joint_value(mixer), normal(4, *actions.shape, seed=2)
    values = value.of_features(value.features(obs, state), state, proposals)
    assert values.shape == (4, ROWS)
    torch.testing.assert_close(values[3], value(obs, state, proposals[3]))


def interaction(value, inputs):
    """Second difference in the actions of agents 0 and 1: zero if their contributions add up."""
    obs, state, actions = inputs
    first, second = actions.clone(), actions.clone()
    first[:, 0] = -first[:, 0]
    second[:, 1] = -second[:, 1]
    both = first.clone()
    both[:, 1] = second[:, 1]
    return value(obs, state, both) - value(obs, state, first) - value(obs, state, second) + value(obs, state, actions)


def test_what_two_actions_do_together_is_no_sum(inputs):
    for mixer in ("centralised", "qtran"):
        assert float(interaction(joint_value(mixer), inputs).abs().max()) > 1e-2
    assert float(interaction(joint_value("vdn"), inputs).abs().max()) < 1e-12


def test_an_ensemble_answers_member_by_member(inputs):
    members = [randomise(StateValue(CHOICES, (8,)).double(), seed).requires_grad_(False) for seed in range(3)]
    answers = Ensemble(members)(inputs[1])
    assert answers.shape == (3, ROWS)
    for member, answer in zip(members, answers, strict=True):
        torch.testing.assert_close(answer, member(inputs[1]), rtol=0, atol=1e-12)
    assert float((answers[0] - answers[1]).abs().min()) > 1e-6


@pytest.mark.parametrize("with_actions", [True, False])
def test_exchanging_agents_exchanges_local_values(inputs, exchange_agents, with_actions):
    obs, _, actions = inputs
    value = randomise(LocalValue(CHOICES, (8,), with_actions).double())
    value.requires_grad_(False)

    def answer(order):
        return value(obs[:, order], actions[:, order] if with_actions else None)

    before, unnumbered = answer([0, 1, 2]), answer(SHUFFLED)
    exchange_agents()
    torch.testing.assert_close(answer(SHUFFLED), before[:, SHUFFLED], rtol=0, atol=1e-12)
    # The number matters: what is exchanged without its number answers differently.
    assert float((unnumbered - before[:, SHUFFLED]).abs().min()) > 1e-6


def test_a_local_value_sees_its_own_observation_and_action_only(inputs):
    obs, _, actions = inputs
    value = randomise(LocalValue(CHOICES, (8,)).double())
    before = value(obs, actions)
    for changed in (value(obs.index_add(1, torch.tensor([1]), torch.ones(ROWS, 1, OBS_DIM).double()), actions),):
        assert torch.equal(changed[:, [0, 2]], before[:, [0, 2]]) and bool((changed[:, 1] != before[:, 1]).all())
    flipped = actions.clone()
    flipped[:, 1] = -flipped[:, 1]
    changed = value(obs, flipped)
    assert torch.equal(changed[:, [0, 2]], before[:, [0, 2]]) and bool((changed[:, 1] != before[:, 1]).all())


@pytest.mark.parametrize("discrete", [True, False])
def test_an_action_value_starts_at_exactly_zero_and_can_learn(inputs, discrete):
    value = LocalActionValue(CHOICES if discrete else CONTINUOUS, (8,)).double()
    actions = inputs[2].argmax(dim=-1) if discrete else inputs[2]
    answer = value(inputs[0], actions)
    assert answer.shape == (ROWS, N_AGENTS) and bool((answer == 0).all())
    (answer - 1).square().sum().backward()
    assert float(value.mlp.head.weight.grad.abs().max()) > 1e-3


def test_the_value_of_a_choice_is_its_entry_among_all(inputs):
    value = randomise(LocalActionValue(CHOICES, (8,)).double())
    choices = inputs[2].argmax(dim=-1)
    every = value.all_values(inputs[0])
    chosen = value(inputs[0], choices)
    for row in range(ROWS):
        for agent in range(N_AGENTS):
            assert chosen[row, agent] == every[row, agent, choices[row, agent]]


def test_exchanging_agents_exchanges_action_values(inputs, exchange_agents):
    value = randomise(LocalActionValue(CONTINUOUS, (8,)).double())
    before = value(inputs[0], inputs[2])
    exchange_agents()
    after = value(inputs[0][:, SHUFFLED], inputs[2][:, SHUFFLED])
    torch.testing.assert_close(after, before[:, SHUFFLED], rtol=0, atol=1e-12)


def test_values_keep_any_leading_shape(inputs):
    obs, state, actions = (value.unflatten(0, (2, 3)) for value in inputs)
    for mixer in ("centralised", "vdn", "qmix"):
        value = joint_value(mixer)
        torch.testing.assert_close(value(obs, state, actions).flatten(), value(*inputs))
    value = randomise(StateValue(CHOICES, (8,)).double())
    torch.testing.assert_close(value(state).flatten(), value(inputs[1]))
