import pytest
import torch

from lightning_modules import OMAR
from lightning_modules.actor_critic import ActorCritic
from lightning_modules.joint_steps import joint_steps
from lightning_modules.losses.zeroth_order import searched_actions
from tests.lightning_modules.batches import (
    DIMS,
    N_AGENTS,
    generator,
    make_omar,
    random_batch,
    randomise_parts,
)

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def batch():
    """The last entry of agent 0's actions only pads them."""
    plain = random_batch(False)
    legal, actions = plain.legal_actions.clone(), plain.actions.clone()
    legal[..., 0, -1], actions[..., 0, -1] = False, 0.0
    return plain._replace(legal_actions=legal, actions=actions)


def learned(**options):
    """With networks that all differ, targets included; asked at all recorded steps."""
    module = make_omar(**{"proposal_steps": None, **options})
    return randomise_parts(module, "head", "critic", "target_head", "target_critic")


def test_critics_learn_each_agents_return_alone(batch):
    module, errors = learned(penalty_weight=0.0), []
    for row, step in batch.valid[:, :-1].nonzero().tolist():
        target = batch.rewards[row, step].expand(N_AGENTS)
        if not batch.terminals[row, step]:
            if not batch.valid[row, step + 1]:
                continue
            obs = batch.obs[row, step + 1]
            actions = module.target_head(obs) * batch.legal_actions[row, step + 1]
            target = target + 0.9 * module.target_critic(obs, actions).amin(dim=0)
        errors.append((module.critic(batch.obs[row, step], batch.actions[row, step]) - target).square().sum(dim=0))
    torch.testing.assert_close(module.losses(batch, generator())["q"], torch.stack(errors).mean())


def test_the_penalty_is_a_soft_maximum_over_proposals_less_what_was_done(batch):
    module, plain = learned(penalty_weight=2.0), learned(penalty_weight=0.0)
    plain.load_state_dict(module.state_dict())
    steps = joint_steps(batch)
    own = module.head(batch.obs) * batch.legal_actions
    drawn = ActorCritic.proposals(batch, own, steps, 2, 0.2, generator())
    terms = []
    for step in range(len(steps.obs)):
        values = module.critic.of_features(module.critic.features(steps.obs[step]), drawn.actions[:, step])  # (2, 6, N)
        soft = (values - drawn.log_density[:, step]).exp().mean(dim=1).log()
        terms.append((soft - module.critic(steps.obs[step], steps.actions[step])).sum(dim=0))
    penalty = module.losses(batch, generator())["q"] - plain.losses(batch, generator())["q"]
    torch.testing.assert_close(penalty, 2 * torch.stack(terms).mean(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("imitation", "elites"), [(0.7, None), (1.0, 2), (0.0, None)])
def test_actors_imitate_the_better_action_and_climb(batch, imitation, elites):
    module = learned(imitation=imitation, search_elites=elites, action_penalty=0.1)
    steps, terms, better = joint_steps(batch), [], 0
    draws = generator()
    ActorCritic.proposals(batch, module.head(batch.obs), steps, 2, 0.2, draws)  # drawn before the search

    def score(actions):
        obs = steps.obs.expand(*actions.shape[:-1], -1)
        return module.critic.first(obs, actions * steps.legal_actions)

    own = module.head(steps.obs) * steps.legal_actions
    found = searched_actions(score, own.detach(), 2, 4, 2.0, elites, draws)
    at_own, at_found = score(own), score(found)
    for step in range(len(steps.obs)):
        for agent in range(N_AGENTS):
            wins = bool(at_found[step, agent] > at_own[step, agent])
            better += wins
            best = (found if wins else own.detach())[step, agent]
            legal = steps.legal_actions[step, agent]
            distance = (own[step, agent] - best)[legal].square().mean()
            loss = imitation * distance - (1 - imitation) * at_own[step, agent]
            terms.append(loss + 0.1 * own[step, agent].square().mean())
    assert 0 < better < len(terms)
    expected, loss = torch.stack(terms).mean(), module.losses(batch, generator())["policy"]
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    parameters = [p for p in module.head.parameters() if p.requires_grad]
    slopes = (torch.autograd.grad(term, parameters) for term in (loss, expected))
    for got, slope in zip(*slopes, strict=True):
        torch.testing.assert_close(got, slope, rtol=1e-8, atol=1e-10)


def test_a_few_steps_are_enough_for_proposals(batch):
    module = learned(proposal_steps=5)
    losses = module.losses(batch, generator())
    assert all(bool(loss.isfinite()) for loss in losses.values())


def test_it_is_buildable_from_its_defaults():
    assert OMAR(**DIMS, discrete=False).hparams["imitation"] == 0.7


def test_choices_are_refused():
    with pytest.raises(ValueError, match=r"OMAR searches continuous actions, .* use MACQL or CFCQL instead"):
        make_omar(discrete=True)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"imitation": 1.1}, r"imitation must be in \[0, 1\], got 1.1"),
        ({"penalty_weight": -1.0}, "penalty_weight must be at least 0"),
        ({"n_proposals": 0}, "n_proposals must be at least 1"),
        ({"proposal_std": 0.0}, "proposal_std must be above 0"),
        ({"proposal_steps": 0}, "proposal_steps must be at least 1 or null"),
        ({"search_iterations": 0}, "search_iterations must be at least 1"),
        ({"search_samples": 0}, "search_samples must be at least 1"),
        ({"search_std": 0.0}, "search_std must be above 0"),
        ({"search_elites": 5}, r"search_elites must be in 2..4 \(search_samples\) or null, got 5"),
        ({"action_penalty": -1.0}, "action_penalty must be at least 0"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\]"),
        ({"trace_decay": -0.1}, r"trace_decay must be in \[0, 1\]"),
        ({"target_rate": 0.0}, r"target_rate must be in \(0, 1\]"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        make_omar(**option)
