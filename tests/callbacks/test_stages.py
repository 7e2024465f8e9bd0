"""The passage from the critic's stage to the policy's, on recorded XOR games."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from callbacks.stages import StageSwitch, advantages_key, check_stages, positive_share, stage_name, summary
from datamodules import OfflineDataModule
from environments.recording import record
from lightning_modules import BC, VGM2P
from lightning_modules.advantage_module import Stage

pytestmark = pytest.mark.filterwarnings("ignore")
CRITIC, CREDIT = 3, 2


def make_module(**options: Any) -> VGM2P:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "critic_updates": CRITIC,
        "credit_updates": CREDIT,
        "hidden_dims": [4],
        "critic_hidden_dims": [4],
        "credit_hidden_dims": [4],
    }
    dimensions = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2, "discrete": True}
    return VGM2P(**dimensions, **{**defaults, **options})


@pytest.fixture
def data(tmp_path: Path) -> OfflineDataModule:
    record("embedded/matrix/xor", "Mixed", tmp_path, episodes=60, progress=False)
    return OfflineDataModule("embedded/matrix/xor", root=tmp_path, batch_size=8)


def make_trainer(updates: int, callback: StageSwitch | None = None) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=updates,
        max_epochs=-1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback or StageSwitch()],
    )


@pytest.mark.parametrize("credit, stages", [("local", "critic credit policy"), ("joint", "critic policy")])
def test_every_stage_lasts_as_long_as_it_should(credit: str, stages: str, data: OfflineDataModule):
    module = make_module(credit=credit)
    seen: list[str] = []
    losses = module.losses
    module.losses = lambda *args: (seen.append(stage_name(module)), losses(*args))[1]  # type: ignore[method-assign]
    trainer = make_trainer(7)
    trainer.limit_val_batches = 0  # validation asks for losses, too
    trainer.fit(module, data)
    lengths = {"critic": CRITIC, "credit": CREDIT}
    before = [name for name in stages.split()[:-1] for _ in range(lengths[name])]
    assert seen == before + ["policy"] * (7 - len(before))


def test_the_advantages_that_are_served_and_stored_are_the_critics(data: OfflineDataModule):
    module = make_module()
    assert np.isnan(data.advantages).all()
    make_trainer(6).fit(module, data)
    batch = next(iter(data.all_batches(60)))
    expected = module.advantages(batch)[:, 0].numpy()
    np.testing.assert_array_equal(data.advantages, expected)
    column = np.load(data.derived_dir / "advantages" / f"{advantages_key(module, data)}.npy")
    np.testing.assert_array_equal(column, expected)
    assert float(module.advantage_std) == pytest.approx(expected.std(ddof=1))


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "gone"])
def test_a_later_process_has_the_same_labels(stored: bool, data: OfflineDataModule):
    module = make_module()
    make_trainer(6).fit(module, data)
    if not stored:
        shutil.rmtree(data.derived_dir / "advantages")
    later, again = make_module(), OfflineDataModule("embedded/matrix/xor", root=data.root, batch_size=8)
    later.load_state_dict(module.state_dict())
    assert later.stage == Stage.POLICY
    make_trainer(6).validate(later, again, verbose=False)
    np.testing.assert_array_equal(again.advantages, data.advantages)
    batch, batch_again = (next(iter(some.all_batches(60))) for some in (data, again))
    assert torch.equal(batch.credits, batch_again.credits)


def test_a_critic_with_memory_labels_whole_episodes(tmp_path: Path):
    """Labels are those of the episode played from its first step on, however long the windows of training are."""
    record("embedded/mpe/simple_spread", "Mixed", tmp_path, episodes=5, progress=False)
    data = OfflineDataModule("embedded/mpe/simple_spread", root=tmp_path, batch_size=8, window=4)
    dims = {name: getattr(data, name) for name in ("n_agents", "obs_dim", "state_dim", "action_dim", "discrete")}
    options = {"hidden_dims": [8], "critic_hidden_dims": [8], "credit_hidden_dims": [8], "encoder": "gru"}
    module = VGM2P(**dims, **options, critic_updates=CRITIC, credit_updates=CREDIT, memory_dim=4)
    make_trainer(6, StageSwitch(batch_size=2 * 25)).fit(module, data)  # two episodes of 25 steps at a time
    critic, expected = module.global_critic, []
    for first, behind in data.episode_bounds:
        state = torch.from_numpy(data.stream.state[first:behind]).unsqueeze(0)
        values = critic.target_value(state)[0].detach().numpy()
        steps = data.rewards[first : behind - 1] + critic.discount * values[1:] - values[:-1]
        expected.append(np.append(steps, 0.0))  # cut off: no successor of the last step was recorded
    np.testing.assert_allclose(data.advantages, np.concatenate(expected), atol=1e-5)
    credits = [module.credits(batch)[0] for batch in data.all_batches(2 * 25, whole_episodes=True)]
    served = next(iter(data.all_batches(125))).credits[:, 0]
    torch.testing.assert_close(served, torch.cat(credits), rtol=0, atol=1e-6)


def test_a_run_goes_on_where_advantages_cannot_be_stored(data: OfflineDataModule):
    data.derived_dir.parent.mkdir(parents=True, exist_ok=True)
    data.derived_dir.write_text("a file where a directory should be")
    module = make_module()
    with pytest.warns(UserWarning, match=r"could not be stored .*; set data.init_args.cache_dir elsewhere"):
        make_trainer(6).fit(module, data)
    assert module.stage == Stage.POLICY
    assert np.isfinite(data.advantages).all()


def test_algorithms_of_one_stage_are_left_alone(data: OfflineDataModule):
    module = BC(2, 1, 1, 2, True, hidden_dims=[4])
    make_trainer(3).fit(module, data)
    assert np.isnan(data.advantages).all()
    assert stage_name(module) == "train"
    check_stages(module, 1)


@pytest.mark.parametrize("updates", [1, CRITIC + CREDIT])
def test_a_run_without_policy_updates_is_refused(updates: int, data: OfflineDataModule):
    with pytest.raises(ValueError, match=rf"trainer.max_steps must be above {CRITIC + CREDIT}, got {updates}"):
        make_trainer(updates).fit(make_module(), data)
    check_stages(make_module(), CRITIC + CREDIT + 1)
    check_stages(make_module(credit="joint"), CRITIC + 1)
    check_stages(make_module(), -1)


def test_labels_nearly_all_alike_are_warned_about(data: OfflineDataModule):
    module = make_module(credit="joint", label="sign", label_threshold=-1e6)
    with pytest.warns(UserWarning, match=r"100.0% of the recorded actions are labelled good: labels nearly all alike"):
        make_trainer(6).fit(module, data)


def test_the_key_names_the_critic_and_the_data(data: OfflineDataModule):
    module = make_module()
    key = advantages_key(module, data)
    assert key == advantages_key(make_module(guidance_scale=7.0), data), "the policy's options do not matter"
    assert key != advantages_key(make_module(discount=0.5), data)
    for change in ({"reward_scale": 2.0}, {"first_episodes": 3}, {"top_return_fraction": 0.5}):
        other = OfflineDataModule("embedded/matrix/xor", root=data.root, **change)
        assert advantages_key(module, other) != key, change
    same = OfflineDataModule("embedded/matrix/xor", root=data.root, batch_size=5, validation_fraction=0.3, cache="disk")
    assert advantages_key(module, same) == key
    with torch.no_grad():
        next(module.global_critic.parameters()).add_(1e-6)
    assert advantages_key(module, data) != key


def test_the_summary_by_hand():
    numbers = summary(np.arange(101, dtype=np.float32), "advantage")
    assert numbers["value/stored_advantage_mean"] == 50.0
    assert [numbers[f"value/stored_advantage_q{level}"] for level in ("05", "25", "50", "75", "95")] == [
        5,
        25,
        50,
        75,
        95,
    ]
    assert numbers["value/stored_advantage_std"] == pytest.approx(np.sqrt((101**2 - 1) / 12))


def test_the_positive_share_is_that_of_the_labels():
    values = np.array([-3, -1, 1, 3], np.float32)
    module = make_module(label="sign", label_threshold=2.0)
    module.signal_std.fill_(1.0)
    assert positive_share(module, values) == 0.25


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"least_share": 0.5}, r"least_share must be in \[0, 0.5\), got 0.5"),
        ({"check_steps": 0}, "check_steps at least 1, got 100 and 0"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        StageSwitch(**options)
