"""The ``lightning`` command: fit, validate, test and predict from a configuration file, and handle datasets."""

import difflib
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_warn

import benchmark_cli
import callbacks
import data_cli
import datamodules
import lightning_modules
import report_cli
from callbacks.run_directory import claim_run, continue_metrics, find_checkpoint, identity, run_of
from callbacks.run_metadata import name_runs, prepare_wandb
from callbacks.stages import check_stages
from datamodules import OfflineDataModule
from lightning_modules import OfflineModule

DIMENSIONS = ("n_agents", "obs_dim", "state_dim", "action_dim", "discrete")
PACKAGES = (
    *("analysis", "benchmark_cli", "callbacks", "data_cli", "datamodules", "environments", "grid", "lightning_modules"),
    *("record_cli", "report_cli", "vgm2p_cli"),
)
CLASSES = (*callbacks.__all__, *datamodules.__all__, *lightning_modules.__all__)
DESCRIPTION = (
    "Offline multi-agent reinforcement learning. A run is described by a configuration file, for example "
    "'lightning fit --config configs/smac.yaml'; every value in it can be overridden on the command line. "
    "'lightning data list' shows all datasets; 'lightning data fetch DATASET' downloads one that is published, "
    "'lightning data record DATASET QUALITY' records an embedded one, or a policy of your own. "
    "'lightning benchmark --config GRID' runs many models on many datasets with many seeds; "
    "'lightning report RESULTS' makes a page of tables and figures of them."
)
OPTIONS_HINT = (
    "Options of an algorithm: --model.help VGM2P (or AWR, BC, ...). Options of the data: --data.help "
    "OfflineDataModule. The configuration with all defaults: --print_config, after all other options."
)
_UNKNOWN = re.compile(
    r"(?:unrecognized arguments: --|ption '|no attribute '|invalid choice: '|named '|path string: )([\w.]+)"
)


