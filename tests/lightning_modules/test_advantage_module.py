import pytest
import torch

from lightning_modules.advantage_module import Stage
from lightning_modules.joint_steps import joint_steps
from tests.lightning_modules.batches import (
    generator,
    make_awr,
    make_vgm2p,
    random_batch,
    randomise,
    start_policy,
)

pytestmark = pytest.mark.usefixtures("float64")


def ids(parameters):
    return {id(parameter) for parameter in parameters}


def test_stages_of_local_credit():
    module, batch = make_awr(credit="local", critic_updates=2, credit_updates=3), random_batch()
    assert module.updates_before_policy == 5
    assert (module.stage, module.stage_end) == (Stage.CRITIC, 2)
    assert set(module.losses(batch, generator())) == {"value"}
    assert module.trained_in_stage() is module.global_critic
    module.finish_critic(batch.advantages[batch.valid])
    assert (module.stage, module.stage_end) == (Stage.CREDIT, 5)
    assert set(module.losses(batch, generator())) == {"credit_baseline", "credit", "credit_behaviour"}
    assert module.trained_in_stage() is module.local_credit
    module.start_policy(batch.credits[batch.valid].flatten())
    assert (module.stage, module.stage_end) == (Stage.POLICY, None)
    assert set(module.losses(batch, generator())) == {"policy"}
    assert module.trained_in_stage() is None


def test_joint_credit_has_no_stage_of_its_own():
    module, batch = make_awr(critic_updates=2, credit_updates=3), random_batch()
    assert module.local_credit is None and module.updates_before_policy == 2
    module.finish_critic(batch.advantages[batch.valid])
    assert (module.stage, module.stage_end) == (Stage.POLICY, None)


@pytest.mark.parametrize(
    ("critic", "names"), [("value", {"value"}), ("expectile", {"q", "value"}), ("omiga", {"q", "value"})]
)
def test_the_critics_stage_minimises_the_critics_losses(critic, names):
    module, batch = make_awr(critic=critic), random_batch()
    losses, expected = module.losses(batch, generator()), module.global_critic.losses(batch)
    assert set(losses) == names
    for name in names:
        torch.testing.assert_close(losses[name], expected[name])


def test_statistics_of_what_the_policy_learns_from():
    module = make_awr(credit="local")
    advantages, credits = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([-1.0, 3.0])
    module.finish_critic(advantages)
    assert float(module.advantage_std) == pytest.approx(7**0.5, abs=1e-6)  # (4 + 1 + 9) / 2
    module.start_policy(credits)
    assert float(module.signal_mean) == pytest.approx(1.0) and float(module.signal_std) == pytest.approx(8**0.5)
    module = make_awr(credit="joint")
    module.finish_critic(advantages)
    assert float(module.signal_mean) == pytest.approx(3.0) and float(module.signal_std) == pytest.approx(7**0.5)


def test_equal_advantages_do_not_divide_by_zero():
    module, batch = make_awr(), random_batch()
    batch = batch._replace(advantages=torch.zeros_like(batch.advantages))
    module.finish_critic(batch.advantages.flatten())
    assert bool(module.losses(batch, generator())["policy"].isfinite())


def test_credit_is_learned_from_advantages_in_units_of_their_deviation():
    module, batch = make_awr(credit="local"), random_batch()
    randomise(module.local_credit)
    module.finish_critic(4 * batch.advantages.flatten())
    steps = joint_steps(batch)
    expected = module.local_credit.losses(steps, steps.advantages / (4 * batch.advantages.std()))
    for name, loss in module.losses(batch, generator()).items():
        torch.testing.assert_close(loss, expected[name], rtol=0, atol=1e-6)


def test_what_the_policy_learns_from():
    steps = joint_steps(random_batch())
    assert torch.equal(make_awr(credit="local").signal(steps), steps.credits)
    shared = make_awr(credit="joint").signal(steps)
    assert shared.shape == steps.credits.shape and torch.equal(shared[:, 0], steps.advantages)
    assert torch.equal(shared[:, 1:], shared[:, :-1])


