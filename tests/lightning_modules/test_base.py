import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

from datamodules.normalisation import Standardisation
from lightning_modules.base import OfflineModule, TargetPair
from lightning_modules.bc import BC
from lightning_modules.networks.policies import ActionHead, HeadPolicy
from lightning_modules.networks.targets import target_copy
from tests.lightning_modules.batches import DIMS, STATE_DIM, generator, random_batch

pytestmark = pytest.mark.filterwarnings(
    "ignore:You defined a `validation_step`", "ignore:.*LeafSpec", "ignore:You're resuming from a checkpoint"
)
RATE = 0.25
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class TwoNetworks(OfflineModule):
    """Regresses rewards with one network and, from the first one's detached answer, its negative with another."""

    def __init__(self, discrete=True):
        super().__init__(**DIMS, discrete=discrete)
        self.first, self.second = nn.Linear(STATE_DIM, 1), nn.Linear(STATE_DIM + 1, 1)
        self.target = target_copy(self.first)
        self.head = ActionHead(self.shape, (8,))
        self.draws = []

    def losses(self, batch, generator):
        self.draws.append(torch.rand((), generator=generator).item())
        state, rewards = batch.state[:, 0], batch.rewards[:, 0]
        answer = self.first(state)
        opposite = self.second(torch.cat([state, answer.detach()], dim=-1))
        return {
            "first": (answer.squeeze(-1) - rewards).square().mean(),
            "second": 3 * (opposite.squeeze(-1) + rewards).square().mean(),
        }

    @property
    def policy(self):
        return HeadPolicy(self.head)

    def parameter_groups(self):
        return ({"params": list(self.first.parameters()), "lr": 1e-2}, {"params": self.second.parameters(), "lr": 3e-2})

    def target_pairs(self):
        return (TargetPair(self.first, self.target, RATE),)

    def diagnostics(self, batch):
        return {"reward_mean": batch.rewards.mean()}


def fit(module, updates, batch=None, **options):
    """Full-batch updates under Lightning."""
    batch = random_batch(dtype=torch.float32) if batch is None else batch
    trainer = Trainer(max_steps=updates, max_epochs=-1, **QUIET, **options)
    trainer.fit(module, DataLoader([batch] * 6, batch_size=None))
    return trainer


@pytest.fixture
def module():
    torch.manual_seed(0)
    return TwoNetworks()


