from dataclasses import replace

import pytest
import torch

from lightning_modules.advantage_module import Stage
from lightning_modules.flows import path
from lightning_modules.joint_steps import joint_steps
from tests.lightning_modules.batches import (
    default_dtype,
    generator,
    make_vgm2p,
    one_step_games,
    parts_moved_by,
    random_batch,
    randomise,
    start_policy,
    train,
)

CORNERS = ((0, 1), (1, 0), (0, 0), (1, 1))  # (-, +), (+, -), (-, -), (+, +)
pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("placement", ["input", "train", "test"])
@pytest.mark.parametrize("output", ["endpoint", "velocity"])
def test_the_policys_loss_moves_only_the_velocity_network(discrete, placement, output):
    module = make_vgm2p(discrete, credit="local", guidance_placement=placement, output=output)
    batch = random_batch(discrete)
    start_policy(randomise(module), batch)
    loss = module.losses(batch, generator())["policy"]
    assert loss.isfinite()
    assert parts_moved_by(loss, module) == {"velocity"}


def test_the_derivative_is_computed_for_the_rows_apart_only(monkeypatch):
    module, batch = make_vgm2p(flow_ratio=0.25), random_batch()
    start_policy(module, batch)
    seen = []
    original = module.velocity.derivative

    def counting(trace, tangent):
        seen.append((len(tangent), bool((trace.r < trace.t).all())))
        return original(trace, tangent)

    monkeypatch.setattr(module.velocity, "derivative", counting)
    module.losses(batch, generator())
    rows = len(joint_steps(batch).obs) * module.n_agents
    assert seen == [(round(0.25 * rows), True)]


def test_one_step_share_trains_the_step_that_acting_takes():
    module = make_vgm2p(flow_ratio=0.5, one_step_share=1.0)
    r, t, apart = module._draw_times(1000, generator())
    assert apart.sum() == 500
    assert (r[apart] == 0).all() and (t[apart] == 1).all()
    assert (r[~apart] == t[~apart]).all() and (t[~apart] < 1).all()


def test_rows_carry_conditions_scales_and_dropout():
    module, batch = make_vgm2p(condition_dropout=0.3, guidance_maximum=4.0), random_batch(batch=600)
    start_policy(module, batch)
    steps = joint_steps(batch)
    rows = module._rows(steps, generator())
    value, known = rows.context.condition.unbind(-1)
    label = module.condition_values(module.signal(steps)).flatten()
    dropped = known == 0
    assert abs(float(dropped.double().mean()) - 0.3) < 4 * (0.3 * 0.7 / len(dropped)) ** 0.5
    assert (value[dropped] == 0).all() and torch.equal(value[~dropped], label[~dropped])
    assert torch.equal(rows.guided, ~dropped & (label > 0))
    scale = rows.context.scale.squeeze(-1)
    assert (scale[~rows.guided] == 1).all()
    assert (scale[rows.guided] >= 1).all() and (scale[rows.guided] <= 4).all() and scale[rows.guided].std() > 0.5


def test_dropout_is_independent_of_the_rows_apart():
    module, batch = make_vgm2p(condition_dropout=0.5, flow_ratio=0.5), random_batch(batch=900)
    start_policy(module, batch)
    source = generator()
    rows = module._rows(joint_steps(batch), source)
    apart = module._draw_times(len(rows.actions), source).average
    dropped = rows.context.condition[:, 1] == 0
    share = dropped[apart].double().mean() - dropped[~apart].double().mean()
    assert abs(float(share)) < 4 * (0.25 * 4 / len(apart)) ** 0.5


def regression(module, batch):
    """Rows, times and targets of one update."""
    source = generator()
    rows = module._rows(joint_steps(batch), source)
    r, t, apart = module._draw_times(len(rows.actions), source)
    z = path.interpolate(rows.actions, rows.noise, t)
    _, trace = module.velocity.forward_with_trace(z, r, t, rows.context)
    target, derivative = module.regression.targets(module.velocity, rows, trace, apart)
    return rows, z, r, t, apart, target, derivative


def test_guided_targets_by_placement():
    batch = random_batch()
    for placement in ("test", "input", "train"):
        module = start_policy(randomise(make_vgm2p(guidance_placement=placement)), batch)
        rows, z, _, t, _, target, _ = regression(module, batch)
        plain = rows.noise - rows.actions
        with torch.no_grad():
            own = module.velocity(z, t, t, rows.context)
            null = module.velocity(z, t, t, rows.context.unconditional())
        if placement == "input":
            expected = plain + (1 - 1 / rows.context.scale) * (own - null)
        else:  # scale 2 with a share of 1/4 of its own prediction: ω = 1.5, κ = .25
            expected = 1.5 * plain + (1 - 1.5 - 0.25) * null + 0.25 * own
        guided = rows.guided if placement != "test" else torch.zeros_like(rows.guided)
        assert placement == "test" or guided.any()
        torch.testing.assert_close(target[guided], expected[guided])
        torch.testing.assert_close(target[~guided], plain[~guided])


@pytest.mark.parametrize("objective", ["improved_meanflow", "meanflow"])
def test_the_derivative_follows_the_tangent_of_the_objective(objective):
    batch = random_batch()
    module = start_policy(randomise(make_vgm2p(objective=objective)), batch)
    rows, z, r, t, apart, target, derivative = regression(module, batch)
    with torch.no_grad():
        tangent = target if objective == "meanflow" else module.velocity(z, t, t, rows.context)
    _, expected = torch.func.jvp(
        lambda z, t: module.velocity(z, r, t, rows.context), (z, t), (tangent, torch.ones_like(t))
    )
    torch.testing.assert_close(derivative[apart], expected[apart].detach(), rtol=1e-8, atol=1e-8)
    assert (derivative[~apart] == 0).all()


