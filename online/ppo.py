"""Trains a team online by PPO, to record datasets from: ``python -m online.ppo mamujoco/2halfcheetah --seed 0``.

Proximal policy optimisation (Schulman et al., 2017, arXiv:1707.06347) with one actor for all agents and one value of
the team from the global state, as in MAPPO (Yu et al., 2022, arXiv:2103.01955). The loss over a minibatch is

    - mean over agents of min(ratio * A, clip(ratio, 1 - clipping, 1 + clipping) * A)
    + 1/2 * mean of (value - target)^2  -  entropy_weight * mean entropy

with one advantage A per step of the team, standardised over the batch. Agents with a single legal action decide nothing
and are left out. The learning rate and the entropy's weight fall linearly to zero.

Checkpoints with evaluation results go into a directory; :mod:`online.stages` picks from them.

Differences from MAPPO:
    - Advantages are the team's: nothing is specific to an agent but its own ratio.
    - The value's loss is not clipped, and no recurrent networks are used.
    - Copies play episodes in step. Once nine in ten copies have finished, the others are abandoned (their values stand
      in for what would have come) and all start anew.
"""

import importlib.metadata
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from environments.learned import LearnedTeam, TeamNetwork, write_team
from environments.registry import make_vector_env
from environments.vector import VectorEnv, VectorStep
from online.advantages import generalised_advantages
from online.networks import Activation, Actor, Critic

ENOUGH = 0.9  # share of finished copies at which all start anew
_PACKAGES = ("torch", "numpy", "jax", "jaxmarl", "mpe2", "gymnasium", "gymnasium-robotics", "mujoco", "safetensors")


@dataclass(frozen=True)
class Settings:
    """How a team is trained.

    Attributes:
        scenario: What is played, such as smax/3m.
        seed: Decides the networks' beginnings, the episodes and the choices.
        steps: Steps of the environment in all, over all copies.
        copies: Episodes played at the same time.
        horizon: Steps of each copy between updates.
        epochs: How often each batch is gone through.
        minibatches: Into how many parts.
        learning_rate: At the beginning.
        discount: Of rewards to come.
        trace: Lambda of the generalised advantages.
        clipping: How far the ratio may go from 1.
        entropy_weight: Weight of the entropy at the beginning; keeps teams from settling too early.
        max_norm: Gradients longer than this are shortened to it, per minibatch.
        hidden_dims: Widths of the hidden layers of actor and critic.
        activation: Between the layers.
        standardise: Standardise observations and states by what was seen so far.
        checkpoints: How many checkpoints; one more comes before the first update.
        spacing: Checkpoint k of K comes after steps * (k / K) ** spacing: 1 for even distances, more for short ones in
            the beginning, where learning is quickest.
        evaluation_episodes: Episodes that each checkpoint plays; rounded up to a multiple of the copies.
        out: Directory of the checkpoints; by default runs/online/<scenario>.
    """

    scenario: str
    seed: int = 0
    steps: int = 1_000_000
    copies: int = 32
    horizon: int = 128
    epochs: int = 5
    minibatches: int = 8
    learning_rate: float = 5e-4
    discount: float = 0.99
    trace: float = 0.95
    clipping: float = 0.2
    entropy_weight: float = 0.0
    max_norm: float = 0.5
    hidden_dims: tuple[int, ...] = (128, 128)
    activation: Activation = "tanh"
    standardise: bool = False
    checkpoints: int = 20
    spacing: float = 1.0
    evaluation_episodes: int = 256
    out: Path | None = None


class Batch(NamedTuple):
    """Steps of the team, in a row.

    Attributes:
        obs: (M, N, O).
        state: (M, S).
        legal_actions: (M, N, A) bool.
        actions: (M, N) or (M, N, A), before clipping.
        log_probs: (M, N), when they were taken.
        advantages: (M,), in units of the reward.
        targets: Of the value, (M,), in units of the reward.
    """

    obs: Tensor
    state: Tensor
    legal_actions: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    targets: Tensor


