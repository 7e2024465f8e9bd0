import math

import pytest
import torch

from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.actions import draw_legal_actions
from lightning_modules.networks.policies import GreedyPolicy, HeadPolicy
from tests.lightning_modules.batches import (
    N_AGENTS,
    generator,
    make_macql,
    one_step_games,
    random_batch,
    randomise,
    train,
)

pytestmark = pytest.mark.usefixtures("float64")


def penalty(module, batch, seed=0):
    """What is left of the loss when the temporal-difference term is taken away, per unit of weight."""
    loss = module.losses(batch, generator(seed))["q"]
    module.penalty_weight, weight = 0.0, module.penalty_weight
    rest = module.losses(batch, generator(seed))["q"]
    module.penalty_weight = weight
    return (loss - rest) / weight


def flat(module):
    """The module with values that are the same for every action."""
    with torch.no_grad():
        if module.discrete:
            module.learner.q.local.mlp.head.weight.zero_()
            module.learner.q.local.mlp.head.bias.fill_(1.7)
        else:
            for critic in module.learner.members:
                critic.central.head.weight.zero_()
                critic.central.head.bias.fill_(1.7)
    return module


@pytest.mark.parametrize("mixer", ["none", "vdn", "qmix"])
def test_the_local_penalty_of_a_constant_is_the_logarithm_of_the_number_of_legal_actions(mixer):
    batch = random_batch()
    legal = batch.legal_actions[:, :-1].sum(dim=-1).double()[batch.valid[:, :-1]]
    ours = penalty(flat(make_macql(mixer=mixer, penalty="local")), batch)
    torch.testing.assert_close(ours, legal.log().mean())
    assert float(legal.min()) == 1 and float(legal.max()) > 2


@pytest.mark.parametrize(("n_proposals", "mixer"), [(1, "vdn"), (4, "qmix")])
def test_the_joint_penalty_of_a_constant_is_the_logarithm_of_the_number_of_proposals(n_proposals, mixer):
    ours = penalty(flat(make_macql(mixer=mixer, n_proposals=n_proposals)), random_batch())
    assert float(ours.detach()) == pytest.approx(math.log(n_proposals + 1))


def test_the_penalty_of_a_constant_over_continuous_actions_is_the_volume_that_proposals_cover():
    """Even ones say 2^(N A) each; those around the actors say one over their density."""
    batch = random_batch(discrete=False)
    module = flat(make_macql(False, n_proposals=6))
    steps = joint_steps(batch)
    drawn = module.learner.proposals(batch, module.learner.actions(batch), steps, 6, 0.2, generator())
    volume = (-drawn.log_density.sum(dim=-1)).exp().mean(dim=0).log()
    torch.testing.assert_close(drawn.log_density[:6].sum(dim=-1), torch.full((6, len(volume)), -12 * math.log(2)))
    source = generator()
    ours = module._penalty_of_actions(module.learner, batch, module.learner.actions(batch), source)
    torch.testing.assert_close(ours, 2 * volume.mean())  # two critics


def test_the_joint_penalty_by_hand():
    batch, module = random_batch(), randomise(make_macql(mixer="qmix", n_proposals=3).double())
    q = module.learner.q
    drawn = draw_legal_actions(batch.legal_actions[:, :-1], 3, generator())
    terms = []
    for row in range(len(batch.obs)):
        for step in range(batch.obs.shape[1] - 1):
            if not batch.valid[row, step]:
                continue
            values = []
            for joint in [*drawn[:, row, step], batch.actions[row, step]]:
                for agent in range(N_AGENTS):
                    assert batch.legal_actions[row, step, agent, joint[agent]]
                values.append(q.mixer(q.local(batch.obs[row, step], joint), batch.state[row, step]))
            terms.append(torch.stack(values).logsumexp(dim=0) - values[-1])
    torch.testing.assert_close(penalty(module, batch), torch.stack(terms).mean())


def test_the_local_penalty_by_hand():
    batch, module = random_batch(), randomise(make_macql(mixer="qmix", penalty="local").double())
    values, terms = module.learner.q.local.all_values(batch.obs), []
    for row in range(len(batch.obs)):
        for step in range(batch.obs.shape[1] - 1):
            for agent in range(N_AGENTS if batch.valid[row, step] else 0):
                own = values[row, step, agent]
                terms.append(own[batch.legal_actions[row, step, agent]].logsumexp(dim=0))
                terms[-1] = terms[-1] - own[batch.actions[row, step, agent]]
    torch.testing.assert_close(penalty(module, batch), torch.stack(terms).mean())


