"""What every algorithm promises: one suite over all of them and the options that change a network."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from lightning_modules import AWR, BC, CFCQL, MACQL, VGM2P
from lightning_modules.advantage_module import AdvantageModule, Stage
from lightning_modules.base import OfflineModule
from lightning_modules.networks import encoders
from lightning_modules.networks.actions import append_agent_id
from lightning_modules.planning_module import PlanningModule
from tests.lightning_modules.algorithms import ALGORITHMS, REFUSED, SUPPORTED
from tests.lightning_modules.batches import (
    ACTION_DIM,
    DIMS,
    N_AGENTS,
    OBS_DIM,
    generator,
    make_awr,
    make_vgm2p,
    normal,
    parts_moved_by,
    random_batch,
    random_legal_actions,
    start_policy,
)

SHUFFLED = [2, 0, 1]
every_algorithm = pytest.mark.parametrize(("name", "discrete"), SUPPORTED)


def make(name, discrete):
    torch.manual_seed(0)
    return ALGORITHMS[name].make(discrete)


def ready(name, discrete, stage=Stage.POLICY):
    """An algorithm at the beginning of a stage, with preferences strong enough to see."""
    module = make(name, discrete)
    if isinstance(module, AdvantageModule) and stage != Stage.CRITIC:
        start_policy(module, random_batch(discrete))
        module.stage = stage
    with torch.no_grad():
        for part, parameter in module.named_parameters():
            if part.endswith("mlp.head.weight"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator()) * 3)
    if hasattr(module, "acting_velocity"):
        module.acting_velocity.load_state_dict(module.velocity.state_dict())
    if isinstance(module, PlanningModule):
        for source, target, _ in module.target_pairs():
            target.load_state_dict(source.state_dict())
    return module


def stages(module):
    if not isinstance(module, AdvantageModule):
        return [Stage.POLICY]
    return [stage for stage in Stage if stage != Stage.CREDIT or module.local_credit is not None]


def act(policy, batch, seed=3):
    obs, legal = batch.obs[:, 0], batch.legal_actions[:, 0]
    with torch.no_grad():
        return policy.act(obs, legal, policy.initial_state(len(obs)), generator(seed))[0]


@every_algorithm
def test_losses_are_finite_and_each_moves_only_its_own_networks(name, discrete):
    batch, untrained = random_batch(discrete), make(name, discrete)
    for stage in stages(untrained):
        module = ready(name, discrete, stage)
        allowed = ALGORITHMS[name].moves[stage]
        losses = module.losses(batch, generator())
        assert losses and set(losses) <= set(allowed)
        trained = set()
        for key, loss in losses.items():
            assert loss.shape == () and bool(loss.isfinite())
            moved = parts_moved_by(loss, module, depth=2)
            assert moved and moved <= allowed[key], (stage, key)
            assert not moved & trained  # no network is moved by two losses
            trained |= moved


@every_algorithm
def test_losses_come_from_the_generator_alone(name, discrete):
    batch, module = random_batch(discrete), ready(name, discrete)
    state = torch.get_rng_state()
    first = {key: float(loss.detach()) for key, loss in module.losses(batch, generator(1)).items()}
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert {key: float(loss.detach()) for key, loss in module.losses(batch, generator(1)).items()} == first


@every_algorithm
def test_an_update_needs_no_padding(name, discrete):
    """What stands behind an episode's end changes no loss."""
    batch, untrained = random_batch(discrete), make(name, discrete)
    behind = ~batch.valid
    assert bool(behind.any())
    filled = batch._replace(
        rewards=batch.rewards.masked_fill(behind, 50.0),
        obs=batch.obs.masked_fill(behind[..., None, None], 5.0),
        state=batch.state.masked_fill(behind[..., None], 5.0),
        advantages=batch.advantages.masked_fill(behind, torch.nan),
        credits=batch.credits.masked_fill(behind[..., None], torch.nan),
        terminals=batch.terminals | behind,
    )
    for stage in stages(untrained):
        module = ready(name, discrete, stage)
        expected = module.losses(batch, generator())
        for key, loss in module.losses(filled, generator()).items():
            torch.testing.assert_close(loss, expected[key], rtol=1e-6, atol=1e-6)