def test_one_adam_with_groups_equals_separate_adams(module):
    first, second = copy.deepcopy(module), copy.deepcopy(module)
    optimizers = [torch.optim.Adam(first.first.parameters(), 1e-2), torch.optim.Adam(second.second.parameters(), 3e-2)]
    batch, updates = random_batch(dtype=torch.float32), 50
    fit(module, updates, batch)
    for _ in range(updates):
        # The second network's input is the first one's answer of the same update.
        second.first.load_state_dict(first.first.state_dict())
        for copied, optimizer, name in zip((first, second), optimizers, ("first", "second"), strict=True):
            optimizer.zero_grad()
            copied.losses(batch, generator())[name].backward()
        for optimizer in optimizers:
            optimizer.step()
    for ours, alone in ((module.first, first.first), (module.second, second.second)):
        for a, b in zip(ours.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_the_copy_follows_after_the_step_and_once_per_step(module):
    weights = [module.first.weight.detach().clone()]
    optimizer_step = module.optimizer_step

    def watched(*args, **kwargs):
        before = module.target.weight.clone()
        optimizer_step(*args, **kwargs)
        weights.append(module.first.weight.detach().clone())
        # Towards the weights that this very step produced, not those it started from.
        torch.testing.assert_close(module.target.weight, before + RATE * (weights[-1] - before), rtol=0, atol=1e-7)

    module.optimizer_step = watched
    fit(module, 3)
    assert len(weights) == 4 and not any(torch.equal(a, b) for a, b in pairwise(weights))
    covered = sum(RATE * (1 - RATE) ** (3 - k) * weights[k] for k in (1, 2, 3)) + (1 - RATE) ** 3 * weights[0]
    torch.testing.assert_close(module.target.weight, covered, rtol=0, atol=1e-6)


def test_with_accumulated_gradients_the_copy_follows_once_per_step(module):
    steps = []
    optimizer_step = module.optimizer_step
    module.optimizer_step = lambda *args, **kwargs: (steps.append(module.global_step), optimizer_step(*args, **kwargs))
    fit(module, 2, accumulate_grad_batches=3)
    assert steps == [0, 1] and len(module.draws) == 6


def draw(seed, step):
    module = TwoNetworks()
    torch.manual_seed(seed)
    torch.rand(7)  # how far the global generator has moved plays no part
    module.__class__ = type("AtStep", (TwoNetworks,), {"global_step": step})
    return torch.rand(4, generator=module.update_generator()).tolist()


def test_an_updates_randomness_depends_on_seed_and_update_only():
    assert draw(3, 10) == draw(3, 10)
    torch.manual_seed(99)
    torch.rand(100)
    assert draw(3, 10) == draw(3, 10)
    numbers = [tuple(draw(seed, step)) for seed in (0, 1, 2, 1234567890) for step in (0, 1, 2, 100_000)]
    assert len(set(numbers)) == len(numbers)


def test_a_resumed_run_draws_what_an_uninterrupted_one_would_have_drawn(module, tmp_path):
    seed_everything(5)
    whole = fit(module, 6)
    seed_everything(5)
    fit(TwoNetworks(), 4).save_checkpoint(tmp_path / "after-four.ckpt")
    later = TwoNetworks()
    seed_everything(5)
    trainer = Trainer(max_steps=6, max_epochs=-1, **QUIET)
    loader = DataLoader([random_batch(dtype=torch.float32)] * 6, batch_size=None)
    trainer.fit(later, loader, ckpt_path=tmp_path / "after-four.ckpt", weights_only=True)
    assert trainer.global_step == whole.global_step == 6
    assert len(set(module.draws)) == 6 and later.draws == module.draws[4:]


def test_training_minimises_and_logs_the_sum(module):
    batch = random_batch(dtype=torch.float32)
    losses = module.losses(batch, generator())
    logged = {}
    module.log_dict = lambda values, **_: logged.update(values)
    total = module.training_step(batch, 0)
    torch.testing.assert_close(total, losses["first"] + losses["second"])
    assert set(logged) == {"train/first_loss", "train/second_loss"}
    assert not any(value.requires_grad for value in logged.values())
    torch.testing.assert_close(logged["train/second_loss"], losses["second"].detach())


@pytest.mark.parametrize("step", ["validation_step", "test_step"])
def test_validation_draws_the_same_numbers_every_time_and_weights_by_recorded_steps(module, step):
    batch, logged = random_batch(dtype=torch.float32), []
    batch.valid[0] = False
    module.log_dict = lambda values, batch_size: logged.append((values, batch_size))
    for batch_idx in (0, 0, 1):
        torch.rand(3)
        getattr(module, step)(batch, batch_idx)
    assert module.draws[0] == module.draws[1] != module.draws[2]
    assert set(logged[0][0]) == {"val/first_loss", "val/second_loss"} and set(logged[1][0]) == {"value/reward_mean"}
    assert {size for _, size in logged} == {len(batch.valid) - 1}


@pytest.mark.parametrize("discrete", [True, False])
def test_prediction_is_the_policys_action_at_the_recorded_observation(discrete):
    torch.manual_seed(0)
    module, batch = TwoNetworks(discrete), random_batch(discrete, dtype=torch.float32)
    expected, _ = module.policy.act(batch.obs[:, 0], batch.legal_actions[:, 0], None, generator(4))
    assert torch.equal(module.predict_step(batch, 4), expected)


def test_prediction_of_an_agent_with_memory_goes_through_the_episode():
    torch.manual_seed(0)
    module = BC(**DIMS, discrete=True, hidden_dims=(8,), encoder="gru", memory_dim=4)
    batch = random_batch(True, window=4, dtype=torch.float32)
    draws, steps = generator(4), []
    memory = module.policy.initial_state(len(batch.obs))
    for step in range(3):  # the last position of a window is not a learning step
        actions, memory = module.policy.act(batch.obs[:, step], batch.legal_actions[:, step], memory, draws)
        steps.append(actions)
    expected = [steps[t][b] for b in range(len(batch.obs)) for t in range(3) if batch.valid[b, t]]
    assert torch.equal(module.predict_step(batch, 4), torch.stack(expected))


def test_what_a_module_may_leave_out(module):
    assert OfflineModule.target_pairs(module) == ()
    assert OfflineModule.diagnostics(module, random_batch()) == {}
    assert set(module.evaluation_policies()) == {"policy"}


# Standardised observations


class Measured(LightningDataModule):
    """One batch, and what would have been measured over a dataset."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch
        generator = np.random.default_rng(0)
        sizes = (("observation", batch.obs.shape[-1]), ("state", batch.state.shape[-1]))
        for name, size in sizes:
            mean, std = generator.normal(size=size), generator.uniform(1, 9, size)
            setattr(self, f"{name}_scaling", Standardisation(mean.astype(np.float32), std.astype(np.float32)))

    def train_dataloader(self):
        return DataLoader([self.batch] * 6, batch_size=None)

    def predict_dataloader(self):
        return DataLoader([self.batch], batch_size=None)

    def standardised(self):
        obs, state = self.observation_scaling, self.state_scaling
        return self.batch._replace(
            obs=torch.from_numpy(obs.transform(self.batch.obs.numpy())),
            state=torch.from_numpy(state.transform(self.batch.state.numpy())),
        )


def make_bc(standardise):
    torch.manual_seed(0)
    return BC(**DIMS, discrete=True, hidden_dims=(8,), steps_per_update=None, standardise=standardise)


def trained(module, batch_or_data):
    trainer = Trainer(max_steps=5, max_epochs=-1, **QUIET)
    seed_everything(3)
    if isinstance(batch_or_data, Measured):
        trainer.fit(module, datamodule=batch_or_data)
    else:
        trainer.fit(module, DataLoader([batch_or_data] * 6, batch_size=None))
    return trainer


def test_training_on_standardised_batches_is_training_on_standardised_data(tmp_path):
    data = Measured(random_batch(dtype=torch.float32))
    inside, outside = make_bc(True), make_bc(False)
    trainer = trained(inside, data)
    trained(outside, data.standardised())
    for ours, theirs in zip(inside.parameters(), outside.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)

    batch, plain = data.batch, data.standardised()
    raw = (batch.obs[:, 0], batch.legal_actions[:, 0], None)
    expected, _ = outside.policy.act(plain.obs[:, 0], *raw[1:], generator=generator())
    acting = inside.for_environment(inside.policy)
    assert torch.equal(acting.act(*raw, generator=generator())[0], expected)
    assert acting.network_calls == 1
    assert outside.for_environment(outside.policy) == outside.policy
    (predicted,) = trainer.predict(inside, datamodule=data)
    same, _ = outside.policy.act(plain.obs[:, 0], *raw[1:], generator=torch.Generator().manual_seed(0))
    assert torch.equal(predicted, same)

    trainer.save_checkpoint(tmp_path / "x.ckpt")
    loaded = BC.load_from_checkpoint(tmp_path / "x.ckpt", weights_only=True)  # no dataset anywhere
    assert torch.equal(loaded.for_environment(loaded.policy).act(*raw, generator=generator())[0], expected)


def test_the_checkpoints_measure_survives_other_data(tmp_path):
    data = Measured(random_batch(dtype=torch.float32))
    module = make_bc(True)
    trained(module, data).save_checkpoint(tmp_path / "x.ckpt")
    other = Measured(data.batch)
    other.observation_scaling = Standardisation(
        np.zeros_like(data.observation_scaling.mean), other.observation_scaling.std
    )
    again = make_bc(True)
    Trainer(**QUIET).predict(again, datamodule=other, ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    assert torch.equal(again.obs_mean, torch.from_numpy(data.observation_scaling.mean))


def test_standardising_needs_something_to_measure():
    with pytest.raises(ValueError, match=r"standardise needs a datamodule with observation_scaling .*, got NoneType"):
        trained(make_bc(True), random_batch(dtype=torch.float32))
