import pytest
import torch

from datamodules.batch import TeamBatch
from lightning_modules.global_critic import ExpectileCritic, OmigaCritic, ValueCritic
from lightning_modules.losses.soft_value import soft_value_loss
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.targets import polyak_update
from tests.lightning_modules.batches import (
    ACTION_DIM,
    N_AGENTS,
    OBS_DIM,
    one_step_games,
    parts_moved_by,
    random_batch,
    randomise,
    team_shape,
)

DISCOUNT, DECAY, EXPECTILE, TEMPERATURE = 0.9, 0.5, 0.8, 2.0
COMMON = {"discount": DISCOUNT, "trace_decay": DECAY, "target_rate": 0.1}
pytestmark = pytest.mark.usefixtures("float64")


def value_critic(discrete=True, **options):
    kind = {"expectile": EXPECTILE, "hidden_dims": (8,)}
    return ValueCritic(**{"shape": team_shape(discrete), **kind, **COMMON, **options})


def expectile_critic(discrete=True, **options):
    kind = {"mixer": "centralised", "n_critics": 3, "expectile": EXPECTILE, "hidden_dims": (8,)}
    return ExpectileCritic(**{"shape": team_shape(discrete), **kind, **COMMON, **options})


def omiga_critic(discrete=True, **options):
    kind = {"hidden_dims": (8,), "temperature": TEMPERATURE}
    return OmigaCritic(**{"shape": team_shape(discrete), **kind, **COMMON, **options})


CRITICS = {
    "value": (value_critic, {"value": {"value"}}),
    "expectile": (expectile_critic, {"q": {"q"}, "value": {"value"}}),
    "expectile vdn": (lambda discrete: expectile_critic(discrete, mixer="vdn"), {"q": {"q"}, "value": {"value"}}),
    "expectile qmix": (lambda discrete: expectile_critic(discrete, mixer="qmix"), {"q": {"q"}, "value": {"value"}}),
    "omiga": (omiga_critic, {"q": {"q", "mixer"}, "value": {"value"}}),
}


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("name", CRITICS)
def test_each_loss_moves_only_its_own_networks_and_no_target(name, discrete):
    make, expected = CRITICS[name]
    critic = randomise(make(discrete))
    losses = critic.losses(random_batch(discrete))
    assert {key: parts_moved_by(loss, critic) for key, loss in losses.items()} == expected
    # A target has no gradient to begin with.
    trained = set().union(*expected.values())
    assert {n.split(".")[0] for n, p in critic.named_parameters() if p.requires_grad} == trained


@pytest.mark.parametrize("name", CRITICS)
def test_every_trained_network_has_a_target_of_its_own(name):
    make, expected = CRITICS[name]
    critic = make(True)
    trained = set().union(*expected.values())
    pairs = {(id(pair.source), id(pair.target), pair.rate) for pair in critic.target_pairs()}
    assert pairs == {(id(getattr(critic, n)), id(getattr(critic, f"target_{n}")), 0.1) for n in trained}
    assert not {p.data_ptr() for pair in critic.target_pairs() for p in pair.source.parameters()} & {
        p.data_ptr() for pair in critic.target_pairs() for p in pair.target.parameters()
    }


@pytest.mark.parametrize("name", CRITICS)
def test_steps_without_a_target_do_not_count(name):
    critic, batch = randomise(CRITICS[name][0](True)), random_batch()
    usable = batch.valid.clone()
    usable[:, :-1] &= batch.terminals[:, :-1] | batch.valid[:, 1:]
    usable[:, -1] = False  # only bootstrapped from
    assert bool(usable.any()) and bool((batch.valid & ~usable).any())
    changed = batch._replace(
        rewards=torch.where(usable, batch.rewards, 100.0),
        actions=torch.where(usable.unsqueeze(-1), batch.actions, 0),
    )
    for key, loss in critic.losses(batch).items():
        torch.testing.assert_close(critic.losses(changed)[key], loss, rtol=0, atol=1e-12)
    louder = critic.losses(batch._replace(rewards=batch.rewards + usable))
    assert any(float((louder[key] - loss).detach().abs()) > 1e-3 for key, loss in critic.losses(batch).items())


