import pytest
import torch

from lightning_modules import OM2P
from lightning_modules.flows.meanflow import time_derivative
from lightning_modules.joint_steps import joint_steps
from lightning_modules.losses.zeroth_order import searched_actions
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.one_step import null_context
from lightning_modules.om2p import identity_target
from tests.lightning_modules.batches import (
    DIMS,
    N_AGENTS,
    generator,
    make_om2p,
    normal,
    one_step_games,
    parts_moved_by,
    random_batch,
    randomise_parts,
    train,
)

BOTH = pytest.mark.parametrize("discrete", [True, False])
FORMS = [
    (True, {}),
    (False, {}),
    (False, {"output": "endpoint"}),
    (False, {"identity": "published"}),
    (False, {"identity": "published", "derivative": "zero"}),
]
pytestmark = pytest.mark.usefixtures("float64")


def learned(discrete, **options):
    """With networks that all differ, targets included."""
    module = make_om2p(discrete, **options)
    return randomise_parts(module, "actor", "values.critic", "values.target_critic")


def padded(batch, filling=0.0):
    """The last entry of agent 0's continuous actions only pads them."""
    legal, actions = batch.legal_actions.clone(), batch.actions.clone()
    legal[..., 0, -1], actions[..., 0, -1] = False, filling
    return batch._replace(legal_actions=legal, actions=actions)


def width(time, spread=0.5):
    """Deviation of z_t for data N(0, spread²)."""
    return ((1 - time).square() * spread**2 + time.square()).sqrt()


def average_velocity(z, r, t):
    """Its closed form; at r = t it would be the velocity of an instant."""
    return z * (1 - width(r) / width(t)) / (t - r)


def test_the_corrected_identity_holds_on_a_gaussian_and_the_published_one_does_not():
    first, second = torch.rand(2, 200, 1, generator=generator())
    r, t = torch.minimum(first, second), torch.maximum(first, second)
    z = normal(200, 1)
    velocity = z * (t - (1 - t) * 0.25) / width(t).square()
    u, derivative = time_derivative(average_velocity, z, r, t, velocity)
    corrected = identity_target("corrected", velocity, derivative, r, t)
    published = identity_target("published", velocity, derivative, r, t)
    torch.testing.assert_close(corrected, u, rtol=0, atol=1e-9)
    # Off by twice the term whose sign is wrong
    torch.testing.assert_close(published - u, 2 * (t - r) * derivative, rtol=0, atol=1e-9)
    assert float((published - u).abs().mean()) > 0.05
    assert torch.equal(identity_target("published", velocity, derivative, t, t), velocity)  # no difference at r = t


def draws(module, steps, source):
    """Noise of the flow, r, t and noise of acting, in the order in which they are drawn."""
    noise = torch.randn(steps.legal_actions.shape, generator=source)
    times = module._draw_times(noise[..., 0].numel(), source)
    return noise.flatten(0, 1), times.r, times.t, torch.randn(noise.shape, generator=source)


@pytest.mark.parametrize(("discrete", "options"), FORMS)
def test_actors_regress_to_the_identity(discrete, options):
    """Without a critic, against forward-mode derivatives."""
    batch = random_batch(discrete)
    batch = batch if discrete else padded(batch)
    module = learned(discrete, q_weight=0.0, **options)
    steps = joint_steps(batch)
    noise, r, t, _ = draws(module, steps, generator())
    legal = steps.legal_actions.flatten(0, 1)
    counts = torch.ones_like(legal) if discrete else legal
    a, noise = encode_actions(steps.actions, 4, discrete).flatten(0, 1), noise * counts
    context = null_context(module.actor.encoder(steps.obs).flatten(0, 1), legal)
    v, z = noise - a, (1 - t) * a + t * noise
    u, slope = time_derivative(lambda z, r, t: module.actor.velocity(z, r, t, context), z, r, t, v)
    sign = {"published": -1, "corrected": 1}[module.identity] * (options.get("derivative") != "zero")
    error = u - (v - sign * (t - r) * slope).detach()
    error = t * error if discrete or options.get("output") == "endpoint" else error
    hand = (error.square() * counts).sum(dim=-1) / counts.sum(dim=-1)
    loss = module.losses(batch, generator())["policy"]
    torch.testing.assert_close(loss, hand.mean())
    parameters = list(module.actor.parameters())
    gradients = [torch.autograd.grad(each, parameters, retain_graph=True) for each in (loss, hand.mean())]
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)


def test_times_of_the_published_form_are_in_no_order():
    corrected, published = make_om2p(False, flow_ratio=1.0), make_om2p(False, identity="published")
    r, t, apart = corrected._draw_times(1000, generator())
    assert bool((r <= t).all()) and bool(apart.all()) and float(t.min()) >= 0.05
    r, t, apart = published._draw_times(1000, generator())
    assert 0.4 < float((r > t).double().mean()) < 0.6 and bool(apart.all())