class Parser(LightningArgumentParser):
    """Says what is wrong in a few lines, and what was probably meant."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the message and leaves with exit code 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        lines = data_cli.what_is_wrong(message)
        meant = probably_meant(message, parser)
        if meant:
            lines.append(f"Did you mean {' or '.join(meant)}?")
        program = parser.prog.replace(" [options]", "")
        sys.stderr.write("error: " + "\n".join(lines) + f"\nAll options: {program} --help\n")
        self.exit(2)


class CLI(LightningCLI):
    """LightningCLI with any algorithm and datamodule, numbered run directories and early checks.

    The five dimensions are linked from the data to the model. ``seed_everything`` also seeds the data's order. See
    ``callbacks.run_directory`` for where runs are kept and what ``--ckpt_path last`` means.
    """

    def __init__(self, args: ArgsType = None) -> None:
        self._claimed: Path | None = None  # directory made for this run
        self._continued: Path | None = None  # directory of the run that goes on
        hints = {name: {"description": OPTIONS_HINT} for name in self.subcommands()}
        super().__init__(
            OfflineModule,
            OfflineDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            parser_kwargs={"description": DESCRIPTION, **hints},
            save_config_callback=SaveConfigCallback,
            save_config_kwargs={"overwrite": True},  # only a continued run finds one in its directory
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links the data's dimensions to the model, and the run's seed to the data; adds the switch for films."""
        parser.add_argument(
            "--callbacks.videos",
            type=bool | NonNegativeInt,
            default=False,
            help="Film episodes at the end of training or testing, into videos/ of the run: true, or how many.",
        )
        for name in DIMENSIONS:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses, and finds the file that ``--ckpt_path last`` or ``best`` stands for."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run")
            super().parse_arguments(parser, files_first(words_of(args)) if isinstance(args, list | None) else args)
        config = self.config[self.config.subcommand]
        refuse_linked(config, words_of(args))
        config.ckpt_path = resolve_checkpoint(config)
        self._asked = config.model.clone()
        self._given = given_on_command_line(words_of(args), config.model)

    def before_instantiate_classes(self) -> None:
        """Checks what can be checked before data is recorded or read, and chooses the run's directory."""
        self.check()
        config = self.config[self.subcommand]
        if config.trainer.enable_progress_bar is False:  # the trainer would refuse it beside a bar in the list
            callbacks = as_list(config.trainer.callbacks)
            config.trainer.callbacks = [callback for callback in callbacks if not is_a(callback, "UpdateProgressBar")]
        self._choose_directory(config)

    def check(self) -> None:
        """Finds mistakes that can be found without data; nothing is written."""
        config = self.config[self.subcommand]
        settle_with_checkpoint(config, self._asked, self._given)
        model = trial_model(config.model)
        if self.subcommand == "fit" and not config.trainer.fast_dev_run:
            check_stages(model, config.trainer.max_steps)

    def instantiate_classes(self) -> None:
        """Instantiates; a failure leaves no empty run directory behind."""
        try:
            super().instantiate_classes()
        except BaseException:
            if self._claimed is not None:
                with suppress(OSError):
                    self._claimed.rmdir()
            raise
        name_runs(self.trainer, self.model, self.datamodule, str(self.subcommand))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds the callback that ``--callbacks.videos`` asks for; one in the list of callbacks is used if there is one.

        The configuration that the run keeps has the switch as it was given, and so does the same again.
        """
        asked = self.config[self.subcommand].callbacks.videos
        listed = as_list(self.config_init[self.subcommand].trainer.callbacks)
        films = [callback for callback in listed if isinstance(callback, callbacks.Videos)]
        if asked and not films:
            films = [callbacks.Videos()]
            kwargs["callbacks"] = [*listed, *films]
        if asked and not isinstance(asked, bool):
            for film in films:
                film.episodes = asked
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Keeps the metrics of the run that goes on."""
        if self._continued is not None:
            updates = torch.load(self.config.fit.ckpt_path, map_location="cpu", weights_only=True)["global_step"]
            logger = self.trainer.logger
            assert isinstance(logger, CSVLogger), "it named the directory"
            continue_metrics(logger, updates)

    def _choose_directory(self, config: Namespace) -> None:
        """``last`` goes on in its run's directory; other commands on a run get a subdirectory; all else a new one."""
        csv = csv_logger(config)
        if csv is not None and csv.init_args.version is None and not config.trainer.fast_dev_run:
            experiment = experiment_directory(csv)
            run = run_of(Path(config.ckpt_path)) if config.ckpt_path else None
            if run is not None and run.parent.resolve() != experiment.resolve():
                run = None
            if run is not None and self.subcommand != "fit":
                csv.init_args.version = f"{run.name}/{self.subcommand}"
            elif run is not None and Path(config.ckpt_path).stem == "last":
                self._continued = run
                csv.init_args.version = run.name
            else:
                self._claimed = claim_run(experiment)
                csv.init_args.version = self._claimed.name
        config.trainer.logger = without_missing_wandb(config.trainer.logger)
        for logger in as_list(config.trainer.logger):
            if is_a(logger, "WandbLogger"):
                logger.init_args.id = prepare_wandb(self._continued) or logger.init_args.id


