import pytest
import torch

from lightning_modules.networks.actions import ILLEGAL_LOGIT
from lightning_modules.networks.one_step import (
    FlowTeacher,
    MeanFlowActor,
    OneStepActor,
    counted_entries,
    null_context,
)
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    OBS_DIM,
    generator,
    normal,
    random_legal_actions,
    randomise,
    team_shape,
)

ROWS = 6
pytestmark = pytest.mark.usefixtures("float64")


def inputs():
    """Observations, noise, legal actions; agent 0's last action is illegal everywhere."""
    legal = random_legal_actions(ROWS, N_AGENTS, ACTION_DIM)
    legal[..., 0, 0], legal[..., 0, -1] = True, False
    return normal(ROWS, N_AGENTS, OBS_DIM), normal(ROWS, N_AGENTS, ACTION_DIM, seed=1), legal


def actors(discrete):
    raw = () if discrete else (MeanFlowActor(team_shape(False), (8,), "velocity", raw=True),)
    return [
        randomise(each)
        for each in (OneStepActor(team_shape(discrete), (8,)), MeanFlowActor(team_shape(discrete), (8,)), *raw)
    ]


def test_an_actor_is_its_network_of_observation_number_and_noise():
    actor, (obs, noise, legal) = randomise(OneStepActor(team_shape(True), (8,))), inputs()
    number = torch.eye(N_AGENTS).expand(ROWS, N_AGENTS, N_AGENTS)
    expected = actor.mlp(torch.cat([obs, number, noise], dim=-1))
    output = actor.of_features(actor.encoder(obs), noise, legal)
    assert torch.equal(output[legal], expected[legal]) and bool((output[~legal] == ILLEGAL_LOGIT).all())


@pytest.mark.parametrize("discrete", [True, False])
def test_one_step_of_the_average_velocity_is_the_action(discrete):
    """Called one by one; with the endpoint output it is the network's own clean action."""
    actor, (obs, noise, legal) = randomise(MeanFlowActor(team_shape(discrete), (8,))), inputs()
    features = actor.encoder(obs)
    actions = actor.of_features(features, noise, legal)
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    for row in range(ROWS):
        for agent in range(N_AGENTS):
            allowed = legal[row, agent]
            z = noise[row, agent].masked_fill(~counted_entries(allowed, discrete), 0.0)
            context = null_context(features[row, agent][None], allowed[None])
            step = (z - actor.velocity(z[None], zero, one, context)[0]).masked_fill(
                ~counted_entries(allowed, discrete), 0.0
            )
            torch.testing.assert_close(actions[row, agent], step, rtol=0, atol=1e-12)
    assert bool((actions.abs() <= 1 + 1e-12).all())
    if discrete:  # 2 p - 1 over the legal choices
        torch.testing.assert_close(((actions + 1) / 2).sum(dim=-1), torch.ones(ROWS, N_AGENTS))
        torch.testing.assert_close(actions[~legal], -torch.ones(int((~legal).sum())))


def test_the_raw_answer_is_the_velocity_backwards_at_the_time_of_data():
    actor = randomise(MeanFlowActor(team_shape(False), (8,), "velocity", raw=True))
    obs, noise, _ = inputs()
    legal = torch.ones(ROWS, N_AGENTS, ACTION_DIM, dtype=torch.bool)
    features = actor.encoder(obs)
    rows, context = noise.flatten(0, 1), null_context(features.flatten(0, 1), legal.flatten(0, 1))
    zero, one = torch.zeros(len(rows), 1), torch.ones(len(rows), 1)
    expected = -actor.velocity(rows, one, zero, context).view(noise.shape)  # r = 1, t = 0
    assert torch.equal(actor.of_features(features, noise, legal), expected)


def test_entries_that_only_pad_an_action_change_nothing():
    obs, noise, legal = inputs()
    other = torch.where(legal, noise, 9.0)
    for actor in actors(discrete=False):
        features = actor.encoder(obs)
        actions = actor.of_features(features, noise, legal)
        assert torch.equal(actor.of_features(features, other, legal), actions)
        assert bool((actions[~legal] == 0).all()) and bool((actions[legal] != 0).all())
    for scope, output in (("local", "velocity"), ("joint", "endpoint")):
        teacher = randomise(FlowTeacher(team_shape(False), (8,), scope, output))
        seen = obs.flatten(-2) if scope == "joint" else obs
        t = torch.full((ROWS, N_AGENTS, 1), 0.3)
        velocity = teacher(noise, t, teacher.encoder(seen), legal)
        assert torch.equal(teacher(other, t, teacher.encoder(seen), legal), velocity)
        assert bool((velocity[~legal] == 0).all())


