"""Weights & Biases: who ran what on which data, so that runs of different algorithms lie on the same axes."""

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

ID_FILE = "wandb_run_id"
AXIS = "trainer/global_step"


class RunMetadata(Callback):
    """Describes a run to Weights & Biases; does nothing without a ``WandbLogger``.

    Adds algorithm, dataset and quality as tags, the data's statistics and dimensions to the configuration, the number
    of updates as the axis of all metrics, and the highest return as the number shown in the table of runs. The run's
    id is kept in its directory, so that a resumed run goes on in the same place.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes it all down once the logger is open."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                self._describe(trainer, pl_module, logger, stage)

    def _describe(self, trainer: Trainer, module: LightningModule, logger: WandbLogger, stage: str) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        names = [type(module).__name__, *(str(getattr(data, name)) for name in ("dataset", "quality") if data)]
        run = logger.experiment
        run.tags = tuple(dict.fromkeys([*(run.tags or ()), *names]))
        run.config.update({"algorithm": names[0], **_data_config(data)}, allow_val_change=True)
        run.define_metric("eval/return_mean", step_metric=AXIS, summary="max")  # Lightning puts all else on this axis
        if stage == "fit" and trainer.log_dir and logger.version:
            Path(trainer.log_dir).mkdir(parents=True, exist_ok=True)
            (Path(trainer.log_dir) / ID_FILE).write_text(str(logger.version))


def wandb_mode(environment: Mapping[str, str], netrc_file: Path | None = None) -> Literal["online", "offline", "given"]:
    """Whether runs are sent to Weights & Biases.

    Args:
        environment: Environment variables.
        netrc_file: Where logins are kept; by default ``$NETRC`` or ``~/.netrc``.

    Returns:
        ``given`` if ``WANDB_MODE`` decides; else ``online`` if the user has logged in (``WANDB_API_KEY``, or
        ``wandb login``, which writes the netrc file), else ``offline``.
    """
    if environment.get("WANDB_MODE"):
        return "given"
    if environment.get("WANDB_API_KEY"):
        return "online"
    host = urlparse(environment.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    path = netrc_file or Path(environment.get("NETRC", Path.home() / ".netrc"))
    try:
        known = bool(host) and netrc.netrc(path).authenticators(str(host)) is not None
    except (OSError, netrc.NetrcParseError):
        known = False
    return "online" if known else "offline"


def prepare_wandb(run_directory: Path | None = None) -> str | None:
    """Sets the mode for this process, and finds the id under which a continued run goes on.

    Args:
        run_directory: Directory of the run that is continued, if one is.

    Returns:
        The id, if there is one.
    """
    if wandb_mode(os.environ) == "offline":
        os.environ["WANDB_MODE"] = "offline"
    path = None if run_directory is None else run_directory / ID_FILE
    return path.read_text().strip() if path and path.is_file() else None


def _data_config(data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    keys = ("dataset", "quality", "seed", "scenario", "n_agents", "obs_dim", "state_dim", "action_dim", "discrete")
    described = {key: getattr(data, key) for key in keys if hasattr(data, key)}
    return described | {f"data_{key}": value for key, value in getattr(data, "statistics", {}).items()}
