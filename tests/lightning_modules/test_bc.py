import pytest
import torch

from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.policies import HeadPolicy
from tests.lightning_modules.batches import generator, make_bc, one_step_games, random_batch, train

CORNERS, COUNTS = [[0, 1], [1, 0], [0, 0], [1, 1]], [10, 4, 3, 3]
pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("discrete", [True, False])
def test_the_loss_is_the_mean_negative_log_likelihood_of_recorded_steps(discrete):
    module, batch = make_bc(discrete, steps_per_update=None), random_batch(discrete)
    loss = module.losses(batch, generator())["policy"]
    total, count = 0.0, 0
    for b in range(len(batch.valid)):
        for t in range(batch.valid.shape[1] - 1):
            if batch.valid[b, t]:
                logs = module.head.log_prob(
                    module.head.encoder(batch.obs[b, t]), batch.actions[b, t], batch.legal_actions[b, t]
                )
                total, count = total - logs.sum(), count + len(logs)
    torch.testing.assert_close(loss, total / count, rtol=0, atol=1e-12)


def test_an_update_takes_as_many_steps_as_asked_for():
    module, batch = make_bc(steps_per_update=5), random_batch()
    steps = joint_steps(batch, 5, generator())
    with torch.no_grad():
        expected = -module.head.log_prob(steps.features(module.head.encoder), steps.actions, steps.legal_actions).mean()
        torch.testing.assert_close(module.losses(batch, generator())["policy"], expected)
        assert float(module.losses(batch, generator(1))["policy"]) != float(expected)


@pytest.mark.parametrize("discrete", [True, False])
def test_a_gradient_step_makes_recorded_actions_likelier(discrete):
    module, batch = make_bc(discrete, steps_per_update=None), random_batch(discrete)

    def likelihood():
        steps = joint_steps(batch)
        return float(
            module.head.log_prob(steps.features(module.head.encoder), steps.actions, steps.legal_actions)
            .mean()
            .detach()
        )

    before = likelihood()
    module.losses(batch, generator())["policy"].backward()
    with torch.no_grad():
        for parameter in module.head.parameters():
            if parameter.grad is not None:
                parameter -= 1e-2 * parameter.grad
    assert likelihood() > before + 1e-4


def test_it_recovers_each_agents_frequencies_and_nothing_joint():
    module = make_bc(n_agents=2, obs_dim=1, state_dim=1, action_dim=2, hidden_dims=(8,), steps_per_update=None)
    train(module, one_step_games(CORNERS, COUNTS, [0.0] * 4), updates=200, learning_rate=0.05)
    logits = module.head(torch.zeros(1, 2, 1))
    expected = torch.tensor([[[0.65, 0.35], [0.35, 0.65]]])  # of the first action: (10 + 3) / 20, (4 + 3) / 20
    torch.testing.assert_close(logits.softmax(dim=-1), expected, rtol=0, atol=2e-3)


def test_it_recovers_mean_and_deviation_of_continuous_actions():
    actions = torch.tensor([0.2, 0.6]).view(2, 1, 1, 1).repeat(1, 2, 1, 1)
    batch = one_step_games([[0], [1]], [1, 1], [0.0, 0.0])._replace(actions=actions)
    module = make_bc(False, n_agents=1, obs_dim=1, state_dim=1, action_dim=1, hidden_dims=(), steps_per_update=None)
    train(module, batch, updates=400, learning_rate=0.05)
    assert float(module.head(torch.zeros(1, 1, 1)).detach()) == pytest.approx(0.4, abs=5e-3)
    assert float(module.head.log_std.exp().detach()) == pytest.approx(0.2, abs=5e-3)


def test_illegal_actions_take_no_part_in_the_likelihood():
    module, batch = make_bc(steps_per_update=None), random_batch()
    only = torch.zeros_like(batch.legal_actions).scatter_(-1, batch.actions.unsqueeze(-1), True)
    loss = module.losses(batch._replace(legal_actions=only), generator())["policy"]
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)  # no choice, no doubt


def test_it_is_compared_sampled_and_at_its_mode():
    module = make_bc()
    assert module.policy == HeadPolicy(module.head, sample=True)
    assert module.evaluation_policies() == {
        "policy, sampled": HeadPolicy(module.head),
        "policy, mode": HeadPolicy(module.head, sample=False),
    }


@pytest.mark.parametrize("discrete", [True, False])
def test_only_parameters_with_a_gradient_are_optimised(discrete):
    module = make_bc(discrete)
    (group,) = module.parameter_groups()
    assert group["lr"] == module.learning_rate
    optimised = {id(parameter) for parameter in group["params"]}
    assert optimised == {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
    assert (id(module.head.log_std) in optimised) != discrete
