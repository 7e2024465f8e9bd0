import pytest
import torch

from lightning_modules import MACFlow
from lightning_modules.joint_steps import joint_steps
from tests.lightning_modules.batches import (
    DIMS,
    generator,
    make_mac_flow,
    moved_by,
    one_step_games,
    parts_moved_by,
    random_batch,
    randomise_parts,
    train,
)

BOTH = pytest.mark.parametrize("discrete", [True, False])
TEACHERS = pytest.mark.parametrize("teacher", ["joint", "local"])
pytestmark = pytest.mark.usefixtures("float64")


def learned(discrete, **options):
    """With networks that all differ, targets included."""
    module = make_mac_flow(discrete, **options)
    return randomise_parts(module, "distillation", "values.critic", "values.target_critic")


def slopes(loss, module):
    return torch.autograd.grad(loss, list(module.distillation.actor.parameters()), retain_graph=True)


def test_the_original_value_of_choices_teaches_nothing():
    """Gradients are those of α times distillation, bit by bit: the released code clones."""
    batch, module = random_batch(True), learned(True, discrete_q="original", distillation_weight=2.0)
    policy = module.losses(batch, generator())["policy"]
    distillation = module.distillation.lesson(joint_steps(batch), generator()).distillation
    for whole, part in zip(slopes(policy, module), slopes(2.0 * distillation, module), strict=True):
        assert torch.equal(whole, part)
    assert float((policy - 2.0 * distillation).detach().abs()) > 0.1  # the term is there, it only has no gradient


@pytest.mark.parametrize("discrete_q", ["expected", "straight_through"])
@TEACHERS
def test_the_corrected_value_of_choices_moves_the_actor_and_nothing_else(discrete_q, teacher):
    module = learned(True, discrete_q=discrete_q, distillation_weight=0.0, teacher=teacher)
    policy = module.losses(random_batch(True), generator())["policy"]
    assert parts_moved_by(policy, module, depth=2) == {"distillation.actor"}
    assert all(bool((slope != 0).any()) for slope in slopes(policy, module))


@TEACHERS
@BOTH
def test_each_loss_moves_its_own_network(discrete, teacher):
    module = learned(discrete, teacher=teacher)
    losses = module.losses(random_batch(discrete), generator())
    moved = {name: {part.rsplit(".", 1)[0] for part in moved_by(loss, module)} for name, loss in losses.items()}
    prefix = {"q": "values.critic", "teacher": "distillation.teacher", "policy": "distillation.actor"}
    assert all(parts and all(part.startswith(prefix[name]) for part in parts) for name, parts in moved.items())


@BOTH
def test_values_add_up_to_the_teams(discrete):
    """One target for the team, in which every agent's next value enters."""
    batch, module = random_batch(discrete), learned(discrete)
    before = module.values.targets(batch, module.distillation.actor, generator())
    assert before.shape == batch.rewards[:, :-1].shape
    for agent in range(3):
        obs = batch.obs.clone()
        obs[:, :, agent] += 1.0
        after = module.values.targets(batch._replace(obs=obs), module.distillation.actor, generator())
        ended = batch.terminals[:, :-1]
        assert torch.equal(after[ended], before[ended]) and bool((after != before)[~ended].all())


@BOTH
def test_a_joint_teacher_sees_the_team_in_training_and_actors_see_themselves_when_acting(discrete):
    batch = random_batch(discrete)
    batch = batch._replace(valid=torch.ones_like(batch.valid))
    obs = batch.obs.clone()
    obs[:, :, 1] += 2.0

    def taught_to_others(module, batch):
        """What agents 0 and 2 are taught, under the same noise."""
        steps = joint_steps(batch)
        noise = torch.randn(steps.legal_actions.shape, generator=generator())
        known = module.distillation.teacher_features(steps)
        return module.distillation.taught_actions(steps, known, noise)[:, [0, 2]]

    for teacher in ("joint", "local"):
        module = learned(discrete, teacher=teacher)
        taught = [taught_to_others(module, each) for each in (batch, batch._replace(obs=obs))]
        assert torch.equal(*taught) is (teacher == "local")
        legal = batch.legal_actions[:, 0]
        for policy in module.evaluation_policies().values():
            acted = [policy.act(each[:, 0], legal, None, generator())[0][:, [0, 2]] for each in (batch.obs, obs)]
            assert torch.equal(*acted)


@pytest.mark.parametrize("discrete_q", ["expected", "straight_through"])
def test_it_finds_the_better_joint_choice(discrete_q):
    """Recorded evenly, but (1, 1) pays."""
    games = one_step_games([[0, 0], [0, 1], [1, 0], [1, 1]], [4, 4, 4, 4], [0.0, 0.0, 0.0, 1.0])
    sizes = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2}
    module = make_mac_flow(True, **sizes, distillation_weight=0.01, discrete_q=discrete_q)
    train(module, games, 60, 1e-2)
    obs, legal = torch.zeros(200, 2, 1), torch.ones(200, 2, 2, dtype=torch.bool)
    actions, _ = module.policy.act(obs, legal, None, generator())
    assert float((actions == 1).all(dim=-1).double().mean()) > 0.9


def test_it_is_buildable_from_its_defaults():
    module = MACFlow(**DIMS, discrete=True)
    assert module.hparams["teacher"] == "joint" and module.policy.network_calls == 1


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"distillation_weight": -1.0}, "distillation_weight must be at least 0, got -1.0"),
        ({"flow_steps": 0}, "flow_steps must be at least 1, got 0"),
        ({"target_rate": 0.0}, r"target_rate must be in \(0, 1\]"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        make_mac_flow(**option)
