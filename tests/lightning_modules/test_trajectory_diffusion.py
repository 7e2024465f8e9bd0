from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch

from datamodules.normalisation import Standardisation
from lightning_modules.networks.trajectory_denoiser import ABSENT, IMAGINED, SHOWN
from lightning_modules.trajectory_diffusion import TrajectoryDiffusion
from tests.lightning_modules.batches import (
    N_AGENTS,
    OBS_DIM,
    default_dtype,
    generator,
    parts_moved_by,
    random_batch,
    randomise,
    team_shape,
)

LEVELS = 6
RANGE, SCALE = (-2.0, 3.0), 0.5


def model(discrete=True, **options):
    defaults = {
        "knowledge": "own",
        "history": 0,
        "horizon": 4,
        "width": 16,
        "n_blocks": 1,
        "weighted_noise": False,
        "hidden_dims": (8,),
        "error": "observations",
        "schedule": "cosine",
        "levels": LEVELS,
        "condition_dropout": 0.5,
        "return_range": RANGE,
        "change_scale": SCALE,
        "ema_rate": 0.1,
    }
    with default_dtype(torch.float64):
        return TrajectoryDiffusion(team_shape(discrete), **{**defaults, **options})


def batch_of(window=4, discrete=True):
    return random_batch(discrete, batch=24, window=window, dtype=torch.float64)


def role_of(made, batch, b, t, agent, knower):
    mine = made.knowledge != "own" or agent == int(knower[b])
    if not batch.valid[b, t] or (t < made.history and not mine):
        return ABSENT
    return SHOWN if t <= made.history and mine else IMAGINED


def seen(made, batch, b, t, agent, begun):
    """The present observation, or what changes between it and time t, step by step, in units of the scale."""
    obs = batch.obs[b, :, agent]
    if t == made.history:
        return obs[t]
    nearer = t + 1 if t < made.history else t - 1
    return (obs[max(t, begun)] - obs[max(nearer, begun)]) / SCALE


def written_out(made, batch, source):
    """L with loops over windows, times and agents; draws in the order of the code."""
    steps, rows = min(batch.obs.shape[1], made.history + made.horizon), len(batch.obs)
    knower = torch.randint(N_AGENTS, (rows,), generator=source) if made.knowledge == "own" else None
    begun = torch.zeros(rows, 1, dtype=torch.int64)
    if made.history:
        begun = torch.randint(made.history + 1, (rows, 1), generator=source)
    level = torch.randint(1, LEVELS + 1, (rows, 1), generator=source)
    noise = torch.randn(batch.obs[:, :steps].shape, generator=source, dtype=torch.float64)
    dropped = torch.rand(rows, generator=source) < made.condition_dropout
    errors = []
    for b in range(rows):
        kept = made.kept[level[b, 0]]
        z, roles = torch.zeros(1, steps, N_AGENTS, OBS_DIM).double(), torch.zeros(1, steps, N_AGENTS).double()
        whole = torch.zeros_like(z[0])
        for t, n in product(range(steps), range(N_AGENTS)):
            clean = seen(made, batch, b, t, n, int(begun[b, 0]))
            whole[t, n] = clean
            roles[0, t, n] = role_of(made, batch, b, t, n, knower)
            z[0, t, n] = clean if roles[0, t, n] == SHOWN else kept.sqrt() * clean + (1 - kept).sqrt() * noise[b, t, n]
        share = (batch.returns[b, 0] - RANGE[0]) / (RANGE[1] - RANGE[0])
        goal = torch.tensor([[0.0, 0.0]] if dropped[b] else [[float(share), 1.0]], dtype=torch.float64)
        found = made.denoiser(z, roles, level[b : b + 1] / LEVELS, kept.sqrt().view(1, 1), goal)
        if made.error == "noise":
            implied = (z - kept.sqrt() * found) / (1 - kept).sqrt()
            squares = (implied[0] - noise[b]).square()
        else:
            squares = (found[0] - whole).square()
        errors.extend(squares.mean(dim=-1)[roles[0] == IMAGINED].tolist())
    return sum(errors) / len(errors)