class Result(NamedTuple):
    """What evaluation episodes gave.

    Attributes:
        episodes: Their number.
        return_mean: Mean return.
        return_std: Standard deviation of the return.
        won: Share of episodes won; None where there is nothing to win.
    """

    episodes: int
    return_mean: float
    return_std: float
    won: float | None


class Training:
    """A team, its value and its optimiser, with the copies they learn in.

    Args:
        settings: How to train.
        env: The copies.
    """

    def __init__(self, settings: Settings, env: VectorEnv) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.env = settings, env
        self.actor = Actor(env, settings.hidden_dims, settings.activation, settings.standardise)
        self.critic = Critic(env, settings.hidden_dims, settings.activation, settings.standardise)
        self.parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, settings.learning_rate, eps=1e-5, fused=True)
        self.generator = np.random.default_rng(settings.seed)
        self.steps = self.updates = 0
        self.left = 1.0  # share of the training that lies ahead
        self._shown: VectorStep | None = None

    def update(self) -> None:
        """Play one batch and learn from it."""
        self.left = max(1.0 - self.steps / self.settings.steps, 0.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self.left
        batch = self.play()
        advantages = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
        batch = batch._replace(advantages=advantages)
        self.critic.returns.see(batch.targets.unsqueeze(-1))
        for _ in range(self.settings.epochs):
            for part in torch.randperm(len(batch.targets)).chunk(self.settings.minibatches):
                loss = self.loss(Batch._make(field[part] for field in batch))
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.parameters, self.settings.max_norm)
                self.optimizer.step()
        if self.settings.standardise:  # only now: within an update, log_probs and ratios need the same units
            self.actor.moments.see(batch.obs.flatten(0, 1))
            self.critic.moments.see(batch.state)
        self.updates += 1

    def loss(self, batch: Batch) -> Tensor:
        """The loss of this file's docstring.

        Args:
            batch: Some steps, with advantages standardised.

        Returns:
            ().
        """
        distribution = self.actor.distribution(batch.obs, batch.legal_actions)
        ratio = (distribution.log_prob(batch.actions) - batch.log_probs).exp()  # (M, N)
        advantages = batch.advantages.unsqueeze(-1)
        clipped = ratio.clamp(1.0 - self.settings.clipping, 1.0 + self.settings.clipping)
        gain = torch.minimum(ratio * advantages, clipped * advantages)
        decides = torch.ones_like(ratio)
        if self.actor.discrete:
            decides = (batch.legal_actions.sum(dim=-1) > 1).to(ratio.dtype)
        gain = gain + self.settings.entropy_weight * self.left * distribution.entropy()
        returns = self.critic.returns
        error = self.critic(batch.state) - (batch.targets - returns.mean) / returns.scale
        loss: Tensor = 0.5 * (error**2).mean() - (gain * decides).sum() / decides.sum().clamp(min=1.0)
        return loss

    @torch.no_grad()
    def play(self) -> Batch:
        """Go on in all copies, by ``horizon`` steps or until nearly all have finished."""
        shown = self._shown
        if shown is None or shown.finished.mean() >= ENOUGH:
            shown = self.env.reset(self.generator.integers(2**32, size=self.env.n_envs).tolist())
        stack = []
        states = [torch.from_numpy(shown.state)]
        for _ in range(self.settings.horizon):
            obs, legal = torch.from_numpy(shown.obs), torch.from_numpy(shown.legal_actions)
            distribution = self.actor.distribution(obs, legal)
            actions = distribution.sample()
            after = self.env.step((actions if self.env.discrete else actions.clamp(-1.0, 1.0)).numpy())
            played, ended = torch.from_numpy(~shown.finished), torch.from_numpy(after.finished & ~shown.finished)
            terminal = ended & torch.from_numpy(after.terminals)
            log_probs = distribution.log_prob(actions)
            rewards = torch.from_numpy(after.rewards)
            stack.append((obs, states[-1], legal, actions, log_probs, rewards, terminal, ended, played))
            states.append(torch.from_numpy(after.state))
            shown = after
            if shown.finished.mean() >= ENOUGH:
                break
        self._shown = shown
        obs, state, legal, actions, log_probs, rewards, terminal, ended, played = map(
            torch.stack, zip(*stack, strict=True)
        )
        values = self.critic.values(torch.stack(states))  # (T + 1, E)
        advantages = generalised_advantages(
            rewards, values, terminal, ended, self.settings.discount, self.settings.trace
        )
        fields = (obs, state, legal, actions, log_probs, advantages, advantages + values[:-1])
        batch = Batch._make(field[played] for field in fields)
        self.steps += len(batch.targets)
        return batch

    def evaluate(self, episodes: int) -> Result:
        """Play whole episodes as the checkpoint will: in NumPy, with drawn actions, from starts of their own.

        Args:
            episodes: How many at least.
        """
        self._shown = None  # the copies are needed
        return evaluate(self.env, self.actor.in_numpy(), episodes, seed=self.settings.seed + 1)


