"""Policies played in the simulator: while training, for the curve; at the end, for the table."""

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.table import Table

from callbacks.episodes import Episodes, check_fits, play
from callbacks.evaluation_mode import evaluating
from callbacks.log_now import log_now
from callbacks.run_directory import directory_of, is_trial, written_whole
from callbacks.stages import stage_name
from environments.registry import make_vector_env, scenario_of
from environments.vector import VectorEnv
from lightning_modules.base import OfflineModule
from lightning_modules.networks.policies import Policy

PLAYABLE = ("train", "policy")  # stages in which there is a policy worth playing


class RolloutEvaluation(Callback):
    """Plays the policy in the environment that belongs to the data.

    While training, every ``every_n_updates`` updates ``episodes`` episodes from always the same starts are logged as
    ``eval/return_mean``, ``eval/return_std``, ``eval/win_rate`` (where episodes can be won), ``eval/episode_length``,
    ``eval/ms_per_decision`` (one call of the policy, which decides for all agents of all copies), ``eval/best``, the
    highest mean return so far, whose weights are kept in ``checkpoints/best.ckpt``, and ``eval/lost_episodes``: how
    many were lost to a failure of the simulator, and count nowhere else. Algorithms of two stages are played from their
    policy's stage on.

    At the end, and for ``lightning test``, all of the module's ``evaluation_policies`` play ``final_episodes``
    episodes; the table is printed, logged and written to ``evaluation.csv`` in the run's directory. Training is not
    disturbed: own random generators, no gradients, modes restored.

    Args:
        episodes: Episodes of a rollout while training, all played at the same time.
        every_n_updates: Updates between two rollouts while training; 0 plays at the end only.
        final_episodes: Episodes per row of the table.
        seed: First start; episode k starts from seed + k. Keep it away from the seeds of the recording.
        environment: Scenario to play, for example ``smax/3m``, or ``package.module:function`` that makes a PettingZoo
            ``ParallelEnv`` of your own. By default the one that the data was recorded in, with the observations and
            rewards of whoever recorded it.

    Raises:
        ValueError: If a number is out of its range, or, when a run begins, if no environment belongs to the data or it
            does not fit the module.
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
        self._warned = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Opens the environment, so that a missing simulator or another map is known before training."""
        if stage not in ("fit", "test") or self._env is not None:
            return
        scenario = self.environment or scenario_of_data(trainer.datamodule.dataset)  # type: ignore[attr-defined]
        self._env = make_vector_env(scenario, self._at_once(trainer))
        check_fits(scenario, self._env, _offline(pl_module))

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
            "eval/lost_episodes": float(result.lost),
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
            | {f"eval/{name}/lost_episodes": float(result.lost) for name, result in results.items() if result.lost}
            | {f"train/{stage}_seconds_per_update": value for stage, value in speed.items()},
        )
        if not is_trial(trainer):
            write(rows, directory_of(trainer) / "evaluation.csv")

    def _play(self, module: LightningModule, policy: Policy, episodes: int) -> Episodes:
        assert self._env is not None, "opened in setup"
        policy = _offline(module).for_environment(policy)
        with evaluating(module):
            result = play(policy, self._env, range(self.seed, self.seed + episodes), module.device)
        if result.lost and not self._warned:
            self._warned = True
            rank_zero_warn(
                f"'{self._env.name}' lost {result.lost} of {episodes} episodes to failures of its simulator; they are "
                "left out of all numbers. eval/lost_episodes goes on counting, without another warning"
            )
        return result

    @property
    def _can_be_won(self) -> bool:
        return self._env is not None and self._env.can_be_won

    def _at_once(self, trainer: Trainer) -> int:
        return 2 if is_trial(trainer) else self.episodes


def scenario_of_data(dataset: str) -> str:
    """The scenario that a policy trained on a dataset is played in, unless another one is asked for.

    Args:
        dataset: Name of the dataset.

    Raises:
        ValueError: If none belongs to it; the message says what to do.
    """
    try:
        return scenario_of(dataset)
    except ValueError as error:
        raise ValueError(
            f"{error}; say what to play in trainer.callbacks, RolloutEvaluation.environment (a scenario, or "
            "'package.module:function' that makes your own), or take RolloutEvaluation out"
        ) from None


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