@pytest.mark.parametrize(
    ("options", "window"),
    [
        ({}, 4),
        ({"error": "noise"}, 4),
        ({"horizon": 2}, 4),  # longer windows are cut
        ({"horizon": 9}, 3),  # shorter ones are what is imagined
        ({"knowledge": "all"}, 4),
        ({"knowledge": "alone", "weighted_noise": True}, 4),
        ({"history": 2, "horizon": 2}, 4),
        ({"history": 1, "horizon": 3, "knowledge": "alone", "schedule": "vp"}, 4),
    ],
)
def test_the_loss_is_what_plain_loops_give(options, window):
    made, batch = randomise(model(**options)), batch_of(window)
    with torch.no_grad():
        loss = made.trajectory_loss(batch, generator(5))
        torch.testing.assert_close(float(loss), written_out(made, batch, generator(5)), rtol=1e-9, atol=1e-9)


def test_nothing_behind_an_episodes_end_is_read():
    made, batch = randomise(model(history=1, horizon=3)), batch_of()
    behind = ~batch.valid
    filled = batch._replace(obs=batch.obs.masked_fill(behind[..., None, None], 1e3))
    for name, loss in made.losses(filled, generator()).items():
        torch.testing.assert_close(loss, made.losses(batch, generator())[name], rtol=1e-12, atol=1e-12)


def test_what_is_known_is_no_part_of_the_loss_but_moves_it():
    """With everybody's present known, nothing asks for it; another present changes what is found."""
    made, batch = randomise(model(knowledge="all", horizon=2)), batch_of(2)
    batch = batch._replace(valid=torch.ones_like(batch.valid))
    with torch.no_grad():
        made.denoiser.outputs.weight[:OBS_DIM] += 1.0  # the answer for the present
        first = made.trajectory_loss(batch, generator())
        made.denoiser.outputs.weight[:OBS_DIM] -= 1.0
        assert torch.equal(made.trajectory_loss(batch, generator()), first)
        other = batch._replace(obs=torch.cat([batch.obs[:, :1] + 1.0, batch.obs[:, 1:]], dim=1))
        assert not torch.equal(made.trajectory_loss(other, generator()), first)


@pytest.mark.parametrize("discrete", [True, False])
def test_inverse_dynamics_learn_every_step_that_has_a_next_one(discrete):
    made, batch = randomise(model(discrete)), batch_of(discrete=discrete)
    errors = []
    for b in range(len(batch.obs)):
        for t in range(batch.obs.shape[1] - 1):
            if not batch.valid[b, t + 1]:
                continue
            output = made.inverse(batch.obs[b, t], (batch.obs[b, t + 1] - batch.obs[b, t]) / SCALE)
            for n in range(N_AGENTS):
                done, legal = batch.actions[b, t, n], batch.legal_actions[b, t, n]
                if discrete:
                    chances = output[n].masked_fill(~legal, -torch.inf).softmax(dim=-1)
                    errors.append(-chances[done].log())
                else:
                    errors.append((output[n] - done).square().mean())
    loss = made.inverse_loss(batch)
    torch.testing.assert_close(loss, torch.stack(errors).mean(), rtol=1e-9, atol=1e-9)


def test_illegal_choices_and_padding_get_no_gradient():
    made, batch, answers = randomise(model()), batch_of(), []
    made.inverse.register_forward_hook(lambda *call: answers.append(call[2]))
    (slope,) = torch.autograd.grad(made.inverse_loss(batch), answers)
    assert bool((slope != 0).any())
    assert bool((slope[~batch.legal_actions[:, :-1]] == 0).all())
    assert bool((slope[~batch.valid[:, 1:]] == 0).all())


