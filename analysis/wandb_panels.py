"""What the dashboard shows: panels and text of a workspace and of a report, built with wandb-workspaces.

Every number comes from the runs; nothing here is typed by hand. A panel of a metric that a project never logged stays
empty in the browser.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

AXIS = "trainer/global_step"
MODEL, TASK, STAGE = "model_name", "task", "stage"  # callbacks.RunMetadata writes them into every run's configuration
PROTOCOL = (
    "Each point of a curve is a rollout of RolloutEvaluation while training, from always the same starts (its seed), "
    "with the weights at that time, not the best of several. A line is the mean over the runs of a model (its seeds), "
    "the area its standard error. Updates of all stages count, so the curve of an algorithm with stages begins after "
    "its critic.",
    "Final numbers (final/...) are those of the last weights at the end of training, usually over more episodes, of "
    "the policy that acts by default, or of the one that the grid's file names for the model. The numbers of "
    "episodes are under trainer.callbacks in a run's configuration. No weights and no options are chosen by "
    "these numbers.",
    "normalised_score is 0 for random teams and 100 for experts, where both returns are known. Times depend on the "
    "machine: compare them between runs of one machine only.",
)


class Shown(NamedTuple):
    """A metric and how it is called in a title."""

    metric: str
    title: str


CURVES = (
    Shown("eval/return_mean", "Return"),
    Shown("eval/normalised_score", "Normalised score"),
    Shown("eval/win_rate", "Share of episodes won"),
)
FINAL = (
    Shown("final/return_mean", "Final return"),
    Shown("final/return_iqm", "Final return, mean of the middle half"),
    Shown("final/normalised_score", "Final normalised score"),
    Shown("final/win_rate", "Final share of episodes won"),
)
COST = (
    Shown("final/ms_per_decision", "milliseconds per decision"),
    Shown("final/seconds_per_update", "seconds per update"),
    Shown("final/network_calls", "network calls per decision"),
    Shown("final/parameters", "parameters of the acting networks"),
)
DIAGNOSTICS = (
    Shown("value/held_out_error", "Held-out error of the critic"),
    Shown("value/q_return_correlation", "Correlation of Q and what followed"),
    Shown("value/advantage_return_correlation", "Correlation of A and what followed"),
    Shown("value/separation", "Best behaviour told from the others by A"),
    Shown("value/q_data_mean", "Q of recorded actions"),
    Shown("value/q_policy_mean", "Q of the policy's actions"),
)
LABELS = (
    Shown("value/stored_advantage_positive_share", "Share of good labels"),
    Shown("value/stored_credit_positive_share", "Share of good labels, after the credit's stage"),
)
HISTOGRAMS = (Shown("value/stored_advantage", "Advantages"), Shown("value/stored_credit", "Credits"))
TABLE, FILMS = "final/table", "videos"


def workspace(entity: str, project: str, title: str, task: str | None = None) -> ws.Workspace:
    """A saved view of a project: sections of panels over all its training runs, grouped by model.

    All panels of a workspace show the same runs; for a panel per dataset there is a workspace per dataset, and the
    report.

    Args:
        entity: User or team.
        project: Its project.
        title: Name of the view.
        task: The dataset whose runs are shown; None shows all, grouped by dataset and model.
    """
    groups = [expr.Config(MODEL)] if task else [expr.Config(TASK), expr.Config(MODEL)]
    films = wr.MediaBrowser(title="Films", media_keys=[FILMS], num_columns=2)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=title,
        sections=[
            ws.Section(name="Returns over updates", is_open=True, panels=[_curve(shown) for shown in CURVES]),
            ws.Section(name="Final returns", is_open=True, panels=[_bars(shown) for shown in FINAL]),
            ws.Section(name="Cost against return", is_open=True, panels=[_scatter(shown) for shown in COST]),
            ws.Section(name="Value and critic", panels=[*map(_curve, DIAGNOSTICS), *map(_bars, LABELS)]),
            ws.Section(name="Advantages of the data", panels=[_histogram(shown) for shown in HISTOGRAMS]),
            ws.Section(name="Films and tables", panels=[films, wr.WeavePanelSummaryTable(table_name=TABLE)]),
        ],
        settings=ws.WorkspaceSettings(x_axis=AXIS, max_runs=50),
        runset_settings=ws.RunsetSettings(
            filters=_filters(task),
            groupby=groups,
            pinned_columns=[f"summary:{shown.metric}" for shown in FINAL[:1] + COST[:2]],
        ),
    )


def report(entity: str, project: str, title: str, tasks: Sequence[str], lookup: bool = True) -> wr.Report:
    """A report that compares models: for each dataset curves, final numbers, cost, and what the runs differ in.

    Args:
        entity: User or team.
        project: Its project.
        title: Its title, at most 128 characters.
        tasks: Datasets, one chapter each; without any there is one chapter of all runs.
        lookup: Name the project in each set of runs, which asks the service for the project's number. Otherwise they
            are those of the project that the report is saved in.
    """
    where = {"entity": entity, "project": project} if lookup else {}
    chosen: Sequence[str | None] = tasks or [None]
    chapters = [block for task in chosen for block in _chapter(task, where)]
    protocol = [wr.H1("Protocol"), *(wr.P(text) for text in PROTOCOL)]
    return wr.Report(
        entity=entity,
        project=project,
        title=title,
        description="Models compared on the same data, axes and starts; every number comes from the runs.",
        blocks=[wr.TableOfContents(), *protocol, *chapters],
        width="fluid",
    )


def _chapter(task: str | None, where: dict[str, str]) -> list[Any]:
    """A dataset: grouped by model what can be averaged, run by run what cannot."""
    groups = [f"config.{MODEL}"] if task else [f"config.{TASK}", f"config.{MODEL}"]
    name = task or "All runs"
    grouped = wr.Runset(**where, name=f"{name}, by model", filters=_filters(task), groupby=groups)
    single = wr.Runset(**where, name=f"{name}, run by run", filters=_filters(task))
    measured = [
        *(_curve(shown, _at(index, 3)) for index, shown in enumerate(CURVES)),
        *(_bars(shown, _at(index, 4, row=1)) for index, shown in enumerate(FINAL)),
        *(_curve(shown, _at(index, 3, row=2)) for index, shown in enumerate(DIAGNOSTICS)),
    ]
    compared = [
        *(_scatter(shown, _at(index, 4)) for index, shown in enumerate(COST)),
        wr.RunComparer(diff_only="split", layout=wr.Layout(x=0, y=8, w=24, h=12)),
    ]
    return [
        wr.H1(name),
        wr.H2("Returns, and whether the critic can be trusted"),
        wr.PanelGrid(runsets=[grouped], panels=measured),
        wr.H2("Cost, and what the runs differ in"),
        wr.PanelGrid(runsets=[single], panels=compared),
    ]


def _filters(task: str | None) -> list[Any]:
    """Runs that were trained; those of ``lightning test`` play weights that are there already."""
    trained = expr.Config(STAGE) == "fit"
    return [trained] if task is None else [trained, expr.Config(TASK) == task]


def _at(index: int, columns: int, row: int = 0) -> wr.Layout:
    """A place in a grid of 24 columns, whose panels are 8 rows high."""
    width = 24 // columns
    return wr.Layout(x=width * (index % columns), y=8 * (row + index // columns), w=width, h=8)


def _placed(layout: wr.Layout | None) -> dict[str, wr.Layout]:
    return {} if layout is None else {"layout": layout}


def _curve(shown: Shown, layout: wr.Layout | None = None) -> wr.LinePlot:
    """Over updates: a line for the mean of each model's runs, the area around it their standard error."""
    return wr.LinePlot(
        title=shown.title,
        x=AXIS,
        y=[shown.metric],
        title_x="updates",
        groupby=wr.Config(MODEL),
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=100,
        **_placed(layout),
    )


def _bars(shown: Shown, layout: wr.Layout | None = None) -> wr.BarPlot:
    """A bar for the mean of each model's runs, with their standard error."""
    return wr.BarPlot(
        title=shown.title,
        metrics=[shown.metric],
        groupby=wr.Config(MODEL),
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=100,
        max_bars_to_show=50,
        **_placed(layout),
    )


def _scatter(shown: Shown, layout: wr.Layout | None = None) -> wr.ScatterPlot:
    """A point for each run: what it costs, and what it earns."""
    return wr.ScatterPlot(
        title=f"Final return against {shown.title}",
        x=wr.SummaryMetric(shown.metric),
        y=wr.SummaryMetric(FINAL[0].metric),
        log_x=True,
        **_placed(layout),
    )


def _histogram(shown: Shown) -> wr.LinePlot:
    """Which values how often; W&B draws it for one run at a time."""
    return wr.LinePlot(title=shown.title, x=AXIS, y=[shown.metric])
