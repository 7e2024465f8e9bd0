import pytest
import torch

from lightning_modules.losses.masking import masked_mean
from tests.lightning_modules.batches import generator, make_dof_policy, make_dof_trajectory, moved_by, random_batch


def test_concat_and_weighted_concat_are_the_same_at_first():
    batch = random_batch()
    for make in (make_dof_trajectory, make_dof_policy):
        torch.manual_seed(0)
        plain = make(noise="concat")
        torch.manual_seed(0)
        weighted = make(noise="w_concat")
        expected = plain.losses(batch, generator())
        for name, loss in weighted.losses(batch, generator()).items():
            torch.testing.assert_close(loss, expected[name], rtol=1e-6, atol=1e-6)
        names = {name for name, _ in weighted.named_parameters()} - {name for name, _ in plain.named_parameters()}
        assert {name.rpartition("factors.")[2] for name in names} == {"weights"}


def test_agents_of_trajectories_do_not_see_each_other():
    module = make_dof_trajectory()
    assert module.model.knowledge == "alone" and not list(module.model.denoiser.attentions.parameters())


@pytest.mark.parametrize("discrete", [True, False])
def test_values_teach_the_diffusion_unless_they_are_detached(discrete):
    """The released code detaches them: its loss is that of cloning, shifted by a number."""
    batch = random_batch(discrete)

    def slopes(**options):
        torch.manual_seed(0)
        module = make_dof_policy(discrete, **options)
        loss = module.losses(batch, generator())["policy"]
        return loss.detach(), torch.autograd.grad(loss, list(module.denoiser.parameters()))

    cloning, by_cloning = slopes(q_weight=0.0)
    released, by_released = slopes(q_gradient=False)
    climbing, by_climbing = slopes()
    torch.testing.assert_close(climbing, released)
    assert not torch.equal(released, cloning)
    for plain, detached in zip(by_cloning, by_released, strict=True):
        assert torch.equal(plain, detached)
    assert any(not torch.equal(plain, climbs) for plain, climbs in zip(by_cloning, by_climbing, strict=True))


def test_critics_learn_one_step_targets_of_drawn_actions():
    """L_Q of continuous actions against plain loops over windows, times, agents and critics."""
    module, batch = make_dof_policy(False, sampling_steps=2, trace_decay=0.0), random_batch(False)
    loss = module.losses(batch, generator(4))["q"]
    with torch.no_grad():
        source = generator(4)
        module.losses(batch, source)  # not compared: puts the draws of the policy's loss behind us
    diffusion, values = module.diffusion, module.values
    drawn = diffusion.drawing(module.averaged_denoiser)
    assert drawn.steps == 2 and drawn.sampler == "ddpm" and drawn.candidates == 1
    with torch.no_grad():
        targets = diffusion.targets(batch, generator(9))
        features = module.averaged_denoiser.encoder(batch.obs)
        actions = drawn.generate(features, batch.legal_actions, 1, generator(9)).squeeze(0).clamp(-1, 1)
        twins = values.target_critic(batch.obs, actions).amin(dim=0)  # (B, T, N)
        for b in range(len(batch.obs)):
            for t in range(batch.obs.shape[1] - 1):
                for n in range(batch.obs.shape[2]):
                    ahead = 0.0 if batch.terminals[b, t] else values.discount * float(twins[b, t + 1, n])
                    assert float(targets[n, b, t]) == pytest.approx(float(batch.rewards[b, t]) + ahead, abs=1e-5)
        usable = batch.valid[:, :-1] & (batch.terminals[:, :-1] | batch.valid[:, 1:])
        errors = values.critic(batch.obs[:, :-1], batch.actions[:, :-1]) - targets.movedim(0, -1)
        expected = masked_mean(errors.square().sum(dim=0), usable.unsqueeze(-1))
    torch.testing.assert_close(diffusion.td_loss(batch, generator(9)), expected)
    assert loss.isfinite()


def test_losses_of_the_policy_factor_move_their_own_networks():
    module, batch = make_dof_policy(noise="w_concat"), random_batch()
    losses = module.losses(batch, generator())
    assert {name.split(".")[0] for name in moved_by(losses["policy"], module)} == {"denoiser"}
    assert "denoiser.factors.weights" in moved_by(losses["policy"], module)
    assert {name.split(".")[0] for name in moved_by(losses["q"], module)} == {"values"}


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"sampling_steps": 4}, r"sampling_steps must be in 1..3, the levels, or null, got 4"),
        ({"q_weight": -1.0}, "q_weight must be at least 0, got -1.0"),
        ({"acting_candidates": 0}, "acting_candidates must be at least 1, got 0"),
        ({"windows_per_update": 0}, "windows_per_update must be at least 1 or null, got 0"),
        ({"ema_rate": 0.0}, r"ema_rate must be in \(0, 1\], got 0.0"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        make_dof_policy(**option)