@every_algorithm
def test_exchanging_agents_exchanges_their_actions(name, discrete, monkeypatch):
    """Agents share all weights: with observations and numbers exchanged, so are the actions."""

    def exchanged(features):
        numbered = append_agent_id(features)
        return torch.cat([features, numbered[..., SHUFFLED, features.shape[-1] :]], dim=-1)

    module, batch = ready(name, discrete), random_batch(discrete, batch=64)
    # What makes a policy treat all agents alike
    without_chance = {"shared_noise": True, "sample": False, "temperature": 0.0}
    known = {key: value for key, value in without_chance.items() if hasattr(module.policy, key)}
    policy = replace(module.policy, **known)
    before = act(policy, batch)
    swapped = batch._replace(obs=batch.obs[:, :, SHUFFLED], legal_actions=batch.legal_actions[:, :, SHUFFLED])
    without_numbers = act(policy, swapped)
    monkeypatch.setattr(encoders, "append_agent_id", exchanged)
    torch.testing.assert_close(act(policy, swapped), before[:, SHUFFLED], rtol=1e-4, atol=1e-4)
    assert float((without_numbers - before[:, SHUFFLED]).abs().max()) > 1e-2  # the number is part of what is exchanged


@pytest.mark.parametrize("name", [name for name, discrete in SUPPORTED if discrete])
def test_illegal_actions_are_never_chosen(name):
    module, legal = ready(name, True), random_legal_actions(500, N_AGENTS, ACTION_DIM)
    obs = 3 * normal(500, N_AGENTS, OBS_DIM, dtype=torch.float32)
    for policy in (module.policy, *module.evaluation_policies().values()):
        with torch.no_grad():
            actions, _ = policy.act(obs, legal, policy.initial_state(500), generator())
        assert actions.dtype == torch.int64 and actions.shape == (500, N_AGENTS)
        assert bool(legal.gather(-1, actions.unsqueeze(-1)).all())


@pytest.mark.parametrize("name", [name for name, discrete in SUPPORTED if not discrete])
def test_continuous_actions_stay_in_their_box(name):
    module = ready(name, False)
    obs = 3 * normal(500, N_AGENTS, OBS_DIM, dtype=torch.float32)
    legal = torch.ones(500, N_AGENTS, ACTION_DIM, dtype=torch.bool)
    for policy in (module.policy, *module.evaluation_policies().values()):
        with torch.no_grad():
            actions, _ = policy.act(obs, legal, policy.initial_state(500), generator())
        assert actions.shape == (500, N_AGENTS, ACTION_DIM) and bool((actions.abs() <= 1).all())


@every_algorithm
def test_the_weights_are_all_that_a_policy_needs(name, discrete):
    batch, module = random_batch(discrete), ready(name, discrete)
    other = make(name, discrete)
    assert not torch.equal(act(other.policy, batch), act(module.policy, batch))
    other.load_state_dict(module.state_dict())
    for key, policy in module.evaluation_policies().items():
        assert torch.equal(act(other.evaluation_policies()[key], batch), act(policy, batch))
    expected = module.losses(batch, generator())
    for key, loss in other.losses(batch, generator()).items():  # the stage and the labels' statistics came along
        assert torch.equal(loss, expected[key])


@every_algorithm
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec.*")
def test_a_checkpoint_brings_back_the_same_algorithm(name, discrete, tmp_path):
    """Written by Lightning after an update, read with weights only and nothing but the path."""
    batch, module = random_batch(discrete), ready(name, discrete)
    module.train()
    settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_steps=2, max_epochs=-1, enable_model_summary=False, **settings)
    before = act(module.policy, batch)
    trainer.fit(module, DataLoader([batch] * 2, batch_size=None))
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    loaded = type(module).load_from_checkpoint(tmp_path / "two.ckpt", weights_only=True)
    assert torch.equal(act(loaded.policy, batch), act(module.policy, batch))
    if not discrete:
        assert not torch.equal(act(module.policy, batch), before)  # the updates did something
    if isinstance(module, AdvantageModule):
        assert loaded.stage == module.stage == Stage.POLICY
    expected = module.losses(batch, generator())
    for key, loss in loaded.losses(batch, generator()).items():
        assert torch.equal(loss, expected[key])


@every_algorithm
def test_an_update_moves_what_its_stage_trains_and_copies_follow_behind(name, discrete):
    batch, untrained = random_batch(discrete), make(name, discrete)
    for stage in stages(untrained):
        module = ready(name, discrete, stage)
        optimizer = module.configure_optimizers()
        before = {key: value.clone() for key, value in module.state_dict().items() if "extra_state" not in key}
        sum(module.losses(batch, generator()).values()).backward()
        optimizer.step()
        after = {key: value for key, value in module.state_dict().items() if "extra_state" not in key}
        moved = {".".join(key.split(".")[:2]) for key in after if not torch.equal(after[key], before[key])}
        expected = set().union(*ALGORITHMS[name].moves[stage].values())
        assert moved and moved <= expected
        for source, target, _ in module.target_pairs():
            assert any(bool((a != b).any()) for a, b in zip(source.parameters(), target.parameters(), strict=True))


