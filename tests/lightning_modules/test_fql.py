import pytest
import torch

from lightning_modules import FQL
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.actions import encode_actions
from tests.lightning_modules.batches import (
    ACTION_DIM,
    DIMS,
    generator,
    make_fql,
    moved_by,
    one_step_games,
    random_batch,
    randomise_parts,
    train,
)

BOTH = pytest.mark.parametrize("discrete", [True, False])
pytestmark = pytest.mark.usefixtures("float64")


def learned(discrete, **options):
    """With networks that all differ, targets included."""
    module = make_fql(discrete, **options)
    return randomise_parts(module, "distillation", "values.critic", "values.target_critic")


@pytest.mark.parametrize("normalise", [True, False])
@BOTH
def test_actors_weigh_distillation_against_the_critics_mean(discrete, normalise):
    """All three losses put together from their parts, with values computed from the critics directly."""
    batch = random_batch(discrete)
    module = learned(discrete, distillation_weight=2.5, normalise_q=normalise)
    steps, source = joint_steps(batch), generator()
    lesson = module.distillation.lesson(steps, source)
    if discrete:
        every = encode_actions(torch.arange(ACTION_DIM), ACTION_DIM, True)  # (A, A)
        asked = every[:, None, None].expand(ACTION_DIM, *lesson.output.shape)
        seen = steps.obs.expand(ACTION_DIM, *steps.obs.shape)
        values = module.values.critic(seen, asked).mean(dim=0).movedim(0, -1)
        values = (lesson.output.softmax(dim=-1) * values.detach()).sum(dim=-1)
    else:
        values = module.values.critic(steps.obs, lesson.output.clamp(-1, 1)).mean(dim=0)
    size = values.detach().abs().mean() if normalise else 1.0
    expected = 2.5 * lesson.distillation - values.mean() / size
    losses = module.losses(batch, generator())
    torch.testing.assert_close(losses["policy"], expected)
    torch.testing.assert_close(losses["teacher"], lesson.teacher)
    td = module.values.td_loss(batch, module.distillation.actor, source)  # its draws come last
    torch.testing.assert_close(losses["q"], td)
    parameters = list(module.distillation.actor.parameters())
    slopes = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (losses["policy"], expected)]
    for got, hand in zip(*slopes, strict=True):
        torch.testing.assert_close(got, hand)


@pytest.mark.parametrize("discrete_q", ["expected", "straight_through"])
@BOTH
def test_the_critics_term_moves_the_one_step_actor_only(discrete, discrete_q):
    module = learned(discrete, distillation_weight=0.0, discrete_q=discrete_q)
    moved = moved_by(module.losses(random_batch(discrete), generator())["policy"], module)
    assert moved and all(name.startswith("distillation.actor.") for name in moved)


@BOTH
def test_each_agent_learns_for_itself_from_the_teams_reward(discrete):
    """Targets have an axis of agents: no value of another agent enters one's own."""
    batch, module = random_batch(discrete), learned(discrete)
    before = module.values.targets(batch, module.distillation.actor, generator())
    obs = batch.obs.clone()
    obs[:, :, 1] += 1.0
    after = module.values.targets(batch._replace(obs=obs), module.distillation.actor, generator())
    inside = ~batch.terminals[:, :-1]
    assert torch.equal(after[[0, 2]], before[[0, 2]]) and bool((after[1] != before[1])[inside].all())


def test_it_finds_the_choice_that_pays():
    """Recorded evenly, but choice 1 of agent 0 pays."""
    games = one_step_games([[0, 0], [1, 0]], [8, 8], [0.0, 1.0])
    sizes = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2}
    module = make_fql(True, **sizes, distillation_weight=0.1)
    train(module, games, 60, 1e-2)
    obs, legal = torch.zeros(200, 2, 1), torch.ones(200, 2, 2, dtype=torch.bool)
    actions, _ = module.policy.act(obs, legal, None, generator())
    assert float(actions[:, 0].double().mean()) > 0.95


def test_it_is_buildable_from_its_defaults():
    module = FQL(**DIMS, discrete=False)
    assert module.hparams["distillation_weight"] == 10 and module.distillation.flow_steps == 10
    assert module.policy.network_calls == 1


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"distillation_weight": -1.0}, "distillation_weight must be at least 0, got -1.0"),
        ({"flow_steps": 0}, "flow_steps must be at least 1, got 0"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\]"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        make_fql(**option)
