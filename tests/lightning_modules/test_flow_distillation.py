import pytest
import torch

from lightning_modules.flow_distillation import FlowDistillation
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.one_step_policies import OneStepPolicy
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    OBS_DIM,
    generator,
    moved_by,
    one_step_games,
    parts_moved_by,
    random_batch,
    randomise,
    team_shape,
)

BOTH = pytest.mark.parametrize("discrete", [True, False])
SCOPES = pytest.mark.parametrize("scope", ["local", "joint"])
pytestmark = pytest.mark.usefixtures("float64")


def pupil(discrete, scope, output="endpoint", flow_steps=3):
    return randomise(FlowDistillation(team_shape(discrete), (8,), scope, output, flow_steps))


def recorded(discrete, filling=0.0):
    """Valid steps; the last entry of agent 0's continuous actions only pads them."""
    steps = joint_steps(random_batch(discrete))
    if discrete:
        return steps
    legal, actions = steps.legal_actions.clone(), steps.actions.clone()
    legal[..., 0, -1], actions[..., 0, -1] = False, filling
    return steps._replace(legal_actions=legal, actions=actions)


def velocities(pupil, steps, z, t):
    """The teacher's answers step by step: to the whole team's vectors, or to one agent after the other."""
    seen = steps.obs.flatten(1) if pupil.teacher.joint else steps.obs
    rows = []
    for row in range(len(z)):
        known = pupil.teacher.encoder(seen[row : row + 1])
        rows.append(pupil.teacher(z[row : row + 1], t[row : row + 1], known, steps.legal_actions[row : row + 1])[0])
    return torch.stack(rows)


@pytest.mark.parametrize("output", ["endpoint", "velocity"])
@SCOPES
@BOTH
def test_the_teacher_learns_the_velocity_from_action_to_noise(discrete, scope, output):
    """Against a plain computation with the same draws: noise of all agents, then times; endpoints times t²."""
    module, steps, source = pupil(discrete, scope, output), recorded(discrete), generator()
    a = encode_actions(steps.actions, ACTION_DIM, discrete)
    noise = torch.randn(a.shape, generator=source)
    t = torch.rand((len(a), 1 if scope == "joint" else N_AGENTS, 1), generator=source).expand(len(a), N_AGENTS, 1)
    t = 0.05 + 0.95 * t if output == "endpoint" else t
    error = (velocities(module, steps, (1 - t) * a + t * noise, t) - (noise - a)).square()
    error = t.square() * error if output == "endpoint" else error
    counts = torch.ones_like(steps.legal_actions) if discrete else steps.legal_actions
    expected = torch.stack(
        [(error[..., i, :] * counts[..., i, :]).sum(-1) / counts[..., i, :].sum(-1) for i in range(3)]
    )
    loss = module.lesson(steps, generator()).teacher
    torch.testing.assert_close(loss, expected.mean())
    assert parts_moved_by(loss, module) == {"teacher"}


@SCOPES
@BOTH
def test_actors_imitate_where_the_teacher_takes_the_same_noise(discrete, scope):
    """Three steps of Euler by hand from t = 1, then the squared distance, or the cross entropy of the largest entry."""
    module, steps, source = pupil(discrete, scope), recorded(discrete), generator()
    torch.randn(steps.legal_actions.shape, generator=source)  # the teacher's own draws come first
    torch.rand((len(steps.obs), 1 if scope == "joint" else N_AGENTS, 1), generator=source)
    noise = torch.randn(steps.legal_actions.shape, generator=source)
    z = noise
    for t in (1.0, 2 / 3, 1 / 3):
        z = z - velocities(module, steps, z, torch.full((len(z), N_AGENTS, 1), t)) / 3
    legal, terms = steps.legal_actions, []
    answers = module.actor.of_features(module.actor.encoder(steps.obs), noise, legal)
    for row in range(len(z)):
        for agent in range(N_AGENTS):
            allowed, answer = legal[row, agent], answers[row, agent]
            if discrete:
                best = int(z[row, agent].masked_fill(~allowed, -torch.inf).argmax())
                terms.append(answer[allowed].logsumexp(dim=0) - answer[best])
            else:
                terms.append((answer - z[row, agent].clamp(-1, 1))[allowed].square().mean())
    lesson = module.lesson(steps, generator())
    torch.testing.assert_close(lesson.distillation, torch.stack(terms).mean())
    assert torch.equal(lesson.output, answers)
    assert parts_moved_by(lesson.distillation, module) == {"actor"}


