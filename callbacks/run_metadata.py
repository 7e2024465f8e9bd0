"""Weights & Biases: who ran what on which data, so that runs of different algorithms lie on the same axes."""

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.code_version import code_version, versions
from callbacks.grid_cell import cell_of
from callbacks.wandb_records import wandb_loggers

ID_FILE = "wandb_run_id"
AXIS = "trainer/global_step"
LONGEST_TAG, LONGEST_GROUP = 64, 128  # characters that the service allows
_JOBS = {"fit": "train"}  # test, validate and predict are called what they are
#: Where the user says what a run is called: the argument of ``WandbLogger``, and the variable.
_NAMING = {"name": "WANDB_NAME", "group": "WANDB_RUN_GROUP", "job_type": "WANDB_JOB_TYPE"}


class RunMetadata(Callback):
    """Describes a run to Weights & Biases; does nothing without a ``WandbLogger``.

    - Name ``<algorithm> <dataset>/<quality> seed <seed>``, group ``<dataset>/<quality>``, job type ``train`` (or
      ``test``, ...), each only where neither the ``WandbLogger``'s arguments nor an environment variable
      (``WANDB_NAME``, ``WANDB_RUN_GROUP``, ``WANDB_JOB_TYPE``) says something else. Algorithm, dataset and quality are
      tags. Group and job type have to be known before the run is opened: the ``lightning`` command sees to it, from
      Python call ``name_runs`` before the trainer's ``fit``.
    - Configuration: that of the command line under the same names (``model.init_args...``), besides ``algorithm``,
      ``dataset``, ``quality``, ``seed``, the data's dimensions and statistics, ``parameters`` of all networks,
      ``versions``, ``commit`` and ``changed_files``, and as ``stage`` what was run first. ``task`` and ``model_name``
      are what comparisons group by: in a grid the names that its file has (also in ``grid``, ``grid_dataset``,
      ``grid_model``), else dataset and quality, and the algorithm.
    - The number of updates is the axis of all metrics, and the highest return the number shown in the table of runs.

    The run's id is kept in its directory, so that a resumed run goes on in the same place.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes it all down as the run is opened."""
        loggers = list(wandb_loggers(trainer))
        if loggers:
            known = description(trainer, pl_module)
            for logger in loggers:
                self._describe(trainer, logger, known, TrainerFn(stage).value)  # the word, from an enumeration

    def _describe(self, trainer: Trainer, logger: WandbLogger, known: Mapping[str, Any], stage: str) -> None:
        named = name_run(logger, known, stage)
        run = logger.experiment
        if "name" in named:  # of a run that the trainer has opened already: a name can still be given
            run.name = named["name"]
        names = [str(known[key])[:LONGEST_TAG] for key in ("algorithm", "dataset", "quality") if known.get(key)]
        run.tags = tuple(dict.fromkeys([*(run.tags or ()), *names]))
        first = {} if stage != "fit" and "stage" in run.config else {"stage": stage}
        run.config.update({**known, **first}, allow_val_change=True)
        run.define_metric("eval/return_mean", step_metric=AXIS, summary="max")  # Lightning puts all else on this axis
        if stage == "fit" and trainer.log_dir and logger.version:
            Path(trainer.log_dir).mkdir(parents=True, exist_ok=True)
            (Path(trainer.log_dir) / ID_FILE).write_text(str(logger.version))


def description(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Everything that is known about a run before it begins.

    Args:
        trainer: With the data, and from the command line also with the configuration.
        module: The algorithm.

    Returns:
        Plain values by name, nested as on the command line; see ``RunMetadata``.
    """
    data = _data_config(getattr(trainer, "datamodule", None))
    cell = cell_of(os.environ)
    algorithm = type(module).__name__
    return {
        **_command_line(trainer),
        **data,
        **cell,
        "algorithm": algorithm,
        "task": cell.get("grid_dataset") or _recording(data, " "),  # as analysis.runs calls it
        "model_name": cell.get("grid_model") or algorithm,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "versions": versions(),
        **code_version(),
    }


def name_runs(trainer: Trainer, module: LightningModule, data: Any, stage: str) -> None:
    """Gives the runs that a trainer is about to open name, group and job type, if it has a ``RunMetadata``.

    Args:
        trainer: Not used yet.
        module: What it will be given.
        data: What it will be given.
        stage: ``fit``, ``test``, ...
    """
    if any(isinstance(callback, RunMetadata) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        known = {"algorithm": type(module).__name__, **_data_config(data, measured=False)}
        for logger in wandb_loggers(trainer):
            name_run(logger, known, stage)


def name_run(logger: WandbLogger, known: Mapping[str, Any], stage: str) -> dict[str, str]:
    """Gives a run that is not open yet its name, group and job type, where the user has given none.

    Args:
        logger: Where the run is logged.
        known: ``algorithm``, ``dataset``, ``quality`` and ``seed``, as far as they are known.
        stage: ``fit``, ``test``, ...

    Returns:
        What was given now.
    """
    arguments = logger._wandb_init  # what wandb.init is called with: later, group and job type cannot be changed
    recording = _recording(known)
    seed = f"seed {known['seed']}" if "seed" in known else ""
    ours = {
        "name": " ".join(filter(None, [known["algorithm"], recording, seed])),
        "group": recording[:LONGEST_GROUP],
        "job_type": _JOBS.get(stage, stage),
    }
    asked = {argument for argument, variable in _NAMING.items() if arguments.get(argument) or os.environ.get(variable)}
    given = {argument: value for argument, value in ours.items() if argument not in asked}
    arguments.update(given)
    return given


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


def _command_line(trainer: Trainer) -> dict[str, Any]:
    """The configuration with all defaults, where there is one: as config.yaml has it."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SaveConfigCallback):
            read: dict[str, Any] = yaml.safe_load(callback.parser.dump(callback.config, skip_none=False))
            return read
    return {}


def _recording(known: Mapping[str, Any], between: str = "/") -> str:
    return between.join(str(known[key]) for key in ("dataset", "quality") if known.get(key))


def _data_config(data: Any, measured: bool = True) -> dict[str, Any]:
    """Which data, and, once it has been read, what it is like."""
    keys: tuple[str, ...] = ("dataset", "quality", "seed")
    if measured:
        keys += ("scenario", "n_agents", "obs_dim", "state_dim", "action_dim", "discrete")
    described = {key: getattr(data, key) for key in keys if hasattr(data, key)}
    statistics = getattr(data, "statistics", {}) if measured else {}
    return described | {f"data_{key}": value for key, value in statistics.items()}