@pytest.mark.parametrize("make", [make_awr, make_vgm2p])
@pytest.mark.parametrize("discrete", [True, False])
def test_each_learned_parameter_is_optimised_once_at_its_own_rate(make, discrete):
    module = make(discrete, credit="local", critic="expectile", critic_learning_rate=0.5, learning_rate=0.25)
    groups = module.parameter_groups()
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == ids(p for p in module.parameters() if p.requires_grad)
    policy = module.head if make is make_awr else module.velocity
    for group in groups:
        expected = 0.25 if ids(group["params"]) & ids(policy.parameters()) else 0.5
        assert group["lr"] == expected


@pytest.mark.parametrize("make", [make_awr, make_vgm2p])
def test_only_copies_of_what_is_trained_follow(make):
    module, batch = make(credit="local", critic="expectile"), random_batch()

    def sources():
        return {id(pair.source) for pair in module.target_pairs()}

    assert sources() == {id(module.global_critic.q), id(module.global_critic.value)}
    module.finish_critic(batch.advantages.flatten())
    assert sources() == {id(module.local_credit.baseline), id(module.local_credit.action_value)}
    module.start_policy(batch.credits.flatten())
    assert sources() == (set() if make is make_awr else {id(module.velocity)})


@pytest.mark.parametrize("make", [make_awr, make_vgm2p])
def test_an_update_leaves_the_networks_of_other_stages_alone(make):
    module, batch = make(credit="local", critic="expectile"), random_batch()
    optimizer = module.configure_optimizers()
    parts = ("global_critic", "local_credit", "head" if make is make_awr else "velocity")

    def update():
        before = {name: value.clone() for name, value in module.named_parameters()}
        optimizer.zero_grad()
        sum(module.losses(batch, generator()).values()).backward()
        optimizer.step()
        return {name.split(".")[0] for name, value in module.named_parameters() if not torch.equal(value, before[name])}

    assert update() == update() == {parts[0]}
    module.finish_critic(batch.advantages.flatten())
    assert update() == update() == {parts[1]}
    module.start_policy(batch.credits.flatten())
    assert update() == update() == {parts[2]}


def test_the_critics_advantages_label_the_data():
    module, batch = make_awr(critic="expectile", advantage_estimate="q"), random_batch()
    randomise(module.global_critic)
    assert torch.equal(module.advantages(batch), module.global_critic.advantages(batch, "q"))
    module.advantage_estimate = "return"
    assert torch.equal(module.advantages(batch), module.global_critic.advantages(batch, "return"))


def test_advantages_accumulate_along_an_episode_and_not_beyond():
    one_step = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    ends = torch.tensor([False, False, True, False, True])
    options = {"discount": 0.5, "critic": "expectile"}
    module = make_awr(**options, advantage_trace_decay=0.5)
    # 1 + 2/4 + 4/16, 2 + 4/4, 4, 8 + 16/4, 16
    expected = torch.tensor([1.75, 3.0, 4.0, 12.0, 16.0])
    torch.testing.assert_close(module.accumulate(one_step, ends), expected, rtol=0, atol=1e-12)
    for plain in (
        make_awr(**options, advantage_trace_decay=0.0),
        make_awr(**options, advantage_trace_decay=0.5, advantage_estimate="q"),
    ):
        assert torch.equal(plain.accumulate(one_step, ends), one_step)


@pytest.mark.parametrize("discrete", [True, False])
def test_credits_are_the_same_whenever_they_are_asked_for(discrete):
    module, batch = make_awr(discrete, credit="local"), random_batch(discrete)
    randomise(module.local_credit)
    first, free = module.credits(batch)
    torch.rand(5)
    again, _ = module.credits(batch)
    assert torch.equal(first, again)
    steps = joint_steps(batch)
    assert torch.equal(free, module.local_credit.free_agents(steps))
    torch.testing.assert_close(first, module.local_credit.credits(steps, generator(0)))


def test_the_held_out_error_of_a_critic_is_against_the_recorded_return():
    module, batch = make_awr(trace_decay=0.0), random_batch()
    randomise(module.global_critic)
    values = module.global_critic.target_value(batch.state).detach()
    squares, width = [], batch.valid.shape[1]
    for b in range(len(values)):
        for t in range(width - 1):
            if not (batch.valid[b, t] and (batch.terminals[b, t] or batch.valid[b, t + 1])):
                continue
            total, weight, k = 0.0, 1.0, t
            while True:  # rewards to the window's or the episode's end, then the value if it was not the task's end
                total, weight = total + weight * batch.rewards[b, k], 0.9 * weight
                if batch.terminals[b, k]:
                    break
                k += 1
                if k == width - 1 or (not batch.valid[b, k + 1] and not batch.terminals[b, k]):
                    total += weight * values[b, k]
                    break
            squares.append((total - values[b, t]) ** 2)
    torch.testing.assert_close(module.held_out_error(batch), torch.stack(squares).mean(), rtol=0, atol=1e-12)


