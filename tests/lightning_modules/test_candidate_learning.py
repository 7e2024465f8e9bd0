import pytest
import torch

from lightning_modules.candidate_learning import CandidateLearning
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    generator,
    random_batch,
    randomise,
    team_shape,
)

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def batch():
    """The last entry of agent 0's actions only pads them."""
    plain = random_batch(False)
    legal, actions = plain.legal_actions.clone(), plain.actions.clone()
    legal[..., 0, -1], actions[..., 0, -1] = False, 0.0
    return plain._replace(legal_actions=legal, actions=actions)


def learned(mixer="none", trace_decay=0.0):
    """With networks that all differ, targets included."""
    learner = CandidateLearning(team_shape(discrete=False), (8,), (8,), mixer, 3, 0.3, 0.9, trace_decay, 0.1)
    for seed, part in enumerate(learner.children()):
        randomise(part, seed)
    with torch.no_grad():
        learner.vae.recogniser.head.weight.mul_(0.1)
    return learner


def steps_of(batch):
    return batch.valid[:, :-1].nonzero().tolist()


@pytest.mark.parametrize("mixer", ["none", "vdn", "qmix"])
def test_values_follow_the_best_of_generated_actions(batch, mixer):
    learner, errors = learned(mixer), []
    drawn = learner.vae.generate(learner.vae.encoder(batch.obs), 3, generator())

    def mixed(network, values, state):
        return values if mixer == "none" else network(values, state).expand(1)

    for row, step in steps_of(batch):
        values = learner.critic(batch.obs[row, step], batch.actions[row, step])
        target = batch.rewards[row, step]
        if not batch.terminals[row, step]:
            if not batch.valid[row, step + 1]:
                continue
            obs, legal, best = batch.obs[row, step + 1], batch.legal_actions[row, step + 1], []
            features = learner.target_perturbation.encoder(obs)
            for agent in range(N_AGENTS):
                scores = []
                for candidate in drawn[:, row, step + 1]:
                    actions = learner.target_perturbation.of_features(features, candidate) * legal
                    first, second = learner.target_critic(obs, actions)[:, agent]
                    scores.append(0.75 * torch.minimum(first, second) + 0.25 * torch.maximum(first, second))
                best.append(torch.stack(scores).max())
            following = mixed(learner.target_mixer, torch.stack(best), batch.state[row, step + 1])
            target = target + 0.9 * following
        twins = [mixed(learner.mixer, member, batch.state[row, step]) for member in values]
        errors.append(sum((member - target).square().mean() for member in twins))
    torch.testing.assert_close(learner.losses(batch, generator())["q"], torch.stack(errors).mean())


def test_the_model_learns_what_was_done(batch):
    learner, terms, draws = learned(), [], generator()
    learner.targets(batch, draws)
    noise = torch.randn(*batch.obs[:, :-1].shape[:-1], 2 * ACTION_DIM, generator=draws)
    for row, step in steps_of(batch):
        features, recorded = learner.vae.encoder(batch.obs[row, step]), batch.actions[row, step]
        mean, log_std = learner.vae.recognise(features, recorded)
        again = learner.vae.decode(features, mean + log_std.exp() * noise[row, step])
        divergence = -0.5 * (1 + 2 * log_std - mean.square() - (2 * log_std).exp())
        for agent in range(N_AGENTS):
            legal = batch.legal_actions[row, step, agent]
            error = (again - recorded)[agent][legal].square().mean()
            terms.append(error + 0.5 * divergence[agent].mean())
    torch.testing.assert_close(learner.losses(batch, generator())["behaviour"], torch.stack(terms).mean())


def test_perturbations_raise_the_first_value(batch):
    learner = learned()
    before = -float(learner.losses(batch, generator())["policy"].detach())
    optimizer = torch.optim.Adam(learner.perturbation.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        learner.losses(batch, generator())["policy"].backward()
        assert all(p.grad is None for part in (learner.vae, learner.critic) for p in part.parameters())
        optimizer.step()
    assert -float(learner.losses(batch, generator())["policy"].detach()) > before + 0.05


def test_lagged_copies_belong_to_values_mixer_and_perturbation():
    assert [len(learned(mixer).target_pairs()) for mixer in ("none", "vdn", "qmix")] == [2, 2, 3]
    trained = {id(p) for p in (*learned("qmix").value_parameters(), *learned("qmix").actor_parameters())}
    assert len(trained) == sum(1 for p in learned("qmix").parameters() if p.requires_grad)