# One episode of three states with rewards 1, 2, 3; the state's number is one-hot.
REWARDS = (1.0, 2.0, 3.0)


def chain(window, terminal=True):
    """Windows of all starts; behind the end the last step is repeated."""
    index = torch.arange(3).unsqueeze(1) + torch.arange(window)
    valid, index = index < 3, index.clamp(max=2)
    last = valid & (index == 2)
    shape = (3, window)
    return TeamBatch(
        obs=torch.zeros(*shape, N_AGENTS, OBS_DIM),
        state=torch.eye(3)[index],
        actions=torch.zeros(*shape, N_AGENTS, dtype=torch.int64),
        rewards=torch.tensor(REWARDS)[index],
        returns=torch.full(shape, sum(REWARDS)),
        terminals=last if terminal else torch.zeros_like(last),
        truncations=torch.zeros_like(last) if terminal else last,
        legal_actions=torch.ones(*shape, N_AGENTS, ACTION_DIM, dtype=torch.bool),
        advantages=torch.full(shape, torch.nan),
        credits=torch.full((*shape, N_AGENTS), torch.nan),
        valid=valid,
    )


def tabular(critic, values, targets):
    """Linear values of one-hot states: a table."""
    with torch.no_grad():
        for network, table in ((critic.value, values), (critic.target_value, targets)):
            network.mlp.head.weight.copy_(torch.tensor([table]))
            network.mlp.head.bias.zero_()
    return critic


V, TARGET = (0.5, -1.0, 2.0), (1.0, 4.0, 8.0)


