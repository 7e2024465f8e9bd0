import math

import pytest
import torch

from lightning_modules.joint_steps import joint_steps
from lightning_modules.losses.conservative import categorical_divergence
from lightning_modules.networks.actions import mask_illegal
from lightning_modules.networks.policies import GreedyPolicy, HeadPolicy
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    generator,
    make_bc,
    make_cfcql,
    make_macql,
    parts_moved_by,
    random_batch,
    randomise,
)

pytestmark = pytest.mark.usefixtures("float64")


def random_module(discrete=True, **options):
    return randomise(make_cfcql(discrete, **options).double())


def penalty_of_choices(module, batch):
    utilities = module.learner.utilities(batch).learning_steps()
    return module._penalty_of_choices(module.learner, batch, utilities)


def penalty_of_actions(module, batch, seed=0):
    return module._penalty_of_actions(module.learner, batch, module.learner.actions(batch), generator(seed))


def alternatives(module, batch, row, step, agent):
    """Q_tot for every legal choice of one agent while the others do what was recorded; and that of the record."""
    q, recorded = module.learner.q, batch.actions[row, step]
    values = {}
    for choice in range(ACTION_DIM):
        joint = recorded.clone()
        joint[agent] = choice
        if batch.legal_actions[row, step, agent, choice]:
            values[choice] = q.mixer(q.local(batch.obs[row, step], joint), batch.state[row, step])
    return values


def recorded_steps(batch):
    return [tuple(index) for index in batch.valid[:, :-1].nonzero().tolist()]


@pytest.mark.parametrize("mixer", ["vdn", "qmix"])
@pytest.mark.parametrize("temperature", [0.0, 0.7, -0.7, math.inf])
def test_the_penalty_of_choices_by_hand(mixer, temperature):
    """Plain loops: soft maxima of one agent's legal choices, weighed by their distance from the clone."""
    batch, module = random_batch(), random_module(mixer=mixer, weight_temperature=temperature)
    terms = []
    for row, step in recorded_steps(batch):
        soft, far = [], []
        for agent in range(N_AGENTS):
            values = alternatives(module, batch, row, step, agent)
            recorded = values[int(batch.actions[row, step, agent])]
            soft.append(torch.stack(list(values.values())).logsumexp(dim=0) - recorded)
            if temperature != 0:
                legal = list(values)
                logits = module.behaviour(batch.obs[row, step])[agent, legal]
                greedy = torch.stack(list(values.values())).softmax(dim=0).detach() + 1e-5
                behaviour = logits.softmax(dim=0).detach() + 1e-5
                far.append((greedy * (greedy / behaviour).log()).sum())
        if temperature == 0:
            terms.append(sum(soft) / N_AGENTS)
        elif math.isinf(temperature):
            terms.append(soft[int(torch.stack(far).argmax())])
        else:
            terms.append((torch.stack(soft) * (temperature * torch.stack(far)).softmax(dim=0)).sum())
    torch.testing.assert_close(penalty_of_choices(module, batch), torch.stack(terms).mean())


def test_of_a_constant_value_it_is_the_logarithm_of_the_number_of_legal_actions():
    batch, module = random_batch(), make_cfcql(weight_temperature=0.0)
    with torch.no_grad():
        module.learner.q.local.mlp.head.weight.zero_()
    legal = batch.legal_actions[:, :-1].sum(dim=-1).double()[batch.valid[:, :-1]]
    torch.testing.assert_close(penalty_of_choices(module, batch), legal.log().mean())


def test_at_an_infinite_temperature_it_is_conservative_learning_of_the_farthest_agent():
    """A large temperature is nearly so; with one agent it is that agent's penalty of MACQL."""
    batch = random_batch()
    exact = random_module(weight_temperature=math.inf)
    near = random_module(weight_temperature=1e6)
    torch.testing.assert_close(penalty_of_choices(near, batch), penalty_of_choices(exact, batch))
    one = batch._replace(
        obs=batch.obs[:, :, :1], actions=batch.actions[:, :, :1], legal_actions=batch.legal_actions[:, :, :1]
    )
    alone = randomise(make_cfcql(n_agents=1, mixer="vdn", weight_temperature=math.inf).double())
    macql = make_macql(n_agents=1, mixer="vdn", penalty="local").double()
    macql.learner.load_state_dict(alone.learner.state_dict())
    steps = macql.learner.utilities(one).learning_steps()
    expected = macql._penalty_of_choices(macql.learner, one, steps, generator())
    torch.testing.assert_close(penalty_of_choices(alone, one), expected)


def test_the_weights_follow_the_divergence_and_get_no_gradient():
    batch, module = random_batch(), random_module(weight_temperature=2.0)
    legal = batch.legal_actions[:, :-1]
    values = torch.randn(*legal.shape, requires_grad=True)
    weights = module._weights_of_choices(batch, values, legal)
    logs = mask_illegal(module.behaviour(batch.obs[:, :-1]), legal).log_softmax(dim=-1)
    far = categorical_divergence(values, logs, legal)
    assert torch.equal(weights.argmax(dim=-1), far.argmax(dim=-1))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(far[..., 0]))
    assert not weights.requires_grad
    assert "behaviour" not in parts_moved_by(penalty_of_choices(module, batch), module)