class Check(CLI):
    """Parses and checks a command line, and stops there: nothing is seeded, made, written or run."""

    def before_instantiate_classes(self) -> None:
        """Looks for mistakes."""
        self.check()

    def instantiate_classes(self) -> None:
        """Makes nothing."""

    def _set_seed(self) -> None:
        """Seeds nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""


def resolved(words: Sequence[str]) -> dict[str, Any]:
    """The whole configuration behind a command line, after every check that needs no data.

    Args:
        words: What follows ``lightning``, beginning with ``fit``.

    Returns:
        Nested options; the data's seed is left out, because it is ``seed_everything``.
    """
    config: dict[str, Any] = Check(list(words)).config.fit.as_dict()
    config["data"]["init_args"].pop("seed", None)
    return config


def resolve_checkpoint(config: Namespace) -> str | None:
    """The file that ``ckpt_path`` stands for.

    Raises:
        FileNotFoundError: If there is no such file; nothing starts from scratch by mistake.
        ValueError: If the configuration does not say where runs are kept.
    """
    asked: str | None = config.ckpt_path
    if asked is None:
        return None
    if asked in ("last", "best"):
        csv = csv_logger(config)
        if csv is None:
            raise ValueError(
                f"--ckpt_path {asked} needs a CSVLogger first in trainer.logger: it says where runs are kept"
            )
        return str(find_checkpoint(experiment_directory(csv), asked, identity(config.as_dict())))  # type: ignore[arg-type]
    if not Path(asked).is_file():
        raise FileNotFoundError(f"--ckpt_path: expected a checkpoint file, 'last' or 'best', got '{asked}'")
    return asked


def trial_model(config: Namespace) -> OfflineModule:
    """The algorithm for made-up data, so that an impossible option is known before real data is recorded or read.

    Args:
        config: Class path and options.

    Returns:
        The module; random generators are left as they were.

    Raises:
        ValueError: What the algorithm's constructor says, if it says so for discrete and for continuous actions.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(OfflineModule, "model", required=True)
    made_up = {"n_agents": 2, "obs_dim": 4, "state_dim": 4, "action_dim": 3}
    options = {"class_path": config.class_path, **{k: v for k, v in config.as_dict().items() if k != "class_path"}}
    with torch.random.fork_rng():
        for discrete in (True, False):
            init_args = {**options.get("init_args", {}), **made_up, "discrete": discrete}
            parsed = parser.parse_object({"model": {**options, "init_args": init_args}})
            try:
                model: OfflineModule = parser.instantiate(parsed).model
                return model
            except ValueError:
                if not discrete:
                    raise
    raise AssertionError("the loop returns or raises")


def settle_with_checkpoint(config: Namespace, asked: Namespace, given: Sequence[str]) -> None:
    """Command line before checkpoint before configuration file, for the algorithm's options.

    Lightning puts the options that a checkpoint was trained with over all others.

    Args:
        config: The configuration, changed in place.
        asked: Its ``model`` before the checkpoint was looked at.
        given: Options named on the command line.

    Raises:
        ValueError: If the checkpoint is another algorithm's.
    """
    if config.model.class_path != asked.class_path:
        raise ValueError(
            f"--ckpt_path: expected a checkpoint of {asked.class_path}, '{config.ckpt_path}' is one of "
            f"{config.model.class_path}; add --model {config.model.class_path}"
        )
    used, wanted = config.model.init_args, asked.init_args
    for name in given:
        used[name] = wanted[name]
    different = [name for name in vars(wanted) if name not in DIMENSIONS and used.get(name) != wanted[name]]
    if different:
        words = ", ".join(f"{name} {used.get(name)} (configuration file: {wanted[name]})" for name in different)
        rank_zero_warn(f"the options with which the checkpoint was trained are used: {words}")


def refuse_linked(config: Namespace, words: Sequence[str]) -> None:
    """Refuses options that would be overwritten without a word: the dimensions, and a second seed.

    Raises:
        ValueError: If ``model.init_args`` has one of the five, or the command line ``data.init_args.seed``.
    """
    given = [name for name in DIMENSIONS if config.model.init_args.get(name) is not None]
    if given:
        raise ValueError(f"model.init_args.{given[0]} is taken from the data and cannot be set; remove it")
    if any(re.match(r"--data\.(init_args\.)?seed\b", word) for word in words):
        raise ValueError("data.init_args.seed is taken from seed_everything; set that instead")


def files_first(words: Sequence[str]) -> list[str]:
    """The same words with all ``--config`` right after the subcommand: options override files wherever they stand."""
    files: list[str] = []
    others: list[str] = []
    taken = False
    for word in words:
        (files if taken or re.match(r"(--config|-c)(=|$)", word) else others).append(word)
        taken = word in ("--config", "-c")
    return others[:1] + files + others[1:]