@pytest.mark.parametrize(("scope", "others_matter"), [("local", False), ("joint", True)])
def test_a_joint_teacher_sees_everybody_and_a_local_one_only_itself(scope, others_matter):
    obs, z, legal = inputs()
    teacher, t = randomise(FlowTeacher(team_shape(True), (8,), scope)), torch.full((ROWS, N_AGENTS, 1), 0.3)

    def velocity(obs, z):
        return teacher(z, t, teacher.encoder(obs.flatten(-2) if scope == "joint" else obs), legal)

    before = velocity(obs, z)
    for changed in ((obs + torch.eye(N_AGENTS)[1][:, None], z), (obs, z + torch.eye(N_AGENTS)[1][:, None])):
        after = velocity(*changed)
        assert not torch.equal(after[:, 1], before[:, 1])
        assert torch.equal(after[:, [0, 2]], before[:, [0, 2]]) is not others_matter


def test_a_local_teacher_is_the_velocity_at_one_time_without_condition():
    obs, z, legal = inputs()
    teacher = randomise(FlowTeacher(team_shape(False), (8,), "local", "velocity"))
    legal = torch.ones_like(legal)
    t = torch.rand(ROWS, N_AGENTS, 1, generator=generator())
    features = teacher.encoder(obs)
    velocity = teacher(z, t, features, legal)
    for row in range(ROWS):
        for agent in range(N_AGENTS):
            time, context = t[row, agent][None], null_context(features[row, agent][None], legal[row, agent][None])
            expected = teacher.network(z[row, agent][None], time, time, context)[0]
            torch.testing.assert_close(velocity[row, agent], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scope", ["local", "joint"])
def test_an_endpoint_teacher_flows_to_a_valid_action_of_every_agent(scope):
    """Z - t v is 2 softmax - 1 over each agent's own legal choices, or tanh, of what the network answers."""
    obs, z, legal = inputs()
    t = torch.rand(ROWS, 1, 1, generator=generator()).expand(ROWS, N_AGENTS, 1)
    for discrete in (True, False):
        teacher = randomise(FlowTeacher(team_shape(discrete), (8,), scope))
        z = z if discrete else z * legal
        features = teacher.encoder(obs.flatten(-2) if scope == "joint" else obs)
        rows = [field.flatten(1 if scope == "joint" else 0, -1) for field in (z, legal)]
        rows = [field if scope == "joint" else field.view(-1, ACTION_DIM) for field in rows]
        times = t[:, 0] if scope == "joint" else t.reshape(-1, 1)
        context = null_context(features.flatten(0, -2), rows[1])
        answers = teacher.network(rows[0], times, times, context).view(z.shape)
        ends = z - t * teacher(z, t, features, legal)
        for row in range(ROWS):
            for agent in range(N_AGENTS):
                allowed, answer = legal[row, agent], answers[row, agent]
                expected = torch.full((ACTION_DIM,), -1.0 if discrete else 0.0)
                expected[allowed] = 2 * answer[allowed].softmax(dim=-1) - 1 if discrete else answer[allowed].tanh()
                torch.testing.assert_close(ends[row, agent], expected, rtol=0, atol=1e-12)


def test_all_entries_of_a_choice_count():
    legal = torch.tensor([True, False])
    assert counted_entries(legal, True).tolist() == [True, True]
    assert counted_entries(legal, False).tolist() == [True, False]


def test_the_null_context_asks_for_nothing():
    context = null_context(torch.ones(2, 3), torch.ones(2, 4, dtype=torch.bool))
    assert torch.equal(context.condition, torch.zeros(2, 2)) and torch.equal(context.scale, torch.ones(2, 1))
    unconditional = context.unconditional()
    assert all(torch.equal(a, b) for a, b in zip(context, unconditional, strict=True))