@pytest.mark.parametrize(("discrete", "options"), FORMS)
def test_the_critics_term_is_the_value_of_the_one_step_action(discrete, options):
    batch = random_batch(discrete)
    batch = batch if discrete else padded(batch)
    cloning, climbing = (learned(discrete, q_weight=weight, **options) for weight in (0.0, 1.5))
    steps = joint_steps(batch)
    *_, noise = draws(climbing, steps, generator())
    own = climbing.actor.of_features(climbing.actor.encoder(steps.obs), noise, steps.legal_actions)
    if discrete:
        every = encode_actions(torch.arange(4), 4, True)[:, None, None].expand(4, *own.shape)
        values = climbing.values.critic(steps.obs.expand(4, *steps.obs.shape), every).mean(dim=0).movedim(0, -1)
        values = ((own + 1) / 2 * values.detach()).sum(dim=-1)
    else:
        values = climbing.values.critic(steps.obs, own.clamp(-1, 1)).mean(dim=0)
    losses = [module.losses(batch, generator())["policy"] for module in (climbing, cloning)]
    torch.testing.assert_close(losses[0] - losses[1], -1.5 * values.mean())
    assert parts_moved_by(losses[0], climbing, depth=2) == {"actor.velocity"}


def test_the_search_is_imitated_where_it_finds_better_actions():
    batch = padded(random_batch(False))
    plain, searching = (learned(False, search_weight=weight) for weight in (0.0, 2.0))
    steps, source = joint_steps(batch), generator()
    *_, noise = draws(searching, steps, source)
    own = searching.actor.of_features(searching.actor.encoder(steps.obs), noise, steps.legal_actions).clamp(-1, 1)

    def score(actions):
        actions = actions * steps.legal_actions
        return searching.values.critic(steps.obs.expand(*actions.shape[:-1], -1), actions).mean(dim=0)

    found = searched_actions(score, own, 3, 10, 1.0, None, source)
    better = (score(found[None])[0] > score(own[None])[0]).unsqueeze(-1)
    assert 0 < int(better.sum()) < better.numel()
    squares = (own - torch.where(better, found, own).detach()).square() * steps.legal_actions
    expected = 2 * (squares.sum(dim=-1) / steps.legal_actions.sum(dim=-1)).mean()
    losses = [module.losses(batch, generator())["policy"] for module in (searching, plain)]
    torch.testing.assert_close(losses[0] - losses[1], expected)


def test_entries_that_only_pad_an_action_change_nothing():
    for options in ({}, {"identity": "published"}, {"search_weight": 1.0}):
        module = learned(False, **options)
        first, second = (module.losses(padded(random_batch(False), filling), generator()) for filling in (0.0, 5.0))
        assert all(torch.equal(first[name], second[name]) for name in first)


class Exact(torch.nn.Module):
    """The average velocity of data N(0, 1/4), whatever is observed."""

    def forward(self, z, r, t, context):
        return average_velocity(z, r, t)


@pytest.mark.parametrize(("identity", "expected"), [("corrected", 0.5), ("published", -1.0)])
def test_with_the_exact_velocity_the_corrected_action_has_the_spread_of_the_data(identity, expected):
    """One step takes noise z to z / 2; the raw answer that the published code acts with is -z, whatever the data."""
    actor = make_om2p(False, identity=identity).actor
    encoder, actor.velocity = actor.encoder, Exact()
    noise, obs = normal(5, N_AGENTS, 4), torch.zeros(5, N_AGENTS, 5)
    actions = actor.of_features(encoder(obs), noise, torch.ones(noise.shape, dtype=torch.bool))
    torch.testing.assert_close(actions, expected * noise)


def test_it_finds_the_choice_that_pays():
    """Recorded evenly, but choice 1 of agent 0 pays."""
    games = one_step_games([[0, 0], [1, 0]], [8, 8], [0.0, 1.0])
    sizes = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2}
    module = train(make_om2p(True, **sizes, q_weight=5.0), games, 60, 1e-2)
    obs, legal = torch.zeros(200, 2, 1), torch.ones(200, 2, 2, dtype=torch.bool)
    actions, _ = module.policy.act(obs, legal, None, generator())
    assert float(actions[:, 0].double().mean()) > 0.95


def test_it_is_buildable_from_its_defaults():
    module = OM2P(**DIMS, discrete=True)
    assert module.hparams["identity"] == "corrected" and module.policy.network_calls == 1


@pytest.mark.parametrize("options", [{"identity": "published"}, {"output": "velocity"}, {"search_weight": 0.5}])
def test_what_is_for_continuous_actions_refuses_choices_and_names_what_does_not(options):
    with pytest.raises(ValueError, match=r"data's actions are choices, .* or MACFlow \(--model configs/model/mac_flow"):
        make_om2p(True, **options)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"flow_ratio": 1.1}, r"flow_ratio must be in \[0, 1\], got 1.1"),
        ({"identity": "published", "output": "endpoint"}, "output must be 'velocity' or null with identity: published"),
        ({"min_time": 0.0}, r"min_time must be in \(0, 1\), got 0.0"),
        ({"q_weight": -1.0}, "q_weight must be at least 0, got -1.0"),
        ({"search_weight": -1.0}, "search_weight must be at least 0, got -1.0"),
        ({"trace_decay": 1.5}, r"trace_decay must be in \[0, 1\]"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        make_om2p(False, **option)