def words_of(args: ArgsType) -> list[str]:
    """The command line's words; none if a configuration object was given."""
    return [str(word) for word in args] if isinstance(args, list) else sys.argv[1:] if args is None else []


def given_on_command_line(words: Sequence[str], model: Namespace) -> list[str]:
    """Options of the algorithm that were named on the command line rather than in a file."""
    names = [match[1] for word in words if (match := re.match(r"--model\.(?:init_args\.)?(\w+)", word))]
    return [name for name in names if name in model.init_args]


def csv_logger(config: Namespace) -> Namespace | None:
    """Configuration of the first logger if it is a CSVLogger: it names the run's directory."""
    loggers = as_list(config.trainer.logger)
    return loggers[0] if loggers and is_a(loggers[0], "CSVLogger") else None


def experiment_directory(csv: Namespace) -> Path:
    """Directory of all runs that a CSVLogger's configuration names."""
    return Path(csv.init_args.save_dir) / (csv.init_args.name or "")


def as_list(value: Any) -> list[Any]:
    """A list as it is, one thing as a list of one, nothing as an empty list."""
    return value if isinstance(value, list) else [] if value in (None, True, False) else [value]


def is_a(config: Namespace, name: str) -> bool:
    """Whether the configuration of an object asks for the class of that name."""
    return str(config.class_path).rpartition(".")[2] == name


def without_missing_wandb(loggers: Any) -> Any:
    """Leaves the WandbLogger out, and says so, where wandb is not installed."""
    kept = [logger for logger in as_list(loggers) if not is_a(logger, "WandbLogger")]
    if len(kept) == len(as_list(loggers)) or importlib.util.find_spec("wandb") is not None:
        return loggers
    rank_zero_warn(
        "trainer.logger asks for Weights & Biases, which is not installed: logging without it. "
        "To have it: pip install -e '.[wandb]'"
    )
    return kept


def probably_meant(message: str, parser: LightningArgumentParser) -> list[str]:
    """Known names close to the unknown ones in an error message, best first."""
    known = {option.lstrip("-") for option in parser._option_string_actions} | set(CLASSES) | set(PACKAGES)
    for path in re.findall(r"class_path '([\w.]+)'", message):
        known |= set(_names_around(path))
    found: dict[str, None] = {}
    for word in _UNKNOWN.findall(message):
        found |= dict.fromkeys(difflib.get_close_matches(word, known, n=2, cutoff=0.75))
    return [f"'{name}'" for name in found]


def _names_around(class_path: str) -> Iterator[str]:
    """Options of a class, or the classes of its module if there is no such class."""
    module_name, _, name = class_path.rpartition(".")
    module = sys.modules.get(module_name)
    if module is not None and not hasattr(module, name):
        yield from (other for other in vars(module) if not other.startswith("_"))
    for cls in getattr(getattr(module, name, None), "__mro__", ()):
        yield from getattr(vars(cls).get("__init__"), "__annotations__", {})


def refusal(error: BaseException | None) -> BaseException | None:
    """The first cause in a chain of exceptions that this project or Lightning raised on purpose, if there is one."""
    ours = None
    while error is not None:
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        name = traceback.tb_frame.f_globals.get("__name__", "") if traceback else ""
        if name.partition(".")[0] in (*PACKAGES, "lightning", "__main__"):
            ours = error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return ours


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command; mistakes of the user end with a short message and exit code 2.

    Args:
        args: Words of the command line; by default the process's own.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        if words[:1] == ["data"]:
            data_cli.run(words[1:])
        elif words[:1] == ["benchmark"]:
            benchmark_cli.run(words[1:], resolved)
        elif words[:1] == ["report"]:
            report_cli.run(words[1:])
        else:
            CLI(None if args is None else words)
    except (ValueError, TypeError, OSError, ImportError, MisconfigurationException) as error:
        ours = refusal(error)
        if ours is None or os.environ.get("JSONARGPARSE_DEBUG"):
            raise
        sys.stderr.write(f"error: {ours}\n(The traceback: set JSONARGPARSE_DEBUG=1.)\n")
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