def test_entries_that_only_pad_an_action_change_nothing():
    for scope in ("local", "joint"):
        module = pupil(False, scope)
        first, second = (module.lesson(recorded(False, filling), generator()) for filling in (0.0, 5.0))
        assert torch.equal(first.teacher, second.teacher) and torch.equal(first.distillation, second.distillation)


@BOTH
def test_a_joint_teacher_needs_the_others_observations_and_execution_never_does(discrete):
    steps, noise = recorded(discrete), torch.randn(1, N_AGENTS, ACTION_DIM, generator=generator())
    noise = noise.expand(steps.legal_actions.shape)
    obs = steps.obs.clone()
    obs[:, 1] += 3.0
    other = steps._replace(obs=obs)
    for scope, matters in (("joint", True), ("local", False)):
        module = pupil(discrete, scope)
        ends = [module.taught_actions(each, module.teacher_features(each), noise)[:, [0, 2]] for each in (steps, other)]
        assert torch.equal(*ends) is not matters
        policy = OneStepPolicy(module.actor)
        acted = [policy.act(each.obs, each.legal_actions, None, generator())[0][:, [0, 2]] for each in (steps, other)]
        assert torch.equal(*acted)


def test_with_memory_the_joint_teacher_remembers_the_whole_team():
    """What another agent saw one step ago reaches an agent's teacher, not its actor."""
    module = randomise(FlowDistillation(team_shape(encoder="gru", memory_dim=4), (8,), "joint", "endpoint", 2))
    batch = random_batch(True, window=4)
    batch = batch._replace(valid=torch.ones_like(batch.valid))
    obs = batch.obs.clone()
    obs[:, 0, 1] += 2.0
    first, second = joint_steps(batch), joint_steps(batch._replace(obs=obs))
    later = first.position % 4 == 1
    known = [module.teacher_features(steps)[later] for steps in (first, second)]
    assert known[0].shape == (int(later.sum()), N_AGENTS * OBS_DIM + 4) and not torch.equal(*known)
    own = [steps.features(module.actor.encoder)[later][:, [0, 2]] for steps in (first, second)]
    assert torch.equal(*own)


def learned(actions, counts, scope):
    """Flow and actors after some updates on one-step games of two agents without observations."""
    games = one_step_games(actions, counts, [0.0] * len(actions))
    module = FlowDistillation(team_shape(n_agents=2, obs_dim=1, action_dim=2), (16,), scope, "endpoint", 3)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for update in range(150):
        lesson = module.lesson(joint_steps(games), generator(update))
        optimizer.zero_grad()
        (lesson.teacher + lesson.distillation).backward()
        optimizer.step()
    steps = joint_steps(one_step_games([[0, 0]], [1000], [0.0]))
    noise = torch.randn(1000, 2, 2, generator=generator())
    taught = module.taught_actions(steps, module.teacher_features(steps), noise)
    acted, _ = OneStepPolicy(module.actor).act(steps.obs, steps.legal_actions, None, generator())
    return taught, acted


def test_a_joint_teacher_knows_who_does_what_and_its_pupils_do_not():
    """Two joint choices, (0, 1) and (1, 0): the teacher plays nothing else, independent pupils half of the time."""
    taught, acted = learned([[0, 1], [1, 0]], [32, 32], "joint")
    assert float((taught[:, 0] != taught[:, 1]).double().mean()) > 0.9
    assert 0.4 < float(acted.double().mean()) < 0.6
    assert 0.3 < float((acted[:, 0] != acted[:, 1]).double().mean()) < 0.8


def test_a_local_teacher_and_its_pupils_keep_each_agents_shares():
    taught, acted = learned([[0, 1], [1, 1]], [48, 16], "local")
    for actions in (taught, acted):
        assert abs(float(actions[:, 0].double().mean()) - 0.25) < 0.08
        assert float(actions[:, 1].double().mean()) > 0.97


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="flow_steps must be at least 1, got 0"):
        FlowDistillation(team_shape(), (8,), "local", "endpoint", 0)


def test_the_two_losses_share_no_network():
    lesson = (module := pupil(True, "joint")).lesson(recorded(True), generator())
    assert not moved_by(lesson.teacher, module) & moved_by(lesson.distillation, module)