def test_paired_noise_is_shared_and_its_paths_are_straight():
    module = start_policy(
        make_vgm2p(shared_noise=True, n_agents=2, obs_dim=1, state_dim=1, action_dim=2, flow_ratio=1.0)
    )
    batch = one_step_games(CORNERS, (8, 8, 8, 8), (1.0, 1.0, -1.0, -1.0))
    rows, *_, derivative = regression(module, batch)
    noise = rows.noise.view(-1, 2, 2)
    assert torch.equal(noise[:, 0], noise[:, 1])  # both agents start from the same z
    assert rows.straight.all() and (derivative == 0).all()
    lonely = batch._replace(state=torch.arange(32.0).view(32, 1, 1).expand(32, 2, 1))
    assert not regression(module, lonely)[0].straight.any()  # a state of its own: nothing to pair with


def test_the_weights_carry_the_stage_and_the_policy():
    batch = random_batch()
    module = start_policy(randomise(make_vgm2p(credit="local")), batch)
    copy = make_vgm2p(credit="local")
    copy.load_state_dict(module.state_dict())
    assert copy.stage == Stage.POLICY
    obs, legal = batch.obs[:, 0], batch.legal_actions[:, 0]
    expected, _ = module.policy.act(obs, legal, None, generator(3))
    got, _ = copy.policy.act(obs, legal, None, generator(3))
    assert torch.equal(got, expected)
    torch.testing.assert_close(copy.signal_quantile, module.signal_quantile)


def test_the_table_compares_cloning_scales_noise_and_steps():
    policies = make_vgm2p().evaluation_policies()
    assert policies["cloning (null condition)"].condition == (0.0, 0.0)
    assert [policies[f"policy, w = {w}"].guidance_scale for w in (1, 2, 4, 8)] == [1, 2, 4, 8]
    assert policies["policy, zero noise"].noise == "zero"
    assert policies["policy, shared noise"].shared_noise and not policies["policy, w = 2"].shared_noise
    assert not make_vgm2p(shared_noise=True).evaluation_policies()["policy, own noise"].shared_noise
    assert policies["policy, 4 steps"].network_calls == 4
    more = make_vgm2p(compared_steps=[2, 10]).evaluation_policies()
    assert {name: policy.network_calls for name, policy in more.items() if name.endswith("steps")} == {
        "policy, 2 steps": 2,
        "policy, 10 steps": 10,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_maximum": 0.5}, "guidance_maximum must be at least 1"),
        ({"one_step_share": 1.5}, "one_step_share must be in"),
        ({"sampling_steps": 0}, "sampling_steps must be at least 1"),
        ({"compared_steps": [2, 0]}, "compared_steps must be numbers of at least 1"),
        ({"critic": "value", "advantage_estimate": "q"}, "advantage_estimate must be 'return' with critic 'value'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_vgm2p(**options)


def trained_on(batch, updates, **options):
    with default_dtype(torch.float32):
        torch.manual_seed(0)
        dims = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2}
        options = {"hidden_dims": (64, 64), "ema_rate": 0.02, "condition_dropout": 0.2, **dims, **options}
        module = make_vgm2p(guidance_placement="input", **options)
        batch = batch._replace(
            **{name: getattr(batch, name).float() for name in ("obs", "state", "advantages", "credits")}
        )
        return train(start_policy(module, batch), batch, updates, learning_rate=3e-3)


def success(module, policy, episodes=8000):
    """Share of drawn joint actions in which the two agents differ."""
    obs, legal = torch.zeros(episodes, 2, 1, dtype=torch.float32), torch.ones(episodes, 2, 2, dtype=torch.bool)
    actions, _ = policy.act(obs, legal, None, generator(1))
    return float((actions[:, 0] != actions[:, 1]).double().mean())


@pytest.mark.slow
def test_guidance_tilts_independent_agents_as_the_analytic_table_says():
    # Corners .50, .20, .15, .15 and success on the first two: exact local policies succeed with .545 (w = 0),
    # .592 (w = 1), .704 (w = 3) and .948 (w = 10).
    batch = one_step_games(CORNERS, (100, 40, 30, 30), (1.0, 1.0, -1.0, -1.0))
    module = trained_on(batch, 1200, guidance_maximum=8.0, flow_ratio=0.25)
    clone = success(module, module.policy.unconditional())
    by_scale = [success(module, replace(module.policy, guidance_scale=float(w))) for w in (1, 3, 8)]
    assert clone == pytest.approx(0.545, abs=0.05)
    assert by_scale[0] == pytest.approx(0.592, abs=0.05)
    assert clone < by_scale[0] < by_scale[1] < by_scale[2], by_scale


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_shared_noise_solves_the_xor_game_and_independent_noise_does_not(shared):
    batch = one_step_games(CORNERS, (64, 64, 64, 64), (1.0, 1.0, -1.0, -1.0))
    module = trained_on(
        batch, 800, shared_noise=shared, one_step_share=1.0 if shared else 0.0, guidance_maximum=1.0, guidance_scale=1.0
    )
    share = success(module, module.policy)
    assert share >= 0.99 if shared else abs(share - 0.5) < 0.06
