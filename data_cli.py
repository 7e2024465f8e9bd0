"""``lightning data``: list, download, record, check, describe and export datasets.

A subcommand is a function in ``COMMANDS``: its parameters are the options (those without a default are given by
position, those that are False by default are switches), its docstring is the help, a path that it returns is printed.
What it raises on purpose reaches the user as one line, without a traceback.
"""

import csv
import inspect
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NoReturn

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.returns import histogram_figure, histogram_text
from datamodules.catalogue import (
    Listed,
    RecordedDataset,
    listing,
    local_qualities,
    published_as,
    qualities,
    split_name,
    vault_directory,
)
from datamodules.download import fetch
from datamodules.export import export
from datamodules.finding import out_of_range_rule
from datamodules.offline import OfflineDataModule
from datamodules.vaults import is_vault
from datamodules.verification import Report, inspect_vault
from record_cli import record_dataset

COLUMNS = (
    "source",
    "environment",
    "scenario",
    "quality",
    "here",
    "discrete",
    "n_agents",
    "obs_dim",
    "state_dim",
    "state_per_agent",
    "action_dim",
    "legal_actions",
    "copies",
    "steps",
    "episodes",
    "return_mean",
    "return_std",
    "return_min",
    "return_max",
    "won",
    "out_of_range",
    "file",
)
_NOISE = re.compile(
    r"[-\s]*(Does not validate against any|Subtypes:|Errors:|Given value|Expected a (<class 'NoneType'>|path)|$)"
)
DISPENSABLE = ("won", "state", "obs", "min", "max", "std", "agents")  # in this order, where the terminal is too narrow


def list_datasets(
    source: str | None = None,
    environment: str | None = None,
    scenario: str | None = None,
    quality: str | None = None,
    discrete: bool | None = None,
    local: bool = False,
    root: Path = Path("vaults"),
    format: Literal["table", "csv", "json"] = "table",
) -> None:
    """Lists all datasets: published, embedded (recorded here), and others that lie under the root.

    Figures are the published ones, and for embedded datasets those of the recording with seed 0; "-" where there are
    none. "steps" are those of each copy where a vault holds several recordings side by side (5 x 1,000,000); episodes
    and returns are then the first copy's. A return is the sum of an agent's rewards over an episode. "won" is the share
    of episodes won, which only embedded datasets tell.

    Args:
        source: Only this source: og_marl, omiga, omar, cfcql, alberdice or embedded.
        environment: Only this environment, for example smac_v1.
        scenario: Only this scenario, for example 3m.
        quality: Only this quality, for example Good.
        discrete: true for discrete actions only, false for continuous ones only.
        local: Only vaults that lie under the root.
        root: Directory of all vaults.
        format: A table to read, or csv or json with everything that is known.
    """
    lines = listing(root, source, environment, scenario, quality, discrete, local)
    if not lines:
        sys.stderr.write(f"no dataset fits{f' among those in {str(root)!r}' if local else ''}\n")
    show({"table": _table, "csv": _csv, "json": _json}[format](lines))


def fetch_dataset(dataset: str, quality: str | None = None, root: Path = Path("vaults"), force: bool = False) -> None:
    """Downloads a published dataset from Hugging Face and unpacks it; what is there already stays.

    A broken transfer is taken up where it stopped. The archive stays in the Hugging Face cache (HF_HOME, by default
    ~/.cache/huggingface), where it may be deleted.

    Args:
        dataset: For example og_marl/smac_v1/3m; all names: lightning data list.
        quality: The one that is needed, for example Good. All of a dataset come in one archive; this only makes sure.
        root: Directory of all vaults.
        force: Unpack again and replace the vaults that are there.
    """
    before = () if force else local_qualities(root, dataset)
    fetch(dataset, quality, root, force)
    for name in local_qualities(root, dataset):
        show(f"{vault_directory(root, dataset, name)}{' (was here)' if name in before else ''}")


def verify_dataset(dataset: str, quality: str | None = None, root: Path = Path("vaults")) -> None:
    """Reads a whole vault and says everything that is wrong with it; compares it with what is published about it.

    Looks for numbers that are not finite, actions out of range or marked illegal, episodes without end, leaves that are
    missing or of unequal length, and damaged files. Leaves with exit code 1 if anything is found. Training makes the
    same checks and refuses such a vault.

    Args:
        dataset: For example og_marl/smac_v1/3m, or the directory of any vault.
        quality: For example Good; not with a directory.
        root: Directory of all vaults.
    """
    report = inspect_named(dataset, quality, root)[1]
    lines = [f"wrong: {problem}" for problem in report.problems]
    if report.left_out:
        lines.append(f"wrong: {report.left_out} more such messages")
    lines += [f"not as published: {difference}" for difference in report.differences]
    lines += [f"note: {note}" for note in report.notes]
    card = quality is not None and published_as(dataset, quality) is not None
    good = "good, and what was published" if card else "good (there is nothing published to compare it with)"
    size = f"{len(report.returns):,} episodes, {int(report.lengths.sum()):,} steps"
    lines.append(f"{report.directory}: {size}; {good if report.good else 'NOT good'}")
    show("\n".join(lines))
    if not report.good:
        raise SystemExit(1)


