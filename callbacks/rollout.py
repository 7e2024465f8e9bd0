"""Policies played in the simulator: while training, for the curve; at the end, for the table."""

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from callbacks.evaluation_mode import evaluating
from callbacks.log_now import log_now
from callbacks.run_directory import directory_of, is_trial, written_whole
from callbacks.stages import stage_name
from environments.registry import make_vector_env
from environments.vector import VectorEnv
from lightning_modules.base import OfflineModule
from lightning_modules.networks.policies import Policy

PLAYABLE = ("train", "policy")  # stages in which there is a policy worth playing


@dataclass(frozen=True)
class Episodes:
    """Finished episodes of one policy.

    Attributes:
        returns: Sum of the team's rewards per episode, (E,).
        won: Whether the episode was won; never in environments without a notion of winning, (E,).
        lengths: Steps per episode, (E,).
        milliseconds: Median duration of one call of ``policy.act``, which decides for all agents of all copies.
        network_calls: Forward passes of the network per such call.
    """

    returns: NDArray[np.float64]
    won: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    milliseconds: float
    network_calls: int

    @property
    def return_error(self) -> float:
        """Standard error of the mean return."""
        return float(self.returns.std(ddof=1) / np.sqrt(len(self.returns))) if len(self.returns) > 1 else float("nan")


def play(policy: Policy, env: VectorEnv, seeds: Sequence[int], device: torch.device) -> Episodes:
    """Plays one episode per seed, as many at a time as the environment has copies, one decision for all at once.

    Args:
        policy: Who acts.
        env: Copies of the environment.
        seeds: Start of each episode; equal seeds give equal starts.
        device: Where the policy's network is.

    Returns:
        The episodes in the order of the seeds. The policy's randomness comes from a generator seeded by the first
        seed of each round, so the result depends on nothing but policy, environment and seeds.
    """
    rounds = [_play_round(policy, env, seeds[i : i + env.n_envs], device) for i in range(0, len(seeds), env.n_envs)]
    returns, won, lengths = (np.concatenate(parts) for parts in list(zip(*rounds, strict=True))[:3])
    seconds = np.concatenate([parts[3] for parts in rounds])
    return Episodes(returns, won, lengths, 1e3 * float(np.median(seconds)), policy.network_calls)


def _play_round(
    policy: Policy, env: VectorEnv, seeds: Sequence[int], device: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64]]:
    """Returns, won and lengths of up to E episodes, and the duration of each decision in seconds."""
    wanted = len(seeds)
    step = env.reset([*seeds, *[seeds[-1]] * (env.n_envs - wanted)])  # surplus copies repeat the last start
    generator = torch.Generator(device).manual_seed(seeds[0])
    memory = policy.initial_state(env.n_envs)
    returns, lengths = np.zeros(env.n_envs), np.zeros(env.n_envs, dtype=np.int64)
    seconds = []
    while not step.finished[:wanted].all():
        obs = torch.from_numpy(step.obs).to(device)
        legal = torch.from_numpy(step.legal_actions).to(device)
        began = time.perf_counter()
        actions, memory = policy.act(obs, legal, memory, generator)
        chosen = actions.cpu().numpy()  # waits for the device
        seconds.append(time.perf_counter() - began)
        lengths += ~step.finished
        step = env.step(chosen)
        returns += step.rewards  # 0 from finished copies
    return returns[:wanted], np.asarray(step.won, dtype=bool)[:wanted], lengths[:wanted], np.array(seconds)