def test_the_penalty_of_continuous_actions_by_hand():
    batch, module = random_batch(False, batch=8), randomise(make_macql(False, n_proposals=2).double())
    learner, steps = module.learner, joint_steps(batch)
    drawn = learner.proposals(batch, learner.actions(batch), steps, 2, 0.2, generator())
    total = 0.0
    for critic in learner.members:
        for row in range(len(steps.obs)):
            recorded = critic(steps.obs[row], steps.state[row], steps.actions[row])
            chances = [
                (critic(steps.obs[row], steps.state[row], joint[row]) - density[row].sum()).exp()
                for joint, density in zip(drawn.actions, drawn.log_density, strict=True)
            ]
            total = total + (torch.stack(chances).mean().log() - recorded) / len(steps.obs)
    ours = module._penalty_of_actions(learner, batch, learner.actions(batch), generator())
    torch.testing.assert_close(ours, total)


@pytest.mark.parametrize(("discrete", "mixer"), [(True, "vdn"), (True, "qmix"), (True, "qtran"), (False, "qmix")])
def test_without_weight_it_is_plain_learning(discrete, mixer):
    module, batch = make_macql(discrete, mixer=mixer, penalty_weight=0.0), random_batch(discrete)
    learner = module.learner
    td_loss = learner.td_loss(batch, learner.utilities(batch) if discrete else generator())
    torch.testing.assert_close(module.losses(batch, generator())["q"], td_loss)


def test_a_large_weight_leaves_the_recorded_actions():
    """What was never recorded is worth clearly less than anything that was."""
    dims = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 3}
    batch = one_step_games([[0, 1], [1, 0]], [3, 3], [1.0, 0.8], n_actions=3)
    module = make_macql(**dims, mixer="vdn", penalty="local", penalty_weight=2.0)
    train(module, batch, 80, learning_rate=0.03)
    values = module.learner.q.local.all_values(torch.zeros(1, 2, 1))[0].detach()
    assert bool((values[:, 2] < values[:, :2].amin(dim=-1) - 1).all())


def test_continuous_steps_of_the_penalty_are_a_sample():
    """The mean over many draws of few steps is the penalty of all steps."""
    batch, module = random_batch(discrete=False), make_macql(False, n_proposals=2, penalty_steps=6)
    learner, actions = module.learner, module.learner.actions(batch)
    with torch.no_grad():
        few = [module._penalty_of_actions(learner, batch, actions, generator(seed)) for seed in range(100)]
        module.penalty_steps = None
        every = [module._penalty_of_actions(learner, batch, actions, generator(seed)) for seed in range(50)]
    few, every = torch.stack(few), torch.stack(every)
    assert float(few.mean()) == pytest.approx(float(every.mean()), abs=4 * float(few.std()) / 10)


def test_what_acts():
    choices, continuous = make_macql(), make_macql(False)
    assert choices.policy == GreedyPolicy(choices.learner.q.local)
    assert continuous.policy == HeadPolicy(continuous.learner.actor, sample=False)


@pytest.mark.parametrize("discrete", [True, False])
def test_diagnostics_say_the_penalty(discrete):
    module, batch = make_macql(discrete), random_batch(discrete)
    answers = module.diagnostics(batch)
    assert set(answers) == {"q_recorded", "q_policy", "q_target", "penalty"}
    assert all(bool(answer.isfinite()) and not answer.requires_grad for answer in answers.values())
    torch.testing.assert_close(answers["penalty"], penalty(module, batch).detach())


@pytest.mark.parametrize(
    ("discrete", "option", "match"),
    [
        (True, {"penalty_weight": -1.0}, r"penalty_weight must be at least 0, got -1\.0.*model\.init_args"),
        (True, {"n_proposals": 0}, "n_proposals must be at least 1, got 0"),
        (False, {"proposal_std": 0.0}, r"proposal_std must be above 0, got 0\.0"),
        (False, {"penalty_steps": 0}, "penalty_steps must be at least 1, got 0"),
        (True, {"discount": 1.1}, r"discount must be in \[0, 1\], got 1\.1"),
        (True, {"trace_decay": -0.1}, r"trace_decay must be in \[0, 1\], got -0\.1"),
        (True, {"target_rate": 0.0}, r"target_rate must be in \(0, 1\], got 0\.0"),
        (True, {"mixer": "none"}, "penalty must be 'local' with mixer 'none', which has no value of joint actions"),
        (False, {"penalty": "local"}, r"penalty must be 'joint' for continuous actions \(ma_cql.yaml; one agent at"),
    ],
)
def test_impossible_options_are_refused(discrete, option, match):
    with pytest.raises(ValueError, match=match):
        make_macql(discrete, **option)
