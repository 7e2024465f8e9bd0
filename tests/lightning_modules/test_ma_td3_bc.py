import pytest
import torch

from lightning_modules import MATD3BC
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.gumbel import straight_through_choice
from lightning_modules.networks.local_critics import LocalCritics
from tests.lightning_modules.batches import (
    ACTION_DIM,
    DIMS,
    N_AGENTS,
    generator,
    make_matd3bc,
    one_step_games,
    random_batch,
    randomise_parts,
    train,
)

BOTH = pytest.mark.parametrize("discrete", [True, False])
pytestmark = pytest.mark.usefixtures("float64")


def learned(discrete, **options):
    """With networks that all differ, targets included."""
    module = make_matd3bc(discrete, **options)
    return randomise_parts(module, "head", "critic", "target_head", "target_critic")


def padded(batch):
    """The last entry of agent 0's continuous actions only pads them."""
    legal, actions = batch.legal_actions.clone(), batch.actions.clone()
    legal[..., 0, -1], actions[..., 0, -1] = False, 0.0
    return batch._replace(legal_actions=legal, actions=actions)


def recorded_steps(batch):
    return [(row, step) for row, step in batch.valid[:, :-1].nonzero().tolist()]


def gradients(loss, module):
    return torch.autograd.grad(loss, [p for p in module.head.parameters() if p.requires_grad])


@pytest.mark.parametrize("critic", ["centralised", "local"])
@BOTH
def test_without_weight_of_the_critic_it_is_cloning(discrete, critic):
    """Gradients equal those of cross entropy, or of squared error, over the recorded steps, one by one."""
    batch = random_batch(discrete)
    batch = batch if discrete else padded(batch)
    module, terms = learned(discrete, critic=critic, alpha=0.0), []
    for row, step in recorded_steps(batch):
        output = module.head(batch.obs[row, step])
        for agent in range(N_AGENTS):
            legal, action = batch.legal_actions[row, step, agent], batch.actions[row, step, agent]
            if discrete:
                terms.append(output[agent][legal].logsumexp(dim=0) - output[agent, action])
            else:
                terms.append((output[agent] - action)[legal].square().mean())
    cloning = torch.stack(terms).mean()
    loss = module.losses(batch, generator())["policy"]
    torch.testing.assert_close(loss, cloning, rtol=0, atol=1e-10)
    for got, expected in zip(gradients(loss, module), gradients(cloning, module), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


def first_value(module, batch, place, agent, own, others):
    """Q_1 of one agent's own encoded action among those of the others, all (N, A)."""
    first, obs, state = module.critic.members[0], batch.obs[place], batch.state[place]
    if isinstance(module.critic, LocalCritics):
        return first(obs, own)[agent]
    joint = [own[number] if number == agent else others[number] for number in range(N_AGENTS)]
    return first(obs, state, torch.stack(joint))


@pytest.mark.parametrize("options", [{"others": "recorded"}, {"others": "policies"}, {"critic": "local"}])
@BOTH
def test_actors_climb_the_first_critic(discrete, options):
    """What is left of loss and gradients without those of cloning."""
    batch = random_batch(discrete)
    batch = batch if discrete else padded(batch)
    options = {**options, "target_noise": 0.0, "gumbel_temperature": 0.5}
    module, clone = learned(discrete, **options, alpha=1.5), learned(discrete, **options, alpha=0.0)
    output, legal = module.head(batch.obs[:, :-1]), batch.legal_actions[:, :-1]
    own = 2 * straight_through_choice(output, legal, 0.5, generator()) - 1 if discrete else output * legal
    others = own.detach() if module.others == "policies" else encode_actions(batch.actions, ACTION_DIM, discrete)
    values = [
        first_value(module, batch, place, agent, own[place], others[place])
        for place in recorded_steps(batch)
        for agent in range(N_AGENTS)
    ]
    mean, size = torch.stack(values).mean(), torch.stack(values).detach().abs().mean()
    climbing, cloning = (part.losses(batch, generator())["policy"] for part in (module, clone))
    torch.testing.assert_close(climbing - cloning, -1.5 * mean / size, rtol=0, atol=1e-9)
    slopes = [gradients(climbing, module), gradients(cloning, clone), gradients(-1.5 * mean / size, module)]
    for both, cloned, climbed in zip(*slopes, strict=True):
        torch.testing.assert_close(both - cloned, climbed, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("critic", ["centralised", "local"])
@BOTH
def test_critics_follow_the_smaller_lagged_one_of_the_lagged_actors(discrete, critic):
    batch = random_batch(discrete)
    batch = batch if discrete else padded(batch)
    module, errors = learned(discrete, critic=critic, target_noise=3.0, target_noise_bound=0.5), []
    output = module.target_head(batch.obs)
    if discrete:
        chosen = output.masked_fill(~batch.legal_actions, -torch.inf).argmax(dim=-1)
    else:
        noise = (3 * torch.randn(output.shape, generator=generator())).clamp(-0.5, 0.5)
        chosen = (output + noise).clamp(-1, 1) * batch.legal_actions
    chosen, recorded = (encode_actions(a, ACTION_DIM, discrete) for a in (chosen, batch.actions))

    def values(network, actions, row, step):
        obs, state = batch.obs[row, step], batch.state[row, step]
        return network(obs, actions[row, step]) if critic == "local" else network(obs, state, actions[row, step])

    for row, step in recorded_steps(batch):
        target = batch.rewards[row, step]
        if not batch.terminals[row, step]:
            if not batch.valid[row, step + 1]:
                continue  # truncated: what followed was not recorded
            target = target + 0.9 * values(module.target_critic, chosen, row, step + 1).amin(dim=0)
        errors.append((values(module.critic, recorded, row, step) - target).square().sum(dim=0))
    loss = module.losses(batch, generator())["q"]
    torch.testing.assert_close(loss, torch.stack(errors).mean(), rtol=1e-10, atol=1e-10)


def test_the_unit_of_rewards_does_not_matter_to_actors():
    batch, module = random_batch(False), learned(False)
    before = module.losses(batch, generator())["policy"]
    with torch.no_grad():
        for member in module.critic.members:
            member.central.head.weight.mul_(100)
            member.central.head.bias.mul_(100)
    torch.testing.assert_close(module.losses(batch, generator())["policy"], before)


@pytest.mark.parametrize("critic", ["centralised", "local"])
def test_it_finds_the_better_joint_choice(critic):
    """Recorded evenly, but (1, 1) pays."""
    games = one_step_games([[0, 0], [0, 1], [1, 0], [1, 1]], [4, 4, 4, 4], [0.0, 0.0, 0.0, 1.0])
    sizes = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2}
    module = train(make_matd3bc(True, **sizes, critic=critic, alpha=10.0), games, 150, 1e-2)
    actions, _ = module.policy.act(games.obs[:1, 0], games.legal_actions[:1, 0], None)
    assert actions.tolist() == [[1, 1]]


def test_it_is_buildable_from_its_defaults():
    assert MATD3BC(**DIMS, discrete=False).hparams["alpha"] == 2.5


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"alpha": -1.0}, "alpha must be at least 0, got -1.0"),
        ({"target_noise": -0.1}, "target_noise must be at least 0"),
        ({"target_noise_bound": -0.1}, "target_noise_bound must be at least 0"),
        ({"gumbel_temperature": 0.0}, "gumbel_temperature must be above 0"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\]"),
        ({"trace_decay": -0.1}, r"trace_decay must be in \[0, 1\]"),
        ({"target_rate": 0.0}, r"target_rate must be in \(0, 1\]"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        make_matd3bc(**option)
