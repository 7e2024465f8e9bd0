"""VGM2P's loss against a second implementation: plain, slow, in double precision, on the draws of the first."""

import pytest
import torch

from lightning_modules.flows import guidance, meanflow, path
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.actions import append_agent_id
from lightning_modules.networks.velocity import FlowContext
from tests.lightning_modules.batches import (
    ACTION_DIM,
    generator,
    make_vgm2p,
    random_batch,
    randomise,
    start_policy,
    train,
)

SCALE, MIX, MAXIMUM, EPSILON = 3.0, 0.25, 5.0, 0.02
pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def draws(monkeypatch):
    """What the loss draws, by name, as it is drawn."""
    seen = {}

    def watch(module, name, keep):
        original = getattr(module, name)

        def watched(*args, **kwargs):
            result = original(*args, **kwargs)
            seen.update(keep(args, result))
            return result

        monkeypatch.setattr(module, name, watched)

    watch(path, "interpolate", lambda args, _: {"x": args[0], "noise": args[1]})
    watch(meanflow, "compound_velocity", lambda args, _: {"r": args[2], "t": args[3]})
    watch(guidance, "drop_condition", lambda _, dropped: {"dropped": dropped.flatten()})
    watch(guidance, "sample_scale", lambda _, scale: {"scale": scale.reshape(-1, 1)})
    return seen


def labels(module, steps):
    """-1, +1 or the clipped standardised advantage over 3, one per row."""
    advantages = steps.advantages.repeat_interleave(module.n_agents)
    if module.label == "continuous":
        return ((advantages - module.signal_mean) / module.signal_std).clamp(-3, 3) / 3
    return torch.where(advantages > 0, 1.0, -1.0)


def context_of(module, steps, draws):
    """Who is asked for what: conditions, and scales on guided rows."""
    value, kept = labels(module, steps), ~draws["dropped"]
    guided = kept & ((value > 0) | (module.label == "continuous"))
    scale = torch.ones(len(value), 1)
    if module.guidance_placement == "input":
        scale[guided] = draws["scale"][guided]
    condition = torch.stack([torch.where(kept, value, 0.0), kept.double()], dim=-1)
    obs = append_agent_id(steps.obs).reshape(len(value), -1)
    return FlowContext(obs, condition, scale, steps.legal_actions.reshape(len(value), -1)), guided


def guided_velocity(module, context, guided, draws):
    """Plain v, or the formula of the placement on guided rows, with u at r = t."""
    network, t = module.velocity, draws["t"]
    z = (1 - t) * draws["x"] + t * draws["noise"]
    velocity = draws["noise"] - draws["x"]
    good = network(z, t, t, context)
    null = context._replace(condition=0 * context.condition, scale=torch.ones_like(context.scale))
    plain = network(z, t, t, null)
    formulas = {
        "test": velocity,
        "input": velocity + (1 - 1 / context.scale) * (good - plain),
        # effective scale ω / (1 - κ) = SCALE
        "train": SCALE * (1 - MIX) * velocity + (1 - SCALE * (1 - MIX) - MIX) * plain + MIX * good,
    }
    return torch.where(guided.unsqueeze(-1), formulas[module.guidance_placement], velocity), good


def reference_loss(module, steps, draws):
    """|| u - sg(v_g - (t - r) Du) ||² of every row, in action space for the endpoint output; MeanFlow's own form."""
    context, guided = context_of(module, steps, draws)
    r, t = draws["r"], draws["t"]
    z = (1 - t) * draws["x"] + t * draws["noise"]
    with torch.no_grad():
        velocity, own = guided_velocity(module, context, guided, draws)
        tangent = velocity if module.regression.objective == "meanflow" else own
        directions = (tangent, torch.zeros_like(r), torch.ones_like(t))
        _, derivative = torch.func.jvp(lambda *point: module.velocity(*point, context), (z, r, t), directions)
        target = velocity - (t - r) * derivative
    error = module.velocity(z, r, t, context) - target
    if module.velocity.output == "endpoint":
        error = t * error
    squared = error.square().sum(dim=-1)
    weight = (squared.detach() + EPSILON) ** -module.regression.adaptive_exponent
    return (weight * squared).mean(), guided


def gradients(loss, module):
    return torch.autograd.grad(loss, list(module.velocity.parameters()))