@pytest.mark.parametrize(("name", "discrete"), REFUSED)
def test_a_kind_of_action_that_does_not_fit_is_refused(name, discrete):
    with pytest.raises(ValueError, match=ALGORITHMS[name].refused):
        make(name, discrete)


@pytest.mark.parametrize(("name", "discrete"), [row for row in SUPPORTED if "gru" in row[0]])
def test_memory_changes_what_is_done_and_begins_anew_with_an_episode(name, discrete):
    """Acting step by step equals acting after the whole past; another past gives other actions."""
    module, batch = ready(name, discrete), random_batch(discrete, batch=64, window=4)
    with torch.no_grad():
        for part, parameter in module.named_parameters():
            if ".encoder." in part:  # memories strong enough to see
                parameter.mul_(6.0)

    def play(obs):
        policy, steps = module.policy, []
        memory = policy.initial_state(len(obs))
        for step in range(obs.shape[1]):
            with torch.no_grad():
                actions, memory = policy.act(obs[:, step], batch.legal_actions[:, step], memory, generator(step))
            steps.append(actions)
        return torch.stack(steps, dim=1)

    other = batch.obs.clone()
    other[:, 0] += 3.0
    first, second = play(batch.obs), play(other)
    assert torch.equal(play(batch.obs), first)
    assert bool((first[:, 1:] != second[:, 1:]).any())  # the same observations behind another past


@pytest.mark.parametrize("algorithm", [BC, AWR, CFCQL, MACQL, VGM2P])
def test_an_algorithm_is_documented_and_buildable_from_its_defaults(algorithm):
    module = algorithm(**DIMS, discrete=True)
    assert isinstance(module, OfflineModule) and "Args:" in algorithm.__doc__
    assert set(DIMS) | {"discrete"} <= set(module.hparams)


@pytest.mark.parametrize(
    ("build", "option", "expected"),
    [
        (make_awr, {"discount": 2.0}, r"discount must be in \[0, 1\], got 2.0"),
        (make_awr, {"inverse_temperature": -1.0}, "inverse_temperature must be at least 0, got -1.0"),
        (make_vgm2p, {"critic_updates": 0}, "critic_updates must be at least 1, got 0"),
        (make_vgm2p, {"advantage_estimate": "q"}, "advantage_estimate must be 'return' .* which has no Q, got 'q'"),
        (make_vgm2p, {"label_quantile": 0.0}, r"label_quantile must be in \(0, 1\), got 0.0"),
        (make_vgm2p, {"label_quantile": 1.0}, r"label_quantile must be in \(0, 1\), got 1.0"),
        (make_vgm2p, {"guidance_scale": -0.5}, "guidance_scale must be at least 0, got -0.5"),
        (make_vgm2p, {"guidance_maximum": 0.9}, "guidance_maximum must be at least 1, got 0.9"),
        (make_vgm2p, {"guidance_mix": 1.0}, r"guidance_mix must be in \[0, 1\), got 1.0"),
        (make_vgm2p, {"guidance_mix": -0.1}, r"guidance_mix must be in \[0, 1\), got -0.1"),
        (make_vgm2p, {"condition_dropout": 1.0}, r"condition_dropout must be in \[0, 1\), got 1.0"),
        (make_vgm2p, {"flow_ratio": 1.1}, r"flow_ratio must be in \[0, 1\], got 1.1"),
        (make_vgm2p, {"flow_ratio": -0.1}, r"flow_ratio must be in \[0, 1\], got -0.1"),
        (make_vgm2p, {"min_time": 0.0}, r"min_time must be in \(0, 1\), got 0.0"),
        (make_vgm2p, {"min_time": 1.0}, r"min_time must be in \(0, 1\), got 1.0"),
        (make_vgm2p, {"sampling_steps": 0}, "sampling_steps must be at least 1, got 0"),
        (make_vgm2p, {"ema_rate": 0.0}, r"ema_rate must be in \(0, 1\], got 0.0"),
    ],
)
def test_an_impossible_option_is_refused_before_anything_runs(build, option, expected):
    with pytest.raises(ValueError, match=f"{expected}; change it under model.init_args in the configuration"):
        build(**{"critic": "value", **option})


def test_an_unknown_option_is_refused():
    for algorithm in (BC, AWR, CFCQL, MACQL, VGM2P):
        with pytest.raises(TypeError, match="temperatur"):
            algorithm(**DIMS, discrete=True, temperatur=1.0)
