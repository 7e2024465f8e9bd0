"""Between the stages: let the critic answer for every recorded step, store and describe the answers, go on."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from tqdm import tqdm

from callbacks.best_in_stage import BestInStage
from callbacks.evaluation_mode import evaluating
from callbacks.log_now import log_now
from callbacks.run_directory import is_trial
from callbacks.wandb_records import log_histogram
from datamodules.advantages import load_advantages, save_advantages
from datamodules.batch import TeamBatch
from datamodules.offline import OfflineDataModule
from lightning_modules.advantage_module import AdvantageModule, Stage

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class StageSwitch(Callback):
    """Ends the stages of an algorithm that trains a critic before its policy, and begins the next ones.

    After the critic's updates it answers for every recorded step; its advantages are stored beside the vault under a
    key made from the critic, served in the batches from then on, and described in the log and on the screen. After the
    credit's updates, where an algorithm has them, each agent's credit for every recorded action is described likewise.
    A run resumed in a later stage reads the advantages back, or computes them again if they are gone. Algorithms of
    one stage are left alone.

    Before it ends, a stage returns to the weights that predicted held-out episodes best (``value/held_out_error``;
    ``data.validation_fraction`` says how many are held out).

    Args:
        batch_size: Recorded steps per forward pass of the labelling.
        check_every: Updates between two looks at held-out episodes; 0 never looks and keeps the last weights.
        check_steps: Held-out steps of a look, spread evenly over all of them.
        least_share: Least share of steps labelled good, and of steps labelled not good, that passes without a warning:
            labels nearly all alike tell the policy nothing.

    Raises:
        ValueError: If an argument is out of its range, or, when a run begins, if ``trainer.max_steps`` leaves no
            updates for the policy.
    """

    def __init__(
        self, batch_size: int = 4096, check_every: int = 100, check_steps: int = 1024, least_share: float = 0.05
    ) -> None:
        if check_every < 0 or check_steps < 1:
            raise ValueError(
                "StageSwitch.check_every must be at least 0 and check_steps at least 1, "
                f"got {check_every} and {check_steps}"
            )
        if batch_size < 1:
            raise ValueError(f"StageSwitch.batch_size must be at least 1, got {batch_size}")
        if not 0 <= least_share < 0.5:
            raise ValueError(f"StageSwitch.least_share must be in [0, 0.5), got {least_share}")
        self.batch_size = batch_size
        self.check_every, self.check_steps = check_every, check_steps
        self.least_share = least_share
        self._best = BestInStage()
        self._labelled = False

    def state_dict(self) -> dict[str, Any]:
        """The best weights of the running stage, for the checkpoint."""
        return self._best.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from a checkpoint."""
        self._best.load_state_dict(state_dict)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses a run that would end before its policy begins."""
        if stage == "fit" and not is_trial(trainer):
            check_stages(pl_module, trainer.max_steps)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Switches after a stage's last update; a checkpoint of the same update already holds the new stage."""
        if not isinstance(pl_module, AdvantageModule):
            return
        self._check(trainer, pl_module)
        while (end := pl_module.stage_end) is not None and trainer.global_step >= end:
            self._return_to_best(trainer, pl_module)
            if pl_module.stage == Stage.CRITIC:
                self._finish_critic(trainer, pl_module)
            else:
                self._finish_credit(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so if the run ended before the switch."""
        if stage_name(pl_module) not in ("train", "policy") and not is_trial(trainer):
            rank_zero_warn(
                f"the run ended after {trainer.global_step} updates, in the {stage_name(pl_module)}'s stage: "
                "the policy is untrained; go on with a larger trainer.max_steps and --ckpt_path last"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Brings the advantages back when a run is resumed in a later stage."""
        self._restore(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Brings the advantages back for ``lightning validate``."""
        self._restore(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Brings the advantages back for ``lightning test``."""
        self._restore(trainer, pl_module)

    def _check(self, trainer: Trainer, module: AdvantageModule) -> None:
        """Looks at held-out episodes now and then."""
        update, end = trainer.global_step, module.stage_end
        if end is None or not self.check_every or (update % self.check_every and update != end):
            return
        batches = list(_recorded(trainer).held_out_batches(self.batch_size, self.check_steps))
        if batches:
            moved = (module.prepared(batch) for batch in batches)
            log_now(trainer, {"value/held_out_error": self._best.check(module, moved, update)})

    def _return_to_best(self, trainer: Trainer, module: AdvantageModule) -> None:
        best, last, update = self._best.error, self._best.last_error, self._best.update
        if self._best.restore(module):
            module.print(
                f"after {trainer.global_step} updates, {stage_name(module)}: held-out error {last:.4g}, smallest "
                f"{best:.4g} after {update}; going on with those weights"
            )

    def _restore(self, trainer: Trainer, module: LightningModule) -> None:
        if self._labelled or not isinstance(module, AdvantageModule) or module.stage == Stage.CRITIC:
            return
        data = _recorded(trainer)
        stored = load_advantages(data.derived_dir, advantages_key(module, data), len(data.ends))
        if stored is None:
            self._label(module, data)
        else:
            data.set_advantages(stored)
        if module.stage == Stage.POLICY and module.local_credit is not None:
            data.set_credits(self._credits(module, data)[0])
        self._labelled = True

    def _label(self, module: AdvantageModule, data: OfflineDataModule) -> NDArray[np.float32]:
        """Computes, stores and serves the advantages of all recorded steps, (L,)."""
        with evaluating(module):
            batches = self._batches(module, data, "advantages")
            one_step = torch.cat([module.advantages(batch)[batch.valid[:, :-1]].float().cpu() for batch in batches])
        advantages: NDArray[np.float32] = module.accumulate(one_step, torch.from_numpy(data.ends)).numpy()
        try:
            save_advantages(data.derived_dir, advantages_key(module, data), advantages)
        except OSError as error:  # no reason to lose the run: whoever needs them later computes them again
            rank_zero_warn(f"the advantages could not be stored ({error}); set data.init_args.cache_dir elsewhere")
        data.set_advantages(advantages)
        self._labelled = True
        return advantages

    def _finish_critic(self, trainer: Trainer, module: AdvantageModule) -> None:
        data = _recorded(trainer)
        advantages = self._label(module, data)
        module.finish_critic(torch.from_numpy(advantages).to(module.device))
        held_out = [
            f"{name} {float(trainer.callback_metrics[name]):.4g}"
            for name in sorted(trainer.callback_metrics)
            if name.startswith(("val/", "value/"))
        ]
        self._describe(trainer, module, "advantage", advantages)
        if held_out:
            module.print("  the critic on held-out episodes: " + ", ".join(held_out))

    def _finish_credit(self, trainer: Trainer, module: AdvantageModule) -> None:
        data = _recorded(trainer)
        credits, free = self._credits(module, data)
        data.set_credits(credits)
        module.start_policy(torch.from_numpy(credits[free]).to(module.device))
        self._describe(trainer, module, "credit", credits[free])

    def _credits(
        self, module: AdvantageModule, data: OfflineDataModule
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Credits of all recorded actions and whether there was a choice, (L, N) each."""
        with evaluating(module):
            parts = [module.credits(batch) for batch in self._batches(module, data, "credits")]
        credits, free = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        return credits, free

    def _batches(self, module: AdvantageModule, data: OfflineDataModule, doing: str) -> Iterator[TeamBatch]:
        """All recorded steps on the module's device, with a progress bar."""
        batches = data.all_batches(self.batch_size, whole_episodes=module.recurrent)
        for batch in tqdm(batches, desc=doing, unit=" batches", leave=False):
            yield module.prepared(batch)

    def _describe(self, trainer: Trainer, module: AdvantageModule, name: str, values: NDArray[np.float32]) -> None:
        """Logs and prints what the labels are made from; warns about labels that cannot teach anything."""
        numbers = summary(values, name)
        share = positive_share(module, values) if module.stage == Stage.POLICY else float((values > 0).mean())
        numbers[f"value/stored_{name}_positive_share"] = share
        log_now(trainer, numbers)
        log_histogram(trainer, f"value/stored_{name}", values)
        words = ", ".join(f"{key.removeprefix(f'value/stored_{name}_')} {value:.4g}" for key, value in numbers.items())
        module.print(f"after {trainer.global_step} updates, {name} of {len(values):,} recorded actions: {words}")
        if module.stage == Stage.POLICY and not self.least_share <= share <= 1 - self.least_share:
            rank_zero_warn(
                f"{share:.1%} of the recorded actions are labelled good: labels nearly all alike tell the policy "
                "nothing. Try another label rule or threshold, more or fewer critic_updates, or another expectile."
            )


def check_stages(module: LightningModule, max_steps: int) -> None:
    """Refuses a number of updates that ends before the policy's stage.

    Args:
        module: Any algorithm; those of one stage pass.
        max_steps: ``trainer.max_steps``; -1 means no limit.

    Raises:
        ValueError: If the policy's stage would have no update.
    """
    if not isinstance(module, AdvantageModule):
        return
    if 0 <= max_steps <= module.updates_before_policy:
        raise ValueError(
            f"trainer.max_steps must be above {module.updates_before_policy}, got {max_steps}: it counts updates of "
            "all stages, and the policy's come after critic_updates and credit_updates of model.init_args"
        )


def advantages_key(module: AdvantageModule, data: OfflineDataModule) -> str:
    """Name under which advantages are stored: a hash of the critic, of how advantages come from it, and of the data.

    Args:
        module: The algorithm; its critic no longer changes once the policy's stage has begun.
        data: The recording.

    Returns:
        The critic's kind, 16 hexadecimal digits of the critic and 16 of the data.
    """
    critic = module.global_critic
    options = (critic.discount, module.advantage_estimate, module.advantage_trace_decay)
    digest = hashlib.sha256(repr((type(critic).__name__, *options)).encode())
    for name, tensor in sorted(critic.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f"{type(critic).__name__}-{digest.hexdigest()[:16]}-{data.key}"


def positive_share(module: AdvantageModule, values: NDArray[np.float32]) -> float:
    """Share of recorded actions that the algorithm calls good: by its own label rule if it has one, else above 0."""
    label = getattr(module, "condition_values", lambda signal: signal)
    return float((label(torch.from_numpy(values).to(module.device)) > 0).float().mean())


def summary(values: NDArray[np.float32], name: str) -> dict[str, float]:
    """Mean, standard deviation and quantiles.

    Args:
        values: Numbers of any shape.
        name: What they are.

    Returns:
        Numbers by the name under which they are logged: ``value/stored_<name>_mean``, ``_std``, ``_q05``, ...
    """
    quantiles = {f"q{round(100 * level):02d}": np.quantile(values, level) for level in QUANTILES}
    numbers = {"mean": values.mean(), "std": values.std(), **quantiles}
    return {f"value/stored_{name}_{key}": float(number) for key, number in numbers.items()}


def stage_name(module: LightningModule) -> str:
    """``critic``, ``credit`` or ``policy`` for an algorithm in stages, ``train`` for any other."""
    return module.stage.name.lower() if isinstance(module, AdvantageModule) else "train"


def _recorded(trainer: Trainer) -> OfflineDataModule:
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, OfflineDataModule):
        raise TypeError(
            f"StageSwitch needs an OfflineDataModule to label, got {type(data).__name__}; pass datamodule= to "
            "the trainer"
        )
    return data
