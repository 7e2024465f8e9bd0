import pytest
import torch

from lightning_modules.networks.encoders import Encoder
from lightning_modules.networks.one_step import OneStepActor
from lightning_modules.networks.one_step_policies import OneStepPolicy
from tests.lightning_modules.batches import ACTION_DIM, N_AGENTS, OBS_DIM, generator, normal, team_shape

LEGAL = torch.ones(50, N_AGENTS, ACTION_DIM, dtype=torch.bool)
OBS = normal(50, N_AGENTS, OBS_DIM, dtype=torch.float32)


class Echo:
    """Answers with the noise itself."""

    discrete = False
    action_dim = ACTION_DIM

    def __init__(self):
        self.encoder = Encoder(OBS_DIM, N_AGENTS)

    def of_features(self, features, noise, legal_actions):
        return noise


def act(policy, seed=0):
    return policy.act(OBS, LEGAL, policy.initial_state(len(OBS)), generator(seed))[0]


def test_agents_have_noise_of_their_own_one_noise_or_none():
    policy = OneStepPolicy(Echo())
    own, zero, shared = (act(each) for each in (policy, *policy.with_other_noise().values()))
    expected = torch.randn(50, N_AGENTS, ACTION_DIM, generator=generator()).clamp(-1, 1)
    assert torch.equal(own, expected) and not torch.equal(own[:, 0], own[:, 1])
    assert torch.equal(shared[:, 0], shared[:, 1]) and not torch.equal(shared[0], shared[1])
    assert torch.equal(zero, torch.zeros_like(zero))


def test_rows_of_the_table_say_what_they_are():
    rows = OneStepPolicy(Echo()).with_other_noise()
    assert {name: (row.noise, row.shared_noise, row.network_calls) for name, row in rows.items()} == {
        "policy, zero noise": ("zero", False, 1),
        "policy, shared noise": ("normal", True, 1),
    }
    own = OneStepPolicy(Echo(), "zero", True).with_other_noise()["policy, own noise"]
    assert (own.noise, own.shared_noise) == ("normal", False)


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("encoder", ["mlp", "gru"])
def test_an_agent_acts_on_what_it_sees_itself(discrete, encoder):
    torch.manual_seed(0)
    actor = OneStepActor(team_shape(discrete, encoder=encoder, memory_dim=4), (8,))
    with torch.no_grad():
        actor.mlp.head.weight.mul_(20)
    policy, seen = OneStepPolicy(actor), OBS.clone()
    seen[:, 1] += 3.0
    with torch.no_grad():
        before = act(policy)
        after, _ = policy.act(seen, LEGAL, policy.initial_state(len(OBS)), generator())
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]]) and not torch.equal(after[:, 1], before[:, 1])