def test_each_loss_moves_its_own_network():
    made, batch = model(), batch_of()
    losses = made.losses(batch, generator())
    assert {key: parts_moved_by(loss, made) for key, loss in losses.items()} == {
        "trajectory": {"denoiser"},
        "inverse": {"inverse"},
    }


def test_goals_by_hand():
    made = model()
    goals = made.goals(torch.tensor([-2.0, 0.5, 3.0, 8.0]), torch.tensor([False, False, True, False]))
    assert goals.tolist() == [[0.0, 1.0], [0.5, 1.0], [0.0, 0.0], [2.0, 1.0]]


def test_returns_are_dropped_at_the_given_rate():
    made, batch, asked = model(condition_dropout=0.25), batch_of(), []
    made.denoiser.register_forward_hook(lambda *call: asked.append(call[1][4]))
    for seed in range(100):
        made.trajectory_loss(batch, generator(seed))
    goals = torch.cat(asked)
    dropped = (goals[:, 1] == 0).double()
    assert bool((goals[dropped.bool()] == 0).all())
    assert abs(float(dropped.mean()) - 0.25) < 4 * (0.25 * 0.75 / len(dropped)) ** 0.5


@dataclass
class Data:
    return_range: tuple[float, float] = (-3.0, 5.0)

    @property
    def change_scaling(self):
        return Standardisation(np.zeros(OBS_DIM, np.float32), np.arange(1, OBS_DIM + 1, dtype=np.float32))


def test_returns_and_changes_are_measured_unless_given():
    """Changes in the unit of the observations that come here: those of the data, divided by 2."""
    measured, given = model(return_range=None, change_scale=None), model()
    assert measured.return_range.tolist() == [0.0, 1.0] and measured.change_scale.tolist() == [1.0] * OBS_DIM
    scales = [(k + 1) / 2 for k in range(OBS_DIM)]
    for made, expected, sizes in ((measured, [-3.0, 5.0], scales), (given, list(RANGE), [SCALE] * OBS_DIM)):
        made.measure(Data(), 2.0)
        assert made.return_range.tolist() == expected and made.change_scale.tolist() == sizes
    given.measure(None, 2.0)
    with pytest.raises(ValueError, match="a datamodule with return_range and change_scaling, got NoneType; pass an"):
        measured.measure(None, 2.0)


def test_returns_that_are_all_alike_are_no_division_by_zero():
    made = model(return_range=None)
    made.measure(Data((1.0, 1.0)), 1.0)
    assert made.goals(torch.tensor([1.0]), torch.tensor([False])).tolist() == [[0.0, 1.0]]


def test_windows_need_room():
    made = model(history=2, horizon=2)
    with pytest.raises(ValueError, match=r"windows of at least 4 steps for a history of 2, got 3; raise data"):
        made.losses(batch_of(3), generator())


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"history": -1}, "history must be at least 0, got -1"),
        ({"horizon": 1}, "horizon must be at least 2, got 1"),
        ({"n_blocks": 0}, "n_blocks must be at least 1, got 0"),
        ({"condition_dropout": 1.0}, r"condition_dropout must be in \[0, 1\), got 1.0"),
        (
            {"return_range": (1.0, 1.0)},
            r"return_range must be null, or a smaller and a larger return, got \(1.0, 1.0\)",
        ),
        ({"change_scale": 0.0}, "change_scale must be above 0 or null, got 0.0"),
        ({"ema_rate": 0.0}, r"ema_rate must be in \(0, 1\], got 0.0"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        model(**option)


def test_the_policy_is_made_of_the_copies():
    made = model(history=1)
    policy = made.policy(sampling_steps=3)
    assert policy.denoiser is made.acting_denoiser and policy.inverse is made.acting_inverse
    assert (policy.length, policy.history, policy.knowledge) == (3, 1, "own")
    assert [(source, rate) for source, _, rate in made.target_pairs()] == [(made.denoiser, 0.1), (made.inverse, 0.1)]
