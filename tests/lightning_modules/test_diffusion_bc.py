import pytest
import torch

from lightning_modules import DiffusionBC
from lightning_modules.denoising import denoised_actions
from lightning_modules.joint_steps import joint_steps
from tests.lightning_modules.batches import (
    DIMS,
    generator,
    make_diffusion_bc,
    one_step_games,
    random_batch,
    train,
)

BOTH = pytest.mark.parametrize("discrete", [True, False])
SMALL = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "levels": 20, "hidden_dims": (32, 32)}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def played(policy, n_games=2000, n_actions=2):
    obs, legal = torch.zeros(n_games, 2, 1), torch.ones(n_games, 2, n_actions, dtype=torch.bool)
    with torch.no_grad():
        return policy.act(obs, legal, policy.initial_state(n_games), generator())[0]


@BOTH
@pytest.mark.parametrize("steps_per_update", [None, 5])
def test_it_learns_from_some_of_the_recorded_steps(discrete, steps_per_update):
    module, batch, source = (
        make_diffusion_bc(discrete, steps_per_update=steps_per_update),
        random_batch(discrete),
        generator(),
    )
    steps = joint_steps(batch, steps_per_update, source)
    expected = denoised_actions(module.denoiser, steps, steps.features(module.denoiser.encoder), source).loss
    assert torch.equal(module.losses(batch, generator())["policy"], expected)
    assert steps_per_update is None or len(steps.obs) == 5


def test_it_clones_choices_with_their_chances():
    """Choice 1 is made by agent 0 twice out of three times, by agent 1 twice out of nine."""
    games = one_step_games([[1, 0], [0, 0], [0, 1]], [96, 16, 32], [0.0] * 3)
    module = train(make_diffusion_bc(True, **SMALL, action_dim=2), games, 200, 1e-2)
    for policy in module.evaluation_policies().values():
        if policy.noise == "normal" and policy.steps >= 10:
            shares = played(policy).double().mean(dim=0)
            torch.testing.assert_close(shares, torch.tensor([12 / 18, 4 / 18]).double(), rtol=0, atol=0.06)


def test_it_clones_both_modes_of_continuous_actions():
    """±.6, evenly: what a mean would put between them."""
    games = one_step_games([[0, 0], [1, 1]], [96, 96], [0.0, 0.0])
    vectors = (games.actions * 1.2 - 0.6).unsqueeze(-1).float()
    games = games._replace(actions=vectors, legal_actions=games.legal_actions[..., :1])
    module = train(make_diffusion_bc(False, **SMALL, action_dim=1), games, 300, 1e-2)
    actions = played(module.policy, n_actions=1)
    assert float(((actions.abs() - 0.6).abs() < 0.15).double().mean()) > 0.9
    assert float((actions > 0).double().mean()) == pytest.approx(0.5, abs=0.1)
    same = (actions[:, 0] > 0) == (actions[:, 1] > 0)
    assert float(same.double().mean()) == pytest.approx(0.5, abs=0.1)  # noise of their own: no agreement


def test_the_averaged_copy_acts():
    module = make_diffusion_bc(True)
    assert module.policy.network is module.acting_denoiser
    assert [pair.rate for pair in module.target_pairs()] == [0.1]


def test_it_is_buildable_from_its_defaults():
    module = DiffusionBC(**DIMS, discrete=False)
    policies = module.evaluation_policies()
    assert module.hparams["levels"] == 100 and policies["policy, ddpm, 100 steps"].network_calls == 100
    assert DiffusionBC(**DIMS, discrete=True, sampling_steps=None).policy.network_calls == 100


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"levels": 5, "sampling_steps": 6}, r"sampling_steps must be in 1..5, the levels, or null, got 6"),
        ({"sampling_steps": 0}, "sampling_steps must be in 1..4, the levels, or null, got 0"),
        ({"eta": 1.5}, r"eta must be in \[0, 1\], got 1.5"),
        ({"ema_rate": 0.0}, r"ema_rate must be in \(0, 1\], got 0.0"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        make_diffusion_bc(**option)