def describe_dataset(
    dataset: str, quality: str | None = None, root: Path = Path("vaults"), figure: Path | None = None
) -> None:
    """Prints what a vault holds and how the returns of its episodes are distributed, and draws the latter.

    Args:
        dataset: For example og_marl/smac_v1/3m, or the directory of any vault.
        quality: For example Good; not with a directory.
        root: Directory of all vaults.
        figure: File for the figure (.png, .svg, .pdf); by default returns.png, for a directory in the current one, else
            in .cache under the root.
    """
    name, report = inspect_named(dataset, quality, root)
    if report.problems:
        raise ValueError(f"{report.problems[0]} (all that is wrong with it: lightning data verify)")
    returns, lengths = report.returns, report.lengths
    rows = {
        "agents": f"{report.n_agents}",
        "observation": f"{report.obs_dim}",
        "state": f"{report.state_dim}",
        "actions": f"{report.action_dim} {'choices' if report.discrete else 'numbers in [-1, 1]'}",
        "episodes": f"{len(returns):,}",
        "steps": f"{int(lengths.sum()):,}",
        "length": f"{lengths.mean():.1f} steps, from {lengths.min()} to {lengths.max()}",
        "return": f"mean {returns.mean():.4g}, standard deviation {returns.std():.4g}, from {returns.min():.4g} to "
        f"{returns.max():.4g}",
    }
    show("\n".join([name, *(f"  {key:12} {value}" for key, value in rows.items()), *report.notes, ""]))
    show(histogram_text(returns))
    if figure is None:
        derived = root / ".cache" / dataset / quality if quality is not None else Path()
        figure = derived / "returns.png"
    histogram_figure(returns, name, figure)
    show(f"figure: {figure}")


def export_dataset(
    dataset: str, quality: str, file: Path, root: Path = Path("vaults"), critic: str | None = None
) -> None:
    """Writes a dataset, with the advantages that a critic gave its steps, into one NumPy archive (.npz).

    Args:
        dataset: For example embedded/smax/3m.
        quality: For example Mixed.
        file: File to write, ending in .npz.
        root: Directory of all vaults.
        critic: Which critic's advantages, if several have labelled the dataset; by default the latest. Their names are
            those of the files in .cache/<dataset>/<quality>/advantages under the root.
    """
    data = OfflineDataModule(dataset, quality, root, download=False)
    if not is_vault(data.vault_dir):
        raise FileNotFoundError(f"expected a vault in '{data.vault_dir}', found none; record or fetch it first")
    key = export(data, file, critic)
    show(f"{file}: {len(data.rewards):,} steps, {f'advantages of {key}' if key else 'no critic has labelled them yet'}")


def inspect_named(dataset: str, quality: str | None, root: Path) -> tuple[str, Report]:
    """A name for a vault, and what is found in it.

    Args:
        dataset: Name of a dataset, or the directory of a vault.
        quality: The dataset's quality; None with a directory.
        root: Directory of all vaults.

    Raises:
        ValueError: If it is neither a directory nor a dataset with a quality.
    """
    if quality is None:
        if not Path(dataset).is_dir():
            raise ValueError(
                f"expected the directory of a vault, or a dataset and its quality, got only {dataset!r}; for example "
                f"{dataset} {(qualities(dataset) or ('Mixed',))[0]}"
            )
        return dataset, inspect_vault(Path(dataset))
    directory = vault_directory(root, dataset, quality)
    card = published_as(dataset, quality)
    return f"{dataset} {quality}", inspect_vault(directory, out_of_range_rule(dataset, quality), card)


COMMANDS: dict[str, Callable[..., Path | None]] = {
    "list": list_datasets,
    "fetch": fetch_dataset,
    "record": record_dataset,
    "info": describe_dataset,
    "verify": verify_dataset,
    "export": export_dataset,
}
#: Parameters with a default that are nevertheless given by position, by subcommand.
OPTIONAL_POSITIONALS = {"fetch": ("quality",), "info": ("quality",), "verify": ("quality",)}


def run(words: Sequence[str]) -> None:
    """Runs a subcommand.

    Args:
        words: What follows ``lightning data`` on the command line.

    Raises:
        SystemExit: With code 2 if the words cannot be understood, 130 if the user interrupts.
    """
    parser = Parser(prog="lightning data", description="Datasets: what there is, and how to have it.")
    commands = parser.add_subcommands(dest="command")
    for name, function in COMMANDS.items():
        subparser = parser_of(function, OPTIONAL_POSITIONALS.get(name, ()))
        commands.add_subcommand(name, subparser, help=_summary(function))
        subparser.prog = f"lightning data {name}"
    parsed = parser.instantiate(parser.parse_args(list(words)))
    try:
        made = COMMANDS[parsed.command](**parsed[parsed.command].as_dict())
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None
    if made is not None:
        show(str(made))


