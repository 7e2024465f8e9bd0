from dataclasses import replace

import pytest
import torch

from datamodules.batch import TeamBatch
from tests.lightning_modules.batches import generator, make_dof_trajectory, make_madiff, random_batch, train

ENVS = 400


def two_plans(rows=64):
    """Episodes of two steps: both agents go up and get 1, or both go down and get -1; seen is where they are."""
    up = (torch.arange(rows) % 2).bool().unsqueeze(1)
    place = torch.where(up, 1.0, -1.0)
    obs = torch.stack([torch.zeros(rows, 2), place.expand(rows, 2)], dim=1).unsqueeze(-1)  # (B, 2, 2, 1)
    shape = (rows, 2)
    nothing = torch.zeros(shape, dtype=torch.bool)
    return TeamBatch(
        obs=obs,
        state=obs.flatten(2),
        actions=up.long().unsqueeze(1).expand(rows, 2, 2),
        rewards=torch.cat([place, torch.zeros_like(place)], dim=1),
        returns=place.expand(shape),
        terminals=nothing,
        truncations=nothing,
        legal_actions=torch.ones(rows, 2, 2, 2, dtype=torch.bool),
        advantages=torch.full(shape, torch.nan),
        credits=torch.full((rows, 2, 2), torch.nan),
        valid=torch.ones(shape, dtype=torch.bool),
    )


def learn(make, **options):
    """Small, and soon done."""
    torch.manual_seed(0)
    sizes = {"n_agents": 2, "obs_dim": 1, "state_dim": 2, "action_dim": 2, "width": 32, "levels": 20, "horizon": 2}
    acting = {"return_range": (-1.0, 1.0), "sampling_steps": 10, "temperature": 1.0, "ema_rate": 1.0}
    return train(make(**sizes, **acting, **options), two_plans(), updates=200)


@pytest.fixture(scope="module", params=[make_madiff, make_dof_trajectory])
def learned(request):
    return learn(request.param)


def choices(policy, seed=0):
    obs, legal = torch.zeros(ENVS, 2, 1), torch.ones(ENVS, 2, 2, dtype=torch.bool)
    with torch.no_grad():
        return policy.act(obs, legal, None, generator(seed))[0]


def test_the_return_decides_which_plan_is_made(learned):
    good, bad = learned.policy, replace(learned.policy, goal=(0.0, 1.0))
    assert float(choices(good).double().mean()) > 0.95
    assert float(choices(bad).double().mean()) < 0.05


def test_without_a_return_both_plans_are_made_and_shared_noise_makes_one_for_all(learned):
    """Each agent imagines the whole team, or itself: from one noise they agree, from their own by chance only."""
    rows = learned.evaluation_policies()
    own = choices(rows["without a return"])
    assert 0.3 < float(own.double().mean()) < 0.7
    shared = choices(replace(rows["without a return"], shared_noise=True))
    assert 0.3 < float(shared.double().mean()) < 0.7
    assert float((shared[:, 0] == shared[:, 1]).double().mean()) > 0.85
    assert float((own[:, 0] == own[:, 1]).double().mean()) < 0.7


def test_a_central_plan_is_one_for_all():
    module = learn(make_madiff, execution="centralised")
    done = choices(module.evaluation_policies()["without a return"])
    assert 0.3 < float(done.double().mean()) < 0.7
    assert float((done[:, 0] == done[:, 1]).double().mean()) > 0.85


def test_an_update_takes_some_windows():
    batch = random_batch()
    few, every = make_madiff(windows_per_update=5), make_madiff()
    every.load_state_dict(few.state_dict())
    rows = []
    few.model.denoiser.register_forward_hook(lambda *call: rows.append(len(call[1][0])))
    few.losses(batch, generator())
    assert rows == [5]
    assert len(batch.obs) == 24


def test_imagined_trajectories_are_as_long_as_those_of_training():
    module = make_madiff(horizon=4)
    assert module.policy.length == 2
    for window, length in ((3, 3), (6, 4)):
        module._trainer = None
        module.log_dict = lambda *args, **kwargs: None
        module.update_generator = generator
        module.training_step(random_batch(window=window), 0)
        assert module.policy.length == length


def test_a_goal_that_weighs_nothing_is_no_goal():
    assert make_madiff(guidance_scale=0.0).policy.goal == (0.0, 0.0)
    assert make_madiff(guidance_scale=0.0).policy.network_calls == 3 + 1
    assert make_madiff(target_return=0.9).policy.goal == (0.9, 1.0)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"encoder": "gru"}, r"encoder must be 'mlp', because plans hold the past \(history\), got 'gru'"),
        ({"guidance_scale": -1.0}, "guidance_scale must be at least 0, got -1.0"),
        ({"sampling_steps": 13}, r"sampling_steps must be in 1..12, the levels, got 13"),
        ({"bound": 0.0}, "bound must be above 0 or null, got 0.0"),
        ({"temperature": -0.5}, "temperature must be at least 0, got -0.5"),
        ({"windows_per_update": 0}, "windows_per_update must be at least 1 or null, got 0"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        make_madiff(**option)
