"""Builds a dashboard of a Weights & Biases project: workspaces with panels, and a report that compares models.

python -m analysis.wandb_dashboard --entity ENTITY --project vgm2p             saves them, prints their addresses
python -m analysis.wandb_dashboard --entity ENTITY --project vgm2p --dry_run   prints what would be saved, as JSON

The first needs a login (``wandb login``) and runs in the project; the second needs neither. Each call makes new views
and a new report, and changes none of before.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whole_files import written_whole

TITLE = "Comparison of models"
PREVIEW = "-"  # for --dry_run without a file: the screen


def project_tasks(entity: str, project: str, api: Any = None) -> dict[str, list[str]]:
    """The datasets of a project's training runs, as its runs call them.

    Args:
        entity: User or team.
        project: Its project.
        api: A ``wandb.Api``; by default a new one, with the login of the user.

    Returns:
        For each dataset the names of the models that were trained on it, both sorted.

    Raises:
        ImportError: If wandb is not installed.
        PermissionError: If the user is not logged in, or the project is not theirs to read.
        ValueError: If there is no such project, or it has no run that says what it is.
    """
    path = f"{entity}/{project}"
    import wandb

    try:
        runs = list((api or wandb.Api()).runs(path))
    except wandb.errors.UsageError as error:
        raise PermissionError(
            f"not logged in to Weights & Biases ({error}): run 'wandb login', or add --dry_run"
        ) from error
    except (ValueError, wandb.errors.CommError) as error:
        raise ValueError(
            f"expected a project '{path}' that you may read, the service says: {error}; check --entity and --project, "
            "and upload offline runs with 'wandb sync'"
        ) from error
    if not runs:
        raise ValueError(f"expected runs in '{path}', found none; upload offline runs with 'wandb sync'")
    tasks: dict[str, set[str]] = {}
    for run in runs:
        if run.config.get("stage") == "fit" and "task" in run.config:
            tasks.setdefault(str(run.config["task"]), set()).add(str(run.config.get("model_name")))
    if not tasks:
        raise ValueError(
            f"expected training runs in '{path}' whose configuration says 'stage' and 'task', found {len(runs)} that "
            "do not; callbacks.RunMetadata writes both: has it been among trainer.callbacks?"
        )
    return {task: sorted(tasks[task]) for task in sorted(tasks)}


def build(entity: str, project: str, title: str, tasks: Sequence[str], lookup: bool = True) -> tuple[list[Any], Any]:
    """Makes workspaces and report, without saving them.

    Args:
        entity: User or team.
        project: Its project.
        title: Title of the report and of the view of all runs; views of a dataset add its name.
        tasks: The datasets; may be empty.
        lookup: Whether saving the report may ask the service for the project.

    Returns:
        The workspaces, that of all runs first, and the report.

    Raises:
        ImportError: If wandb-workspaces is not installed.
    """
    try:
        from analysis import wandb_panels
    except ImportError as error:
        raise ImportError(
            f"the dashboard needs wandb and wandb-workspaces ({error}): pip install -e '.[wandb]'"
        ) from error
    views = [wandb_panels.workspace(entity, project, title)]
    views += [wandb_panels.workspace(entity, project, f"{title}: {task}", task) for task in tasks]
    return views, wandb_panels.report(entity, project, title, tasks, lookup)


def specification(views: Sequence[Any], report: Any) -> dict[str, Any]:
    """What would be sent to the service.

    Args:
        views: As ``build`` gives them.
        report: As ``build`` gives it, with ``lookup`` off.
    """
    return {
        "workspaces": [view._to_model().model_dump(mode="json", by_alias=True, exclude_none=True) for view in views],
        "report": report._to_model().model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
        words: Of the command line; by default the process's own.

    Raises:
        SystemExit: With code 2 if something is wrong; the message says what to do.
    """
    asked = _parser().parse_args(words)
    try:
        if asked.dry_run is not None:
            views, report = build(asked.entity, asked.project, asked.title, asked.tasks, lookup=False)
            _show(json.dumps(specification(views, report), indent=2), asked.dry_run)
            return
        build(asked.entity, asked.project, asked.title, [])  # says what is not installed before anything is asked
        found = project_tasks(asked.entity, asked.project)
        for task in asked.tasks:
            if task not in found:
                raise ValueError(f"--tasks: expected datasets of the project, got '{task}'; it has {', '.join(found)}")
        views, report = build(asked.entity, asked.project, asked.title, asked.tasks or list(found))
        for made in (*views, report):
            made.save()
            print(made.url)
    except (ImportError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.wandb_dashboard",
        description="Builds workspaces and a report in a Weights & Biases project, which compare its runs.",
    )
    parser.add_argument("--entity", required=True, help="user or team that the project belongs to")
    parser.add_argument("--project", required=True, help="the project; configs/*.yaml log to vgm2p")
    parser.add_argument("--title", default=TITLE, help=f"title of report and views (default: {TITLE})")
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=[],
        metavar="TASK",
        help="only these datasets: names of a grid's file, or dataset and quality such as 'embedded/smax/3m Mixed' "
        "(default: all of the project; with --dry_run none, one chapter of all runs)",
    )
    parser.add_argument(
        "--dry_run",
        nargs="?",
        const=PREVIEW,
        metavar="FILE",
        help="save nothing there; print what would be saved as JSON, or write it to FILE. Needs no network, no login",
    )
    return parser


def _show(text: str, where: str) -> None:
    """Prints, or writes a whole file."""
    if where == PREVIEW:
        print(text)
        return
    with written_whole(Path(where)) as unfinished:
        unfinished.write_text(text + "\n")


if __name__ == "__main__":
    main()