def evaluate(env: VectorEnv, network: TeamNetwork, episodes: int, seed: int, mode: bool = False) -> Result:
    """Play whole episodes.

    Args:
        env: Copies to play in.
        network: Who decides.
        episodes: How many at least: whole rounds of all copies are played.
        seed: Of the starts and the choices.
        mode: Take the likeliest actions instead of drawing them.

    Returns:
        Returns and battles won; episodes that were lost to failures of the simulator do not count.
    """
    generator = np.random.default_rng(seed)
    team = LearnedTeam(network, mode)
    returns, won = [], []
    for _ in range(-(-episodes // env.n_envs)):
        shown = env.reset(generator.integers(2**32, size=env.n_envs).tolist())
        total = np.zeros(env.n_envs)
        while not shown.finished.all():
            shown = env.step(team.act(shown, generator))
            total += shown.rewards
        counts = ~np.broadcast_to(shown.lost, total.shape)
        returns.append(total[counts])
        won.append(shown.won[counts])
    all_returns = np.concatenate(returns)
    share = float(np.concatenate(won).mean()) if env.can_be_won else None
    return Result(len(all_returns), float(all_returns.mean()), float(all_returns.std()), share)


def train(settings: Settings) -> Iterator[Path]:
    """Train a team, and write a checkpoint before the first update and as the settings say.

    Args:
        settings: How.

    Yields:
        Each checkpoint, ``<out>/<steps>.safetensors``, once it is written.

    Raises:
        ValueError: If there is no such scenario, or a setting is out of range.
        ImportError: If the simulator is not installed.
    """
    if min(settings.steps, settings.copies, settings.horizon, settings.checkpoints) < 1:
        raise ValueError(f"expected steps, copies, horizon and checkpoints of at least 1, got {settings}")
    out = settings.out or Path("runs/online") / settings.scenario
    env = make_vector_env(settings.scenario, settings.copies)
    try:
        training = Training(settings, env)
        started = time.monotonic()
        for due in (settings.steps * np.linspace(0.0, 1.0, settings.checkpoints + 1) ** settings.spacing).tolist():
            while training.steps < due:
                training.update()
            result = training.evaluate(settings.evaluation_episodes)
            path = out / f"{training.steps:010d}.safetensors"
            write_team(path, training.actor.in_numpy(), _facts(training, result, time.monotonic() - started))
            print(f"{path}: {time.monotonic() - started:.0f} s, {training.updates} updates, {result}", flush=True)
            yield path
    finally:
        env.close()


def _facts(training: Training, result: Result, seconds: float) -> dict[str, object]:
    """What a checkpoint says about itself."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": f"python -m online.ppo {shlex.join(sys.argv[1:])}",
        "seed": training.settings.seed,
        "updates": training.updates,
        "environment_steps": training.steps,
        "seconds": round(seconds),
        "evaluation": result._asdict(),
        "versions": versions,
    }


if __name__ == "__main__":
    for _ in train(auto_cli(Settings, as_positional=True)):
        pass