@pytest.mark.parametrize("discrete", [True, False], ids=["discrete", "continuous"])
@pytest.mark.parametrize("placement", ["input", "train", "test"])
@pytest.mark.parametrize("objective", ["improved_meanflow", "meanflow"])
@pytest.mark.parametrize(("output", "exponent"), [("endpoint", 0.0), ("velocity", 0.0), ("endpoint", 0.7)])
@pytest.mark.parametrize("label", ["sign", "continuous"])
def test_loss_and_gradient_are_those_of_the_formulas(discrete, placement, objective, output, exponent, label, draws):
    module, batch = loss_of(discrete, placement, objective, output, exponent, label)
    loss = module.losses(batch, generator())["policy"]
    expected, guided = reference_loss(module, joint_steps(batch), draws)
    apart = (draws["r"] < draws["t"]).squeeze(-1)
    for part in (guided & apart, guided & ~apart, ~guided & apart, draws["dropped"] & apart):
        assert bool(part.any())  # every kind of row took part
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(gradients(loss, module), gradients(expected, module), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def loss_of(discrete, placement, objective="improved_meanflow", output="endpoint", exponent=0.0, label="sign"):
    """A module with large weights in its policy's stage, and a batch."""
    module = make_vgm2p(
        discrete,
        guidance_placement=placement,
        guidance_scale=SCALE,
        guidance_mix=MIX,
        guidance_maximum=MAXIMUM,
        objective=objective,
        output=output,
        adaptive_exponent=exponent,
        adaptive_epsilon=EPSILON,
        label=label,
        condition_dropout=0.25,
        flow_ratio=0.5,
    )
    batch = random_batch(discrete, batch=40)
    return start_policy(randomise(module), batch), batch


@pytest.mark.parametrize("placement", ["input", "train"])
def test_where_nothing_is_good_nothing_is_guided(placement, draws):
    module, batch = loss_of(True, placement)
    batch = batch._replace(advantages=-batch.advantages.abs() - 0.1)
    loss = module.losses(batch, generator())["policy"]
    module.guidance_placement = "test"  # the same draws with v for a target
    expected, guided = reference_loss(module, joint_steps(batch), draws)
    assert not bool(guided.any())
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("discrete", [True, False])
def test_rows_are_recorded_actions_of_all_agents(discrete, draws):
    module, batch = loss_of(discrete, "input")
    module.losses(batch, generator())
    actions = joint_steps(batch).actions.flatten(0, 1)
    if discrete:
        assert torch.equal(draws["x"].argmax(dim=-1), actions) and bool(
            (draws["x"].sum(dim=-1) == 2 - ACTION_DIM).all()
        )
    else:
        assert torch.equal(draws["x"], actions)
    # Noise is standard normal and each row's own; a scale is drawn for every row.
    assert abs(float(draws["noise"].mean())) < 4 / draws["noise"].numel() ** 0.5
    assert len(draws["noise"].unique()) == draws["noise"].numel()


def test_labels_of_other_agents_and_of_the_team():
    """Local credit labels each agent by its own share, joint credit all agents alike."""
    batch = random_batch()
    for credit in ("local", "joint"):
        module = start_policy(make_vgm2p(credit=credit), batch)
        steps = joint_steps(batch)
        values = module.condition_values(module.signal(steps))
        signal = steps.credits if credit == "local" else steps.advantages.unsqueeze(-1).expand_as(steps.credits)
        assert torch.equal(values, torch.where(signal > 0, 1.0, -1.0))
        assert bool((values[:, 0] == values[:, 1]).all()) == (credit == "joint")


def test_the_averaged_copy_acts():
    module, batch = loss_of(True, "input")
    assert module.policy.network is module.acting_velocity
    assert all(policy.network is module.acting_velocity for policy in module.evaluation_policies().values())
    before = [parameter.clone() for parameter in module.acting_velocity.parameters()]
    train(module, batch, updates=1)
    for start, now, trained in zip(
        before, module.acting_velocity.parameters(), module.velocity.parameters(), strict=True
    ):
        torch.testing.assert_close(now, start + module.ema_rate * (trained.detach() - start), rtol=0, atol=1e-12)


def test_unlabelled_data_is_refused():
    module, batch = loss_of(True, "input")
    with pytest.raises(
        ValueError, match=r"expected an advantage for every step, got NaN for .* the critic stage labels"
    ):
        module.losses(batch._replace(advantages=torch.full_like(batch.advantages, torch.nan)), generator())