@pytest.mark.parametrize("temperature", [0.0, 0.7, math.inf])
def test_the_penalty_of_continuous_actions_by_hand(temperature):
    batch, module = random_batch(False, batch=8), random_module(False, n_proposals=2, weight_temperature=temperature)
    learner, steps = module.learner, joint_steps(batch)
    drawn = learner.proposals(batch, learner.actions(batch), steps, 2, 0.2, generator())
    total = 0.0
    for critic in learner.members:
        for row in range(len(steps.obs)):
            recorded = critic(steps.obs[row], steps.state[row], steps.actions[row])
            soft, far = [], []
            for agent in range(N_AGENTS):
                chances = []
                for proposal, density in zip(drawn.actions, drawn.log_density, strict=True):
                    joint = steps.actions[row].clone()
                    joint[agent] = proposal[row, agent]
                    value = critic(steps.obs[row], steps.state[row], joint)
                    chances.append((value - density[row, agent]).exp())
                soft.append(torch.stack(chances).mean().log())
                if temperature != 0:
                    own = torch.distributions.Normal(learner.actor(steps.obs[row])[agent], torch.tensor(0.2))
                    std = module.behaviour.log_std.clamp(-5.0, 2.0).exp()
                    cloned = torch.distributions.Normal(module.behaviour(steps.obs[row])[agent], std)
                    far.append(torch.distributions.kl_divergence(own, cloned).sum().detach())
            if temperature == 0:
                mixed = sum(soft) / N_AGENTS
            elif math.isinf(temperature):
                mixed = soft[int(torch.stack(far).argmax())]
            else:
                mixed = (torch.stack(soft) * (temperature * torch.stack(far)).softmax(dim=0)).sum()
            total = total + (mixed - recorded) / len(steps.obs)
    torch.testing.assert_close(penalty_of_actions(module, batch), total)


@pytest.mark.parametrize("discrete", [True, False])
def test_the_behaviour_is_cloned_as_bc_does(discrete):
    batch, module = random_batch(discrete), random_module(discrete)
    bc = make_bc(discrete, steps_per_update=None).double()
    bc.head.load_state_dict(module.behaviour.state_dict())
    torch.testing.assert_close(module.losses(batch, generator())["behaviour"], bc.losses(batch, generator())["policy"])


@pytest.mark.parametrize("discrete", [True, False])
def test_the_loss_is_its_parts(discrete):
    batch, module = random_batch(discrete), random_module(discrete, penalty_weight=2.5, target_noise=0.0)
    learner = module.learner
    if discrete:
        expected = learner.td_loss(batch, learner.utilities(batch)) + 2.5 * penalty_of_choices(module, batch)
    else:
        expected = learner.td_loss(batch, generator()) + 2.5 * penalty_of_actions(module, batch)
    torch.testing.assert_close(module.losses(batch, generator())["q"], expected)


@pytest.mark.parametrize("discrete", [True, False])
def test_agents_that_count_alike_need_no_clone(discrete):
    module = make_cfcql(discrete, weight_temperature=0.0)
    assert module.behaviour is None and "behaviour" not in module.losses(random_batch(discrete), generator())
    assert all(group["params"] for group in module.parameter_groups())


@pytest.mark.parametrize("discrete", [True, False])
def test_diagnostics_say_the_penalty(discrete):
    module, batch = make_cfcql(discrete), random_batch(discrete)
    answers = module.diagnostics(batch)
    assert set(answers) == {"q_recorded", "q_policy", "q_target", "penalty"}
    expected = penalty_of_choices(module, batch) if discrete else penalty_of_actions(module, batch)
    torch.testing.assert_close(answers["penalty"], expected.detach())


def test_what_acts():
    choices, continuous = make_cfcql(), make_cfcql(False)
    assert choices.policy == GreedyPolicy(choices.learner.q.local)
    assert continuous.policy == HeadPolicy(continuous.learner.actor, sample=False)


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"penalty_weight": -1.0}, r"penalty_weight must be at least 0, got -1\.0.*model\.init_args"),
        ({"n_proposals": 0}, "n_proposals must be at least 1, got 0"),
        ({"proposal_std": 0.0}, r"proposal_std must be above 0, got 0\.0"),
        ({"penalty_steps": 0}, "penalty_steps must be at least 1, got 0"),
        ({"target_noise": -0.1}, r"target_noise must be at least 0, got -0\.1"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\], got 1\.1"),
        ({"trace_decay": -0.1}, r"trace_decay must be in \[0, 1\], got -0\.1"),
        ({"target_rate": 0.0}, r"target_rate must be in \(0, 1\], got 0\.0"),
    ],
)
def test_impossible_options_are_refused(option, match):
    with pytest.raises(ValueError, match=match):
        make_cfcql(**option)