@pytest.mark.parametrize(
    ("terminal", "decay", "expected"),
    [
        (True, 0.0, (1 + 0.9 * 4, 2 + 0.9 * 8, 3.0)),
        (True, 1.0, (1 + 0.9 * (2 + 0.9 * 3), 2 + 0.9 * 3, 3.0)),
        (True, 0.5, (1 + 0.9 * (0.5 * 4 + 0.5 * (2 + 0.9 * (0.5 * 8 + 0.5 * 3))), 2 + 0.9 * (0.5 * 8 + 0.5 * 3), 3.0)),
        (False, 0.0, (1 + 0.9 * 4, 2 + 0.9 * 8)),
        (False, 1.0, (1 + 0.9 * (2 + 0.9 * 8), 2 + 0.9 * 8)),
        (False, 0.5, (1 + 0.9 * (0.5 * 4 + 0.5 * (2 + 0.9 * 8)), 2 + 0.9 * 8)),
    ],
)
def test_targets_of_an_episode_by_hand(terminal, decay, expected):
    critic = tabular(value_critic(shape=team_shape(state_dim=3), hidden_dims=(), trace_decay=decay), V, TARGET)
    targets = critic.targets(chain(4, terminal))[0]
    torch.testing.assert_close(targets[: len(expected)], torch.tensor(expected), rtol=0, atol=1e-12)
    # The loss: expectile-weighted squares over the steps that have a target, and over no others.
    gaps = torch.tensor(expected) - torch.tensor(V)[: len(expected)]
    squares = torch.where(gaps < 0, 1 - EXPECTILE, EXPECTILE) * gaps.square()
    loss = critic.losses(TeamBatch(*(field[:1] for field in chain(4, terminal))))["value"]
    torch.testing.assert_close(loss, squares.mean(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [2, 4])
def test_the_one_step_advantage_by_hand(window):
    critic = tabular(value_critic(shape=team_shape(state_dim=3), hidden_dims=()), V, TARGET)
    expected = torch.tensor([1 + 0.9 * 4 - 1, 2 + 0.9 * 8 - 4, 3.0 - 8])
    torch.testing.assert_close(critic.advantages(chain(window), "return")[:, 0], expected, rtol=0, atol=1e-12)
    # Cut off, the last step has no successor: an action there counts as average.
    expected[2] = 0
    cut = critic.advantages(chain(window, terminal=False), "return")
    torch.testing.assert_close(cut[:, 0], expected, rtol=0, atol=1e-12)
    assert not cut.requires_grad


def test_where_no_successor_is_recorded_a_q_answers():
    critic = randomise(expectile_critic(shape=team_shape(state_dim=3)))
    batch = chain(2, terminal=False)
    by_return, by_q = critic.advantages(batch, "return"), critic.advantages(batch, "q")
    torch.testing.assert_close(by_return[2], by_q[2], rtol=0, atol=1e-12)
    assert bool((by_return[:2] != by_q[:2]).all())
    values = critic.target_value(batch.state).detach()
    expected = torch.tensor(REWARDS[:2]) + 0.9 * values[:2, 1] - values[:2, 0]
    torch.testing.assert_close(by_return[:2, 0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("discrete", [True, False])
def test_an_ensembles_smallest_target_answers(discrete):
    critic, batch = randomise(expectile_critic(discrete)), random_batch(discrete)
    vectors = encode_actions(batch.actions[:, :-1], ACTION_DIM, discrete).to(torch.float64)
    inputs = (batch.obs[:, :-1], batch.state[:, :-1], vectors)
    every = torch.stack([member(*inputs) for member in critic.target_q.members])
    smallest = every.min(dim=0).values.detach()
    torch.testing.assert_close(critic.action_values(batch), smallest, rtol=0, atol=1e-12)
    expected = (smallest - critic.target_value(batch.state)[:, :-1]).detach()
    torch.testing.assert_close(critic.advantages(batch, "q"), expected, rtol=0, atol=1e-12)
    assert len(set(every.argmin(dim=0).flatten().tolist())) > 1  # not one member everywhere


@pytest.mark.parametrize("discrete", [True, False])
def test_the_expectile_critics_losses_by_hand(discrete):
    critic, batch = randomise(expectile_critic(discrete)), random_batch(discrete)
    usable = batch.valid[:, :-1] & (batch.terminals[:, :-1] | batch.valid[:, 1:])
    vectors = encode_actions(batch.actions[:, :-1], ACTION_DIM, discrete).to(torch.float64)
    targets, q_loss, value_loss = critic.targets(batch), 0.0, 0.0
    for b, t in usable.nonzero().tolist():
        inputs = (batch.obs[b, t], batch.state[b, t], vectors[b, t])
        q_loss += sum((member(*inputs) - targets[b, t]).square() for member in critic.q.members)
        gap = min(member(*inputs) for member in critic.target_q.members) - critic.value(batch.state[b, t])
        value_loss += (EXPECTILE if gap > 0 else 1 - EXPECTILE) * gap.square()
    losses = critic.losses(batch)
    torch.testing.assert_close(losses["q"], q_loss / usable.sum(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(losses["value"], value_loss / usable.sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("discrete", [True, False])
def test_omigas_advantage_is_the_weighted_sum_of_local_ones(discrete):
    critic, batch = randomise(omiga_critic(discrete)), random_batch(discrete)
    obs, state = batch.obs[:, :-1], batch.state[:, :-1]
    weights, bias = critic.target_mixer.weights(state)
    actions = encode_actions(batch.actions[:, :-1], ACTION_DIM, discrete)
    local = critic.target_q(obs, actions) - critic.target_value(obs)
    expected = (weights * local).sum(dim=-1).detach()
    torch.testing.assert_close(critic.advantages(batch, "q"), expected, rtol=0, atol=1e-10)
    assert float(bias.detach().abs().min()) > 1e-3  # there was a bias to cancel


def test_omigas_losses_by_hand():
    critic, batch = randomise(omiga_critic()), random_batch()
    with torch.no_grad():  # weights and values of ordinary size: nothing is clipped
        for parameter in critic.parameters():
            parameter.mul_(0.3)
    usable = batch.valid[:, :-1] & (batch.terminals[:, :-1] | batch.valid[:, 1:])
    obs, state = batch.obs[:, :-1], batch.state[:, :-1]
    actions = encode_actions(batch.actions[:, :-1], ACTION_DIM, True)
    weights, bias = critic.mixer.weights(state)
    total = (weights * critic.q(obs, actions)).sum(dim=-1) + bias
    losses = critic.losses(batch)
    expected = (total - critic.targets(batch)).square()[usable].mean()
    torch.testing.assert_close(losses["q"], expected, rtol=0, atol=1e-12)
    target_weights, _ = critic.target_mixer.weights(state)
    elementwise = soft_value_loss(critic.target_q(obs, actions), critic.value(obs), target_weights, TEMPERATURE)
    torch.testing.assert_close(losses["value"], elementwise[usable].mean(), rtol=0, atol=1e-12)


def fit(critic, batch, updates, learning_rate):
    """Full-batch Adam with a step size that falls to 1 %."""
    optimizer = torch.optim.Adam([p for p in critic.parameters() if p.requires_grad], learning_rate)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - 0.99 * update / updates)
        optimizer.zero_grad()
        torch.stack(list(critic.losses(batch).values())).sum().backward()
        optimizer.step()
        for source, target, rate in critic.target_pairs():
            polyak_update(source, target, rate)
    return critic


@pytest.mark.parametrize(("window", "decay"), [(2, 0.0), (4, 0.7)])
def test_training_reaches_the_values_of_a_deterministic_chain(window, decay):
    options = {"hidden_dims": (), "trace_decay": decay, "target_rate": 0.3, "expectile": 0.5}
    batch = chain(window)
    critic = fit(value_critic(shape=team_shape(state_dim=3), **options), batch, updates=400, learning_rate=0.1)
    exact = torch.tensor([1 + 0.9 * (2 + 0.9 * 3), 2 + 0.9 * 3, 3.0])
    torch.testing.assert_close(critic.target_value(torch.eye(3)).detach(), exact, rtol=0, atol=5e-3)
    # Nothing was decided here: no action was better than expected.
    torch.testing.assert_close(critic.advantages(batch, "return")[:, 0], torch.zeros(3), rtol=0, atol=1e-2)


def xor(reward=1.0):
    """Both agents choose at random; the reward is 1 if they differ."""
    return one_step_games([[0, 0], [0, 1], [1, 0], [1, 1]], [1] * 4, [0.0, reward, reward, 0.0])


GAME = team_shape(n_agents=2, obs_dim=1, state_dim=1, action_dim=2)


def test_training_reaches_action_values_and_their_expectile():
    critic = expectile_critic(shape=GAME, hidden_dims=(16,), target_rate=0.3, n_critics=2)
    fit(critic, xor(), updates=300, learning_rate=0.03)
    torch.testing.assert_close(critic.action_values(xor())[:, 0], torch.tensor([0.0, 1.0, 1.0, 0.0]), rtol=0, atol=1e-2)
    # On {0, 1} in equal parts the expectile is its own level.
    value = critic.target_value(torch.zeros(1, 1)).detach()
    torch.testing.assert_close(value, torch.tensor([EXPECTILE]), rtol=0, atol=1e-2)
    for estimate in ("q", "return"):
        expected = torch.tensor([0.0, 1.0, 1.0, 0.0]) - EXPECTILE
        torch.testing.assert_close(critic.advantages(xor(), estimate)[:, 0], expected, rtol=0, atol=2e-2)


def test_training_reaches_omigas_soft_values():
    """Additive rewards: V_i = (α / w_i) log E exp(w_i Q_i / α), so that V_tot is a soft maximum of Q_tot."""
    rewards = torch.tensor([0.0, 1.0, 2.0, 3.0])  # 2 a_1 + a_2
    batch = one_step_games([[0, 0], [0, 1], [1, 0], [1, 1]], [1] * 4, rewards.tolist())
    critic = omiga_critic(shape=GAME, hidden_dims=(), target_rate=0.3, temperature=1.0)
    fit(critic, batch, updates=600, learning_rate=0.03)
    torch.testing.assert_close(critic.action_values(batch)[:, 0], rewards, rtol=0, atol=2e-2)
    # b + Σ log E exp(w_i Q_i) = log E exp(Q_tot): the agents' actions are independent here.
    soft = rewards.exp().mean().log()
    torch.testing.assert_close(critic.state_values(batch)[:, 0], soft.expand(4), rtol=0, atol=3e-2)
