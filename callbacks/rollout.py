"""Policies played in the simulator: while training, for the curve; at the end, for the table."""

import os
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from analysis.main_policy import WITHOUT_CHANCE, main_policy
from callbacks.episodes import Episodes, check_fits, play
from callbacks.evaluation_metrics import Comparable, evaluation_metrics
from callbacks.evaluation_mode import evaluating
from callbacks.evaluation_table import data_row, policy_row, show, write
from callbacks.grid_cell import POLICY
from callbacks.log_now import log_now
from callbacks.run_directory import directory_of, is_trial
from callbacks.stages import stage_name
from callbacks.wandb_records import log_final
from environments.registry import make_vector_env, scenario_of
from environments.scores import REFERENCES
from environments.vector import VectorEnv
from lightning_modules.base import OfflineModule
from lightning_modules.networks.policies import Policy

PLAYABLE = ("train", "policy")  # stages in which there is a policy worth playing


class Evaluation(NamedTuple):
    """Episodes of a policy, and what is logged about them."""

    result: Episodes
    metrics: Mapping[str, float]


class RolloutEvaluation(Callback):
    """Plays the policy in the environment that belongs to the data.

    While training, every ``every_n_updates`` updates or ``every_n_epochs`` epochs, ``episodes`` episodes from always
    the same starts are logged as

    - ``eval/return_mean``, ``eval/return_std``, ``eval/return_iqm`` (mean of the middle half),
      ``eval/normalised_score`` (0 random, 100 expert; only where ``environments/scores.py`` knows both returns),
      ``eval/win_rate`` (where episodes can be won), ``eval/episode_length``;
    - ``eval/ms_per_decision`` (one call of the policy, which decides for all agents of all copies),
      ``eval/network_calls`` per decision and ``eval/parameters`` of the acting networks;
    - ``eval/lost_episodes``: how many were lost to a failure of the simulator, and count nowhere else;
    - ``eval/best``: the highest ``eval/<best_metric>`` so far, whose weights are kept in ``checkpoints/best.ckpt``.

    Algorithms of two stages are played from their policy's stage on.

    At the end, and for ``lightning test``, all of the module's ``evaluation_policies`` (several guidance scales, zero
    noise, ...) play ``final_episodes`` episodes; the table is printed, logged as ``eval/<policy>/<metric>`` and written
    to ``evaluation.csv`` in the run's directory; in Weights & Biases it is ``final/table``, with ``final/<metric>`` of
    the policy that stands for the algorithm. Training is not disturbed: own random generators, no gradients, modes
    restored.

    Args:
        episodes: Episodes of a rollout while training, all played at the same time.
        every_n_updates: Updates between two rollouts while training; 0 does not count updates.
        every_n_epochs: Epochs between two rollouts while training, counted at their ends; 0 does not count epochs. With
            both 0, policies are played at the end only.
        final_episodes: Episodes per row of the table.
        seed: First start; episode k starts from seed + k. Keep it away from the seeds of the recording.
        environment: Scenario to play, for example ``smax/3m``, or ``package.module:function`` that makes a PettingZoo
            ``ParallelEnv`` of your own. By default the one that the data was recorded in, with the observations and
            rewards of whoever recorded it.
        best_metric: Which metric chooses ``checkpoints/best.ckpt``; higher is better in all of them, and so is a longer
            episode (a robot that does not fall).
        all_policies: Play all of the module's ``evaluation_policies`` while training, too, and log them as at the end.
            Rollouts take as many times longer.
        final_policies: What plays at the end: ``all`` of the module's ``evaluation_policies``, the ``main`` one that
            stands for the algorithm, or that and what acts ``without_chance`` (modes, zero noise). Where decisions or
            games take long, playing is most of a short run's time.

    Raises:
        ValueError: If a number is out of its range, or, when a run begins, if no environment belongs to the data, it
            does not fit the module, or it has no such ``best_metric``.
        ImportError: When a run begins, if the simulator is not installed.
    """

    def __init__(
        self,
        episodes: int = 64,
        every_n_updates: int = 2000,
        final_episodes: int = 256,
        seed: int = 1_000_000,
        environment: str | None = None,
        every_n_epochs: int = 0,
        best_metric: Comparable = "return_mean",
        all_policies: bool = False,
        final_policies: Literal["all", "main", "without_chance"] = "all",
    ) -> None:
        for name, value, least in (
            ("episodes", episodes, 1),
            ("every_n_updates", every_n_updates, 0),
            ("every_n_epochs", every_n_epochs, 0),
            ("final_episodes", final_episodes, 1),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(
                    f"RolloutEvaluation.{name} must be at least {least}, got {value}; change it under "
                    "trainer.callbacks in the configuration"
                )
        self.episodes = episodes
        self.every_n_updates, self.every_n_epochs = every_n_updates, every_n_epochs
        self.final_episodes = final_episodes
        self.seed = seed
        self.environment = environment
        self.best_metric = best_metric
        self.all_policies = all_policies
        self.final_policies = final_policies
        self.best = float("-inf")
        self._scenario = ""
        self._env: VectorEnv | None = None
        self._seconds: dict[str, float] = {}
        self._updates: dict[str, int] = {}
        self._began = 0.0
        self._played_at = -1  # updates done at the last rollout
        self._warned = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Opens the environment, so that a missing simulator or another map is known before training."""
        if stage not in ("fit", "test") or self._env is not None:
            return
        self._scenario = self.environment or scenario_of_data(trainer.datamodule.dataset)  # type: ignore[attr-defined]
        self._env = make_vector_env(self._scenario, self._at_once(trainer))
        check_fits(self._scenario, self._env, _offline(pl_module))
        check_best_metric(self.best_metric, self._scenario, self._env.can_be_won)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def state_dict(self) -> dict[str, Any]:
        """Best value and update times, so that a resumed run goes on with them."""
        return {
            "best": self.best,
            "best_metric": self.best_metric,
            "seconds": dict(self._seconds),
            "updates": dict(self._updates),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What ``state_dict`` returned; the best value only counts if it is one of the same metric."""
        before = state_dict.get("best_metric", "return_mean")  # the only one in checkpoints that do not say
        if before == self.best_metric:
            self.best = state_dict["best"]
        else:
            rank_zero_warn(
                f"the checkpoint's best weights were chosen by {before}, this run asks for {self.best_metric}: "
                "the search for the best begins anew, and its first rollout replaces best.ckpt"
            )
        self._seconds, self._updates = dict(state_dict["seconds"]), dict(state_dict["updates"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Notes the time."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the update's time; plays when it is time."""
        stage = stage_name(pl_module)
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - self._began
        self._updates[stage] = self._updates.get(stage, 0) + 1
        if self.every_n_updates and trainer.global_step % self.every_n_updates == 0:
            self._play_while_training(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plays when it is time; an epoch that the last update cuts short is one, too."""
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._play_while_training(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plays all policies and shows the table."""
        if stage_name(pl_module) in PLAYABLE:
            self._play_all(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plays all policies and shows the table."""
        self._play_all(trainer, pl_module)

    def _play_while_training(self, trainer: Trainer, module: LightningModule) -> None:
        if stage_name(module) not in PLAYABLE or not trainer.is_global_zero or self._played_at == trainer.global_step:
            return
        self._played_at = trainer.global_step
        metrics = self._play(module, _offline(module).policy, self.episodes).metrics
        improved = metrics[self.best_metric] > self.best
        self.best = max(self.best, metrics[self.best_metric])
        log_now(trainer, {f"eval/{name}": value for name, value in metrics.items()} | {"eval/best": self.best})
        if self.all_policies:
            policies = _offline(module).evaluation_policies()
            log_now(trainer, _by_policy(self._play_policies(module, policies, self.episodes)))
        if improved and trainer.checkpoint_callback is not None and not is_trial(trainer):
            trainer.save_checkpoint(directory_of(trainer) / "checkpoints" / "best.ckpt", weights_only=False)

    def _play_all(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        episodes = self._at_once(trainer) if is_trial(trainer) else self.final_episodes
        policies = _offline(module).evaluation_policies()
        main = main_policy(list(policies), module.hparams, os.environ.get(POLICY))
        if self.final_policies != "all" and main:
            also = WITHOUT_CHANCE if self.final_policies == "without_chance" else ()
            policies = {name: policy for name, policy in policies.items() if name == main or name in also}
        evaluations = self._play_policies(module, policies, episodes)
        rows = [data_row(trainer.datamodule, self._scenario)]  # type: ignore[attr-defined]
        rows += [policy_row(name, *evaluation) for name, evaluation in evaluations.items()]
        speed = {stage: self._seconds[stage] / self._updates[stage] for stage in self._updates}
        show(rows, speed, title=f"{type(module).__name__}, {episodes} episodes per policy")
        times = {f"train/{stage}_seconds_per_update": value for stage, value in speed.items()}
        log_now(trainer, _by_policy(evaluations) | times)
        log_final(trainer, rows, evaluations[main].metrics if main else {}, self._seconds, self._updates)
        if not is_trial(trainer):
            write(rows, directory_of(trainer) / "evaluation.csv")

    def _play_policies(
        self, module: LightningModule, policies: Mapping[str, Policy], episodes: int
    ) -> dict[str, Evaluation]:
        return {name: self._play(module, policy, episodes) for name, policy in policies.items()}

    def _play(self, module: LightningModule, policy: Policy, episodes: int) -> Evaluation:
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
        return Evaluation(result, evaluation_metrics(result, policy, self._scenario, self._env.can_be_won))

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


def check_best_metric(metric: Comparable, scenario: str, can_be_won: bool) -> None:
    """Whether rollouts in an environment have the metric that chooses the best checkpoint.

    Args:
        metric: Its name.
        scenario: What is played.
        can_be_won: Whether its episodes are won or lost.

    Raises:
        ValueError: If they do not.
    """
    missing = {
        "win_rate": None if can_be_won else "nothing is won or lost there",
        "normalised_score": None if scenario in REFERENCES else "environments/scores.py has no reference returns of it",
    }
    if (reason := missing.get(metric)) is not None:
        others = [name for name in get_args(Comparable) if missing.get(name) is None]
        raise ValueError(
            f"RolloutEvaluation.best_metric: expected a metric that '{scenario}' has, got '{metric}', but {reason}; "
            f"choose one of: {', '.join(others)}"
        )


def _by_policy(evaluations: Mapping[str, Evaluation]) -> dict[str, float]:
    return {f"eval/{name}/{key}": value for name, each in evaluations.items() for key, value in each.metrics.items()}


def _offline(module: LightningModule) -> OfflineModule:
    if not isinstance(module, OfflineModule):
        raise TypeError(f"RolloutEvaluation needs an OfflineModule, which has a policy; got {type(module).__name__}")
    return module
