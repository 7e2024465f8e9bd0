"""What all algorithms share: a sum of losses, one optimiser, lagged copies, logging."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from datamodules.batch import TeamBatch
from lightning_modules.networks.encoders import EncoderKind
from lightning_modules.networks.policies import Policy, StandardisedPolicy
from lightning_modules.networks.targets import polyak_update
from lightning_modules.networks.team_shape import TeamShape

_SEED_STRIDE = 1_000_003  # prime: neighbouring seeds do not share update seeds


class TargetPair(NamedTuple):
    """A network, its lagged copy and the rate at which the copy follows."""

    source: nn.Module
    target: nn.Module
    rate: float


class OfflineModule(LightningModule):
    """An offline algorithm: ``losses`` says what is minimised, ``policy`` what acts.

    The losses are summed and differentiated once; terms that must not move each other's networks are detached where
    they are computed, so one Adam with a parameter group per network equals separate optimisers. Randomness comes
    from a generator seeded by (seed, update), so a resumed run draws what an uninterrupted one would have drawn.
    Networks are built from ``shape``: the sizes and the memory below.

    Args:
        n_agents: Number of agents N; linked from the data.
        obs_dim: Observation size O; linked from the data.
        state_dim: Global state size S; linked from the data.
        action_dim: Number of actions, or size of the action vector A; linked from the data.
        discrete: Whether actions are choices; linked from the data.
        standardise: Whether networks see observations and states with mean 0 and standard deviation 1 in each entry,
            as measured over the training steps; the numbers are part of the checkpoint.
        encoder: Whether agents' networks see the present observation (``mlp``) or remember (``gru``). Sequences of
            training are as long as ``data.window``; when acting, the memory begins with the episode.
        memory_dim: Size of the memory.

    Raises:
        ValueError: If ``memory_dim`` is below 1.
    """

    obs_mean: Tensor
    obs_std: Tensor
    state_mean: Tensor
    state_std: Tensor

    def __init__(
        self,
        n_agents: int,
        obs_dim: int,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        standardise: bool = False,
        encoder: EncoderKind = "mlp",
        memory_dim: int = 64,
    ) -> None:
        super().__init__()
        require(memory_dim >= 1, "memory_dim", "at least 1", memory_dim)
        self.shape = TeamShape(n_agents, obs_dim, state_dim, action_dim, discrete, encoder, memory_dim)
        self.n_agents, self.action_dim, self.discrete = n_agents, action_dim, discrete
        self.standardise = standardise
        if standardise:
            for name, size in (("obs", obs_dim), ("state", state_dim)):
                self.register_buffer(f"{name}_mean", torch.zeros(size))
                self.register_buffer(f"{name}_std", torch.ones(size))

    @property
    def recurrent(self) -> bool:
        """Whether agents remember, so that whoever labels or predicts recorded steps has to serve whole episodes."""
        return self.shape.encoder == "gru"

    @abstractmethod
    def losses(self, batch: TeamBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Named scalar losses of a batch; their sum is minimised. All randomness comes from ``generator``."""

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """The acting policy as it is now."""

    @abstractmethod
    def parameter_groups(self) -> Sequence[dict[str, Any]]:
        """Adam's parameter groups, each a dict with ``params`` and ``lr``."""

    def target_pairs(self) -> Sequence[TargetPair]:
        """Networks whose lagged copies move after every update."""
        return ()

    def evaluation_policies(self) -> Mapping[str, Policy]:
        """Policies compared in the table at the end, by the name of their row."""
        return {"policy": self.policy}

    def diagnostics(self, batch: TeamBatch) -> dict[str, Tensor]:
        """Further scalars for the validation log; no gradients."""
        return {}

    def for_environment(self, policy: Policy) -> Policy:
        """The policy for observations as an environment gives them; ``policy`` itself expects those of batches.

        Args:
            policy: One of this module's.

        Returns:
            The same, or if ``standardise`` one that standardises first. It needs neither Lightning nor the dataset.
        """
        return StandardisedPolicy(policy, self.obs_mean, self.obs_std) if self.standardise else policy

    def setup(self, stage: str) -> None:
        """Measures the data before training, if ``standardise``; later stages and resumed runs have the checkpoint's.

        Raises:
            ValueError: If there is no datamodule that could be measured.
        """
        if stage != "fit" or not self.standardise:
            return
        data: Any = getattr(self.trainer, "datamodule", None)
        if not hasattr(data, "observation_scaling"):
            raise ValueError(
                f"standardise needs a datamodule with observation_scaling and state_scaling, got "
                f"{type(data).__name__}; pass an OfflineDataModule to the trainer"
            )
        for name, scaling in (("obs", data.observation_scaling), ("state", data.state_scaling)):
            getattr(self, f"{name}_mean").copy_(torch.from_numpy(scaling.mean))
            getattr(self, f"{name}_std").copy_(torch.from_numpy(scaling.std))

    def prepared(self, batch: TeamBatch) -> TeamBatch:
        """A recorded batch as the networks expect it: on the module's device and, if ``standardise``, standardised.

        The steps below do this to what Lightning hands them; whoever iterates over data himself has to.
        """
        # Not in Lightning's hooks for batches, because it warns where a module has these beside a datamodule
        batch = self.transfer_batch_to_device(batch, self.device, 0)
        if not self.standardise:
            return batch
        obs, state = (batch.obs - self.obs_mean) / self.obs_std, (batch.state - self.state_mean) / self.state_std
        return batch._replace(obs=obs, state=state)

    def training_step(self, batch: TeamBatch, batch_idx: int) -> Tensor:
        """Sum of the losses; each is logged as ``train/<name>_loss``."""
        losses = self.losses(self.prepared(batch), self.update_generator())
        self.log_dict({f"train/{name}_loss": value.detach() for name, value in losses.items()})
        return torch.stack(list(losses.values())).sum()

    def validation_step(self, batch: TeamBatch, batch_idx: int) -> None:
        """Losses and diagnostics of held-out episodes, with the same draws at every validation."""
        batch = self.prepared(batch)
        generator = torch.Generator(self.device).manual_seed(batch_idx)
        rows = int(batch.valid[:, 0].sum())
        losses = {f"val/{name}_loss": value for name, value in self.losses(batch, generator).items()}
        self.log_dict(losses, batch_size=rows)
        self.log_dict({f"value/{name}": value for name, value in self.diagnostics(batch).items()}, batch_size=rows)

    def test_step(self, batch: TeamBatch, batch_idx: int) -> None:
        """The same numbers as validation; the rollouts of ``RolloutEvaluation`` come on top."""
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: TeamBatch, batch_idx: int) -> Tensor:
        """The policy's actions at the recorded observations, one row per valid learning step: (M, N) or (M, N, A)."""
        batch = self.prepared(batch)
        generator = torch.Generator(self.device).manual_seed(batch_idx)
        policy, steps = self.policy, []
        state = policy.initial_state(len(batch.obs))
        for step in range(batch.obs.shape[1] - 1 if self.recurrent else 1):
            actions, state = policy.act(batch.obs[:, step], batch.legal_actions[:, step], state, generator)
            steps.append(actions)
        return torch.stack(steps, dim=1)[batch.valid[:, : len(steps)]]

    def update_generator(self) -> torch.Generator:
        """Randomness of the current update, from the run's seed and the number of updates done."""
        seed = torch.initial_seed() % 2**31
        return torch.Generator(self.device).manual_seed(seed * _SEED_STRIDE + self.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One Adam over all parameter groups."""
        return torch.optim.Adam(self.parameter_groups(), fused=True)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Adam's step, then the lagged copies follow: after the step, once per step."""
        super().optimizer_step(*args, **kwargs)
        for source, target, rate in self.target_pairs():
            polyak_update(source, target, rate)


def parameter_group(rate: float, *networks: nn.Module) -> dict[str, Any]:
    """One of Adam's parameter groups: what the networks train, at one step size."""
    return {"params": [p for network in networks for p in network.parameters() if p.requires_grad], "lr": rate}


def require(holds: bool, name: str, expected: str, got: object) -> None:
    """Refuses an impossible option before anything runs.

    Raises:
        ValueError: If ``holds`` is false.
    """
    if not holds:
        raise ValueError(
            f"{name} must be {expected}, got {got!r}; change it under model.init_args in the configuration"
        )


def require_targets(discount: float, trace_decay: float = 0.0, **rates: float) -> None:
    """Refuses impossible options of temporal-difference targets.

    Args:
        discount: γ in [0, 1].
        trace_decay: λ in [0, 1].
        **rates: Rates in (0, 1] at which target networks follow, by the names of their options.

    Raises:
        ValueError: If one is outside its range.
    """
    require(0 <= discount <= 1, "discount", "in [0, 1]", discount)
    require(0 <= trace_decay <= 1, "trace_decay", "in [0, 1]", trace_decay)
    for name, rate in rates.items():
        require(0 < rate <= 1, name, "in (0, 1]", rate)