class RolloutEvaluation(Callback):
    """Plays the policy in the simulator that the data was recorded in.

    While training, every ``every_n_updates`` updates ``episodes`` episodes from always the same starts are logged as
    ``eval/return_mean``, ``eval/return_std``, ``eval/win_rate`` (where episodes can be won), ``eval/episode_length``,
    ``eval/ms_per_decision`` (one call of the policy, which decides for all agents of all copies) and ``eval/best``,
    the highest mean return so far, whose weights are kept in ``checkpoints/best.ckpt``. Algorithms of two stages are
    played from their policy's stage on.

    At the end, and for ``lightning test``, all of the module's ``evaluation_policies`` play ``final_episodes``
    episodes; the table is printed, logged and written to ``evaluation.csv`` in the run's directory. Training is not
    disturbed: own random generators, no gradients, modes restored.

    Args:
        episodes: Episodes of a rollout while training, all played at the same time.
        every_n_updates: Updates between two rollouts while training; 0 plays at the end only.
        final_episodes: Episodes per row of the table.
        seed: First start; episode k starts from seed + k. Keep it away from the seeds of the recording.
        environment: Scenario to play, for example ``smax/3m``; by default the one that the data was recorded in.

    Raises:
        ValueError: If a number is out of its range, or, when a run begins, if the environment does not fit the module.
        ImportError: When a run begins, if the simulator is not installed.
    """

    def __init__(
        self,
        episodes: int = 64,
        every_n_updates: int = 2000,
        final_episodes: int = 256,
        seed: int = 1_000_000,
        environment: str | None = None,
    ) -> None:
        for name, value, least in (
            ("episodes", episodes, 1),
            ("every_n_updates", every_n_updates, 0),
            ("final_episodes", final_episodes, 1),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(
                    f"RolloutEvaluation.{name} must be at least {least}, got {value}; change it under "
                    "trainer.callbacks in the configuration"
                )
        self.episodes = episodes
        self.every_n_updates = every_n_updates
        self.final_episodes = final_episodes
        self.seed = seed
        self.environment = environment
        self.best = float("-inf")
        self._env: VectorEnv | None = None
        self._seconds: dict[str, float] = {}
        self._updates: dict[str, int] = {}
        self._began = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Opens the environment, so that a missing simulator or another map is known before training."""
        if stage not in ("fit", "test") or self._env is not None:
            return
        scenario = self.environment or trainer.datamodule.scenario  # type: ignore[attr-defined]
        self._env = make_vector_env(scenario, self._at_once(trainer))
        check_fits(scenario, self._env, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def state_dict(self) -> dict[str, Any]:
        """Best return and update times, so that a resumed run goes on with them."""
        return {"best": self.best, "seconds": dict(self._seconds), "updates": dict(self._updates)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What ``state_dict`` returned."""
        self.best = state_dict["best"]
        self._seconds, self._updates = dict(state_dict["seconds"]), dict(state_dict["updates"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Starts the clock of an update."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the update's time; plays when it is time."""
        stage = stage_name(pl_module)
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - self._began
        self._updates[stage] = self._updates.get(stage, 0) + 1
        due = self.every_n_updates and trainer.global_step % self.every_n_updates == 0
        if due and stage in PLAYABLE and trainer.is_global_zero:
            self._play_while_training(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plays all policies and shows the table."""
        if stage_name(pl_module) in PLAYABLE:
            self._play_all(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plays all policies and shows the table."""
        self._play_all(trainer, pl_module)

    def _play_while_training(self, trainer: Trainer, module: LightningModule) -> None:
        result = self._play(module, _offline(module).policy, self.episodes)
        improved = float(result.returns.mean()) > self.best
        self.best = max(self.best, float(result.returns.mean()))
        numbers = {
            "eval/return_mean": float(result.returns.mean()),
            "eval/return_std": float(result.returns.std()),
            "eval/episode_length": float(result.lengths.mean()),
            "eval/ms_per_decision": result.milliseconds,
            "eval/best": self.best,
        }
        if self._can_be_won:
            numbers["eval/win_rate"] = float(result.won.mean())
        log_now(trainer, numbers)
        if improved and trainer.checkpoint_callback is not None and not is_trial(trainer):
            trainer.save_checkpoint(directory_of(trainer) / "checkpoints" / "best.ckpt", weights_only=False)

    def _play_all(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        policies = _offline(module).evaluation_policies()
        episodes = self._at_once(trainer) if is_trial(trainer) else self.final_episodes
        results = {name: self._play(module, policy, episodes) for name, policy in policies.items()}
        rows = [_data_row(trainer.datamodule.statistics)]  # type: ignore[attr-defined]
        rows += [_policy_row(name, result) for name, result in results.items()]
        if not self._can_be_won:
            rows = [{key: value for key, value in row.items() if key != "won"} for row in rows]
        speed = {stage: self._seconds[stage] / self._updates[stage] for stage in self._updates}
        show(rows, speed, title=f"{type(module).__name__}, {episodes} episodes per policy")
        log_now(
            trainer,
            {f"eval/{name}/return_mean": float(result.returns.mean()) for name, result in results.items()}
            | {f"train/{stage}_seconds_per_update": value for stage, value in speed.items()},
        )
        if not is_trial(trainer):
            write(rows, directory_of(trainer) / "evaluation.csv")

    def _play(self, module: LightningModule, policy: Policy, episodes: int) -> Episodes:
        assert self._env is not None, "opened in setup"
        with evaluating(module):
            return play(policy, self._env, range(self.seed, self.seed + episodes), module.device)

    @property
    def _can_be_won(self) -> bool:
        return self._env is not None and self._env.can_be_won

    def _at_once(self, trainer: Trainer) -> int:
        return 2 if is_trial(trainer) else self.episodes


def check_fits(scenario: str, env: VectorEnv, module: LightningModule) -> None:
    """Compares an environment with the module that shall play it.

    Args:
        scenario: Name of the environment, for the message.
        env: The environment.
        module: The module.

    Raises:
        ValueError: If agents, observations or actions differ.
    """
    module = _offline(module)
    for name in ("n_agents", "obs_dim", "action_dim", "discrete"):
        got, expected = getattr(env, name), getattr(module, name)
        if got != expected:
            raise ValueError(
                f"environment '{scenario}' has {name} = {got} but the model expects {expected}; "
                "was the data, or the checkpoint, made in another environment?"
            )


def show(rows: Sequence[Mapping[str, Any]], speed: Mapping[str, float], title: str) -> None:
    """Prints the table of an evaluation.

    Args:
        rows: One per policy, with equal keys.
        speed: Seconds per update by stage; empty when nothing was trained.
        title: Shown above.
    """
    caption = " · ".join(f"{stage}: {seconds:.4f} s per update" for stage, seconds in speed.items())
    table = Table(title=title, caption=caption or None)
    for key in rows[0]:
        table.add_column(key, justify="left" if key == "policy" else "right", no_wrap=key == "policy")
    for row in rows:
        table.add_row(*(_cell(key, value) for key, value in row.items()))
    Console().print(table)


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes the table of an evaluation as CSV, all or nothing."""
    with written_whole(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _data_row(statistics: Mapping[str, float]) -> dict[str, Any]:
    error = statistics["return_std"] / np.sqrt(max(statistics["episodes"] - 1, 1))
    won = statistics.get("win_rate")
    return _row("the data", statistics["return_mean"], error, won, None, None)


def _policy_row(name: str, result: Episodes) -> dict[str, Any]:
    mean, won = float(result.returns.mean()), float(result.won.mean())
    return _row(name, mean, result.return_error, won, result.milliseconds, result.network_calls)


def _row(
    policy: str, mean: float, error: float, won: float | None, milliseconds: float | None, calls: int | None
) -> dict[str, Any]:
    return {
        "policy": policy,
        "return": mean,
        "± s.e.": error,
        "won": won,
        "ms per decision": milliseconds,
        "calls per decision": calls,
    }


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "won":
        return f"{value:.0%}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _offline(module: LightningModule) -> OfflineModule:
    if not isinstance(module, OfflineModule):
        raise TypeError(f"RolloutEvaluation needs an OfflineModule, which has a policy; got {type(module).__name__}")
    return module