def what_is_wrong(message: str) -> list[str]:
    """Lines of a message of jsonargparse, without those about how it tried."""
    return [line for line in str(message).splitlines() if not _NOISE.match(line)]


class Parser(ArgumentParser):
    """Says what is wrong in a line, and where the options are explained."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the message and leaves with exit code 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        lines = "\n".join(what_is_wrong(message))
        sys.stderr.write(f"error: {lines}\nAll options: {parser.prog} --help\n")
        self.exit(2)


def parser_of(
    function: Callable[..., Path | None],
    optional: Sequence[str] = (),
    positional: bool = True,
    hidden: Sequence[str] = (),
) -> Parser:
    """The options of a subcommand, from the function that does it.

    Args:
        function: Its parameters are the options, its docstring is the help.
        optional: Parameters that are given by position and may be left out.
        positional: Whether parameters without a default are given by position; else they are options, too.
        hidden: Parameters that are no options.
    """
    parser = Parser(description=_summary(function, long=True))
    parameters = inspect.signature(function).parameters
    switches = [name for name, parameter in parameters.items() if parameter.default is False]
    parser.add_function_arguments(function, as_positional=positional, skip={*switches, *optional, *hidden})
    explained = {param.arg_name: param.description for param in parse_docstring(function.__doc__ or "").params}
    for name in switches:
        parser.add_argument(f"--{name}", action="store_true", help=explained[name])
    for name in optional:
        parser.add_argument(name, nargs="?", help=explained[name])
    return parser


def _summary(function: Callable[..., Path | None], long: bool = False) -> str:
    """The first sentence of a docstring, or all but its list of arguments."""
    parsed = parse_docstring(function.__doc__ or "")
    return " ".join(f"{parsed.short_description} {parsed.long_description or '' if long else ''}".split())


def show(text: str) -> None:
    """Prints; a reader that has seen enough, such as ``head``, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it closes it


# The catalogue in three formats


def _known(line: Listed) -> dict[str, Any]:
    """Everything that is known about a vault, by ``COLUMNS``; None where nothing is."""
    source, environment, scenario = split_name(line.dataset)
    known: dict[str, Any] = asdict(line.card) if line.card else {}
    known |= {"source": source, "environment": environment, "scenario": scenario, "quality": line.quality}
    known |= {"here": line.here, "discrete": line.discrete}
    return {column: known.get(column) for column in COLUMNS}


def _json(lines: list[Listed]) -> str:
    return json.dumps([_known(line) for line in lines], indent=1)


def _csv(lines: list[Listed]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_known(line) for line in lines)
    return text.getvalue().rstrip("\n")


def _table(lines: list[Listed]) -> str:
    """A table as wide as it needs to be; on a narrow terminal without some of its columns."""
    console = Console()
    left_out: tuple[str, ...] = ()
    if console.is_terminal:
        for count in range(len(DISPENSABLE) + 1):
            left_out = DISPENSABLE[:count]
            if _width(_rich_table(lines, left_out)) <= console.width:
                break
    table = _rich_table(lines, left_out)
    wide = Console(width=_width(table), file=io.StringIO(), color_system=None)
    with wide.capture() as captured:
        wide.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def _width(table: Table) -> int:
    return Console(width=10_000).measure(table).maximum


def _rich_table(lines: list[Listed], left_out: tuple[str, ...]) -> Table:
    rows = [_cells(line) for line in lines]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in _cells(Listed("//", None, None, False)):
        if column not in left_out:
            text = column in ("dataset", "quality", "actions", "here")
            table.add_column(column, no_wrap=True, justify="left" if text else "right")
    for row in rows:
        table.add_row(*(Text(cell) for column, cell in row.items() if column not in left_out))
    return table


def _cells(line: Listed) -> dict[str, str]:
    """A line of the table."""
    card = line.card
    kind = {True: "discrete", False: "continuous", None: "-"}[line.discrete]
    cells = dict.fromkeys(
        (
            *("dataset", "quality", "agents", "obs", "state", "actions", "steps", "episodes"),
            *("mean", "std", "min", "max", "won"),
        ),
        "-",
    )
    cells |= {"dataset": line.dataset, "quality": line.quality or "-", "actions": kind}
    if card is not None:
        cells |= {
            "agents": str(card.n_agents),
            "obs": str(card.obs_dim),
            "state": f"{card.n_agents} x {card.state_dim}" if card.state_per_agent else str(card.state_dim),
            "actions": f"{card.action_dim} {kind}",
            "steps": f"{card.copies} x {card.steps:,}" if card.copies > 1 else f"{card.steps:,}",
            "episodes": f"{card.episodes:,}",
        }
        cells |= {name: f"{getattr(card, f'return_{name}'):.2f}" for name in ("mean", "std", "min", "max")}
    if isinstance(card, RecordedDataset) and card.won is not None:
        cells["won"] = f"{card.won:.1%}"
    return cells | {"here": "yes" if line.here else "-"}
