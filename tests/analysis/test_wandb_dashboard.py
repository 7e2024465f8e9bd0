"""The dashboard: built by the real library from names that real runs log; a stand-in takes the service's place."""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from callbacks.evaluation_metrics import Comparable
from callbacks.value_diagnostics import agreement
from callbacks.videos import DIRECTORY
from tests.wandb_files import Logged

pytest.importorskip("wandb_workspaces")

import wandb

from analysis import wandb_panels
from analysis.wandb_dashboard import build, main, project_tasks, specification

RETURNS, BEST = np.array([1, 2], np.float32), np.array([False, True])
WORDS = ["--entity", "e", "--project", "p"]


class Service:
    """What ``wandb.Api()`` gives, as far as it is used; keeps what is saved."""

    def __init__(self, *configs: Mapping[str, Any]) -> None:
        self.all_runs = [SimpleNamespace(config=dict(config), job_type="train") for config in configs]
        self.saved: list[dict[str, Any]] = []
        self._service_api = self
        self.app_url = "https://wandb.ai"
        self.default_entity = "e"

    def __call__(self) -> "Service":
        return self

    def runs(self, path: str) -> Sequence[Any]:
        assert path == "e/p"
        return self.all_runs

    def projects(self, entity: str) -> Sequence[Any]:
        return [SimpleNamespace(name="p")]

    def execute_graphql(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        if "upsertView" not in query:
            return {"project": {"internalId": "UHJvamVjdDox"}}
        self.saved.append(dict(variables))
        view = {"id": f"id{len(self.saved)}", "name": "nw-abc-v", "displayName": variables["displayName"]}
        project = {"name": "p", "entityName": "e"}
        told = {"description": "", "project": project, "spec": variables["spec"], "type": "runs"}
        return {"upsertView": {"view": {**view, **told}, "inserted": True}}


def fitted(task: str, model: str) -> dict[str, str]:
    return {"stage": "fit", "task": task, "model_name": model}


def panels(part: Any) -> Iterator[dict[str, Any]]:
    """All panels anywhere in a specification."""
    if isinstance(part, dict):
        if "viewType" in part:
            yield part
        for value in part.values():
            yield from panels(value)
    elif isinstance(part, list):
        for value in part:
            yield from panels(value)


def metrics_of(part: Any) -> set[str]:
    """Metrics that panels show."""
    found = set()
    for panel in panels(part):
        config = panel["config"]
        found |= {*config.get("metrics", ()), *config.get("mediaKeys", ())}
        found |= {config[axis].removeprefix("summary:") for axis in ("xAxis", "yAxis") if axis in config}
    return found


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return specification(*build("e", "p", "Baselines", ["3m", "8m"], lookup=False))


@pytest.mark.filterwarnings("ignore")
def test_every_metric_is_one_that_runs_log(spec: dict[str, Any], logged_runs: Mapping[str, Logged]):
    logged = {re.sub("/(_type|values|bins)$", "", key) for run in logged_runs.values() for key in run.summary}
    who_played = agreement({key: torch.arange(2.0) for key in ("q", "v", "advantage")}, RETURNS, BEST)
    logged |= {*who_played, DIRECTORY}  # this recording does not say who played, and nothing is filmed
    assert metrics_of(spec) - logged == set()
    assert {f"{wandb_panels.TABLE}/{part}" for part in ("path", "ncols")} <= logged
    assert wandb_panels.AXIS in logged


def test_both_views_and_report_show_all_of_it(spec: dict[str, Any]):
    names = {shown.metric for shown in (*wandb_panels.CURVES, *wandb_panels.FINAL, *wandb_panels.COST)}
    assert {"eval/return_mean", "final/return_mean", "final/ms_per_decision", "final/seconds_per_update"} <= names
    assert all(names <= metrics_of(part) for part in (*spec["workspaces"], spec["report"]))
    compared = {name.partition("/")[2] for name in names}
    assert compared & set(get_args(Comparable)) == {"return_mean", "return_iqm", "normalised_score", "win_rate"}


def test_a_view_for_all_and_one_for_each_dataset(spec: dict[str, Any]):
    views = spec["workspaces"]
    assert [view["displayName"] for view in views] == ["Baselines", "Baselines: 3m", "Baselines: 8m"]
    sections = [section["name"] for section in views[1]["spec"]["section"]["panelBankConfig"]["sections"]]
    assert sections[:3] == ["Returns over updates", "Final returns", "Cost against return"]
    assert sections[3:] == ["Value and critic", "Advantages of the data", "Films and tables"]
    everything, first = (view["spec"]["section"]["runSets"][0] for view in views[:2])
    assert chosen(everything) == [("stage", "fit")] and chosen(first) == [("stage", "fit"), ("task", "3m")]
    assert [key["name"] for key in everything["grouping"]] == ["task.value", "model_name.value"]
    assert [key["name"] for key in first["grouping"]] == ["model_name.value"]


def chosen(runs: dict[str, Any]) -> list[tuple[str, str]]:
    assert all(each["op"] == "=" for each in runs["filters"]["filters"])
    return [(each["key"]["name"], each["value"]) for each in runs["filters"]["filters"]]


def test_lines_are_means_of_a_model_over_updates(spec: dict[str, Any]):
    lines = [panel for panel in panels(spec) if panel["config"].get("metrics") == ["eval/return_mean"]]
    assert len(lines) == 3 + 2, "a view of all, two of a dataset, two chapters"
    for line in lines:
        config = line["config"]
        assert line["viewType"] == "Run History Line Plot" and config["xAxis"] == "trainer/global_step"
        assert (config["groupBy"], config["groupAgg"], config["groupArea"]) == ("model_name.value", "mean", "stderr")
    scatter = [panel["config"] for panel in panels(spec) if panel["viewType"] == "Scatter Plot"]
    assert {config["yAxis"] for config in scatter} == {"summary:final/return_mean"}
    assert "summary:final/ms_per_decision" in {config["xAxis"] for config in scatter}


def test_the_report_has_a_chapter_for_each_dataset(spec: dict[str, Any]):
    blocks = spec["report"]["spec"]["blocks"]
    heads = [block["children"][0]["text"] for block in blocks if block["type"] == "heading" and block["level"] == 1]
    assert heads == ["Protocol", "3m", "8m"]
    grids = [block["metadata"]["runSets"][0] for block in blocks if block["type"] == "panel-grid"]
    assert [chosen(runs)[1][1] for runs in grids] == ["3m", "3m", "8m", "8m"]
    assert [bool(runs["grouping"]) for runs in grids] == [True, False, True, False]
    assert [panel["viewType"] for panel in panels(spec["report"])].count("Run Comparer") == 2
    text = " ".join(block["children"][0]["text"] for block in blocks if block["type"] == "paragraph")
    assert not re.search(r"\d", re.sub(r"\b(0|100)\b", "", text)), "numbers come from the runs"


def test_saving_sends_what_was_built(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    service = Service(fitted("8m", "bc"), fitted("3m", "bc"), fitted("3m", "vgm2p"), {"stage": "test", "task": "5m"})
    monkeypatch.setattr(wandb, "Api", service)
    main([*WORDS, "--title", "Baselines"])
    assert [each["displayName"] for each in service.saved] == [
        "Baselines",
        "Baselines: 3m",
        "Baselines: 8m",
        "Baselines",
    ]
    assert [each["type"] for each in service.saved] == ["project-view"] * 3 + ["runs"]
    grids = [block for block in json.loads(service.saved[3]["spec"])["blocks"] if block["type"] == "panel-grid"]
    project = grids[0]["metadata"]["runSets"][0]["project"]
    assert (project["name"], project["entityName"]) == ("p", "e")
    assert capsys.readouterr().out.count("https://wandb.ai/e/p") == 4, "their addresses"


def test_only_some_datasets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    service = Service(fitted("8m", "bc"), fitted("3m", "bc"))
    monkeypatch.setattr(wandb, "Api", service)
    main([*WORDS, "--tasks", "8m"])
    assert [each["displayName"].rpartition(": ")[2] for each in service.saved[:2]] == ["Comparison of models", "8m"]
    with pytest.raises(SystemExit):
        main([*WORDS, "--tasks", "9m"])
    assert "--tasks: expected datasets of the project, got '9m'; it has 3m, 8m" in capsys.readouterr().err


def test_a_dry_run_needs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def refuse() -> None:
        raise AssertionError("nobody may be asked")

    monkeypatch.setattr(wandb, "Api", refuse)
    main([*WORDS, "--dry_run", str(tmp_path / "new" / "spec.json"), "--tasks", "3m"])
    written = json.loads((tmp_path / "new" / "spec.json").read_text())
    assert len(written["workspaces"]) == 2 and [path.name for path in (tmp_path / "new").iterdir()] == ["spec.json"]
    main([*WORDS, "--dry_run"])
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["workspaces"]) == 1 and metrics_of(shown) == metrics_of(written)


def test_datasets_and_models_of_a_project():
    service = Service(fitted("8m", "bc"), fitted("3m", "vgm2p"), fitted("3m", "bc"), fitted("3m", "bc"), {"lr": "1"})
    assert project_tasks("e", "p", service) == {"3m": ["bc", "vgm2p"], "8m": ["bc"]}


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def message(*words: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([*WORDS, *words])
        assert stopped.value.code == 2
        return capsys.readouterr().err

    monkeypatch.setattr(wandb, "Api", Service())
    assert "error: expected runs in 'e/p', found none; upload offline runs with 'wandb sync'" in message()
    monkeypatch.setattr(wandb, "Api", Service({"stage": "test", "task": "3m"}))
    assert "expected training runs in 'e/p'" in message()

    def no_login() -> None:
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "Api", no_login)
    assert "not logged in to Weights & Biases (No API key configured.): run 'wandb login'" in message()

    class NoProject(Service):
        def runs(self, path: str) -> Sequence[Any]:
            raise ValueError("Could not find project p")

    monkeypatch.setattr(wandb, "Api", NoProject())
    assert "expected a project 'e/p' that you may read, the service says: Could not find project p" in message()
    monkeypatch.delitem(sys.modules, "analysis.wandb_panels")
    monkeypatch.delattr("analysis.wandb_panels")
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    needed = "the dashboard needs wandb and wandb-workspaces"
    assert needed in message("--dry_run") and needed in message()