def test_the_held_out_error_of_later_stages():
    module, batch = make_awr(credit="local"), random_batch()
    randomise(module.local_credit)
    module.finish_critic(4 * batch.advantages.flatten())
    steps = joint_steps(batch)
    expected = module.local_credit.held_out_error(steps, steps.advantages / (4 * batch.advantages.std()))
    torch.testing.assert_close(module.held_out_error(batch), expected, rtol=0, atol=1e-6)
    module.start_policy(batch.credits.flatten())
    assert module.held_out_error(batch) is None


@pytest.mark.parametrize("critic", ["value", "expectile", "omiga"])
def test_diagnostics_are_means_over_steps_with_a_target(critic):
    module, batch = make_awr(critic=critic), random_batch()
    randomise(module.global_critic)
    usable = batch.valid[:, :-1] & (batch.terminals[:, :-1] | batch.valid[:, 1:])
    network = module.global_critic
    advantages = network.advantages(batch, "return")[usable]
    expected = {
        "v_mean": network.state_values(batch)[:, :-1][usable].mean(),
        "q_mean": network.action_values(batch)[usable].mean(),
        "target_mean": network.targets(batch)[usable].mean(),
        "advantage_mean": advantages.mean(),
        "advantage_square": advantages.square().mean(),
        "positive_share": (advantages > 0).double().mean(),
    }
    found = module.diagnostics(batch)
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value.detach(), rtol=0, atol=1e-6)
    assert start_policy(module).diagnostics(batch) == {}


@pytest.mark.parametrize("stage", list(Stage))
def test_the_stage_travels_with_the_weights(stage):
    module, other = make_awr(credit="local"), make_awr(credit="local")
    module.stage = stage
    module.advantage_std.fill_(3.0)
    other.load_state_dict(module.state_dict())
    assert other.stage is stage and float(other.advantage_std) == 3.0


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"critic_updates": 0}, "critic_updates must be at least 1, got 0"),
        ({"credit_updates": 0}, "credit_updates must be at least 1, got 0"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\], got 1\.1"),
        ({"discount": -0.1}, r"discount must be in \[0, 1\], got -0\.1"),
        ({"expectile": 0.0}, r"expectile must be in \(0, 1\), got 0\.0"),
        ({"expectile": 1.0}, r"expectile must be in \(0, 1\), got 1\.0"),
        ({"trace_decay": 1.5}, r"trace_decay must be in \[0, 1\], got 1\.5"),
        ({"omiga_temperature": 0.0}, r"omiga_temperature must be above 0, got 0\.0"),
        ({"n_critics": 0}, "n_critics must be at least 1, got 0"),
        ({"critic_target_rate": 0.0}, r"critic_target_rate must be in \(0, 1\], got 0\.0"),
        ({"critic_target_rate": 1.5}, r"critic_target_rate must be in \(0, 1\], got 1\.5"),
        ({"steps_per_update": 0}, "steps_per_update must be at least 1, got 0"),
        ({"advantage_trace_decay": -1.0}, r"advantage_trace_decay must be in \[0, 1\], got -1\.0"),
        (
            {"advantage_estimate": "q"},
            "advantage_estimate must be 'return' with critic 'value', which has no Q, got 'q'",
        ),
    ],
)
def test_impossible_options_are_refused(option, match):
    with pytest.raises(ValueError, match=f"{match}; change it under model.init_args"):
        make_awr(**option)


def test_possible_ends_of_ranges_are_accepted():
    high = make_awr(
        discount=1.0, trace_decay=0.0, advantage_trace_decay=1.0, critic_target_rate=1.0, steps_per_update=1
    )
    assert (high.global_critic.discount, high.advantage_trace_decay, high.steps_per_update) == (1.0, 1.0, 1)
    low = make_awr(discount=0.0, trace_decay=1.0, critic="omiga", advantage_estimate="q")
    assert (low.global_critic.discount, low.advantage_estimate) == (0.0, "q")
