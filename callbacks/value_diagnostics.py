"""Can the critic be trusted? Measured on held-out episodes, before a policy is trained on its word."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.functional.regression import pearson_corrcoef

from datamodules.batch import TeamBatch
from datamodules.offline import OfflineDataModule
from lightning_modules.advantage_module import AdvantageModule, Stage
from lightning_modules.losses.advantage import generalised_advantages


class ValueDiagnostics(Callback):
    """Logs at every validation how much the critic's answers on held-out episodes agree with what happened there.

    Logged while the critic is trained (G is the discounted sum of the rewards that followed the step):

    - ``value/q_return_correlation``: correlation of Q(s, a) with G; can be high from knowing the state alone.
    - ``value/advantage_return_correlation``: correlation of A(s, a) with G - V(s): does the *action* explain what the
      state did not?
    - ``value/separation``: area under the ROC curve of A, telling the steps of the best recorded behaviour from all
      others (1 always, .5 never); only where the recording says who played. Many steps are alike in all behaviours, so
      1 is out of reach, and a high value does not prove the ranking of actions within a state.

    Logged while the policy is trained, for critics with a Q: ``value/q_data_mean`` and ``value/q_policy_mean``, Q of
    the recorded joint actions and of those that the policy would take instead. The second is an extrapolation.
    """

    def __init__(self) -> None:
        self._collected: list[dict[str, Tensor]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets what an earlier validation collected."""
        self._collected = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Asks the critic about one batch of held-out steps."""
        if isinstance(pl_module, AdvantageModule) and not trainer.sanity_checking:
            self._collected.append(_answers(pl_module, pl_module.prepared(batch)))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the agreement over all held-out steps."""
        if not any(self._collected) or not isinstance(pl_module, AdvantageModule):
            return
        answers = {name: torch.cat([part[name] for part in self._collected]) for name in self._collected[0]}
        if pl_module.stage != Stage.CRITIC:
            pl_module.log_dict({f"value/{name}_mean": values.mean() for name, values in answers.items()})
            return
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, OfflineDataModule):
            held_out = data.validation_rows
            returns = returns_to_go(data, pl_module.global_critic.discount)[held_out]
            best = best_behaviour(data)
            pl_module.log_dict(agreement(answers, returns, None if best is None else best[held_out]))


def agreement(
    answers: dict[str, Tensor], returns: NDArray[np.float32], best: NDArray[np.bool_] | None
) -> dict[str, Tensor]:
    """Correlations and separation of the critic's answers for the first K of some recorded steps.

    Args:
        answers: ``q``, ``v`` and ``advantage``, each (K,).
        returns: What followed each step, (≥ K,).
        best: Whether each step was played by the best behaviour, (≥ K,), or None if unknown.

    Returns:
        Numbers by the name under which they are logged.
    """
    advantage = answers["advantage"]
    followed = torch.from_numpy(returns[: len(advantage)]).to(advantage)
    numbers = {
        "value/q_return_correlation": pearson_corrcoef(answers["q"], followed),
        "value/advantage_return_correlation": pearson_corrcoef(advantage, followed - answers["v"]),
    }
    if best is not None:
        target = torch.from_numpy(best[: len(advantage)]).to(advantage.device)
        numbers["value/separation"] = binary_auroc(advantage.argsort().argsort() / len(advantage), target.long())
    return numbers


def returns_to_go(data: OfflineDataModule, discount: float) -> NDArray[np.float32]:
    """Discounted sum of the rewards from each recorded step to the end of its episode, in the unit of the batches.

    G_t = r_t + γ G_{t+1}, and 0 after the last step; for a truncated episode it is therefore too small.

    Args:
        data: The recording.
        discount: γ.

    Returns:
        One number per step, (L,).
    """
    rewards = torch.from_numpy(data.rewards * np.float32(data.reward_scale))
    returns: NDArray[np.float32] = generalised_advantages(rewards, torch.from_numpy(data.ends), discount).numpy()
    return returns


def best_behaviour(data: OfflineDataModule) -> NDArray[np.bool_] | None:
    """Whether the behaviour with the highest mean return played each step, (L,); None if fewer than two are known."""
    behaviour = data.episode_behaviour
    if behaviour is None or len(np.unique(behaviour)) < 2:
        return None
    returns = data.episode_returns
    best = max(np.unique(behaviour), key=lambda index: float(returns[behaviour == index].mean()))
    lengths = data.episode_bounds[:, 1] - data.episode_bounds[:, 0]
    rows: NDArray[np.bool_] = np.repeat(behaviour == best, lengths)
    return rows


def _answers(module: AdvantageModule, batch: TeamBatch) -> dict[str, Tensor]:
    """What can be asked in the module's stage, (B,) each."""
    if module.stage == Stage.CRITIC:
        return _critic_answers(module, batch)
    asks_policy = module.stage == Stage.POLICY and hasattr(module.global_critic, "q")
    return _policy_answers(module, batch) if asks_policy else {}


def _critic_answers(module: AdvantageModule, batch: TeamBatch) -> dict[str, Tensor]:
    """Q, V and A of the batch's first steps, (B,) each."""
    values, advantages = module.global_critic.state_values(batch)[:, 0], module.advantages(batch)[:, 0]
    return {"q": values + advantages, "v": values, "advantage": advantages}


def _policy_answers(module: AdvantageModule, batch: TeamBatch) -> dict[str, Tensor]:
    """Q of the recorded joint actions and of the policy's, (B,) each."""
    policy = module.policy
    generator = torch.Generator(module.device).manual_seed(0)
    chosen, _ = policy.act(batch.obs[:, 0], batch.legal_actions[:, 0], policy.initial_state(len(batch.obs)), generator)
    actions = batch.actions.clone()
    actions[:, 0] = chosen
    critic = module.global_critic
    return {
        "q_data": critic.action_values(batch)[:, 0],
        "q_policy": critic.action_values(batch._replace(actions=actions))[:, 0],
    }
