"""Where every number comes from: settings, versions and machines, and each run with its command line."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.report.blocks import NOTHING, Cell, Head, Section, Shown, Table, Words, count, number, several, table_of
from analysis.report.material import Material
from analysis.report.sources import cell_name


def settings(material: Material) -> Section:
    """How the runs were configured, and with what they were run."""
    frame = material.sources.settings
    frame = frame[frame["model"].isin(["", *material.models]) & frame["task"].isin(["", *material.tasks])]
    parts: list[Words | Table | Section] = []
    if frame.empty:
        parts.append(Words(("Neither the directories of the runs nor settings.csv lie beside the results.",)))
    else:
        order = {model: place for place, model in enumerate(material.models)}
        own = frame[frame["model"] != ""].sort_values("model", key=lambda names: names.map(order), kind="stable")
        parts.append(Words(("What all have in common is said once; the rest is where it belongs.",)))
        for name, title, some in (
            ("settings-models", "Settings of a model, or of a model on one task", own),
            ("settings-tasks", "Settings of a task", frame[(frame["model"] == "") & (frame["task"] != "")]),
            (
                "settings-common",
                "Settings that are the same wherever they exist",
                frame[frame["model"] == frame["task"]],
            ),
        ):
            if len(some):
                parts.append(Section(name, title, (_settings_table(name, title, some),), folded=True))
    parts.append(_calls(material.sources.grid.get("calls", ())))
    return Section("settings", "Settings, versions and machines", parts)


def runs(material: Material, out: Path) -> Section:
    """Each run with its directory, commit and command line, in a folded table for each task.

    Args:
        material: The results.
        out: Directory of the report, where links to runs start.
    """
    parts = []
    for task in material.tasks:
        rows = material.rows[material.rows["task"] == task]
        order = list(material.found[task]["model"])
        rows = rows.sort_values("model", key=lambda names: names.map(order.index), kind="stable")
        name = material.task_names[task]
        parts.append(
            Section(f"runs-{name}", f"{task}: {several(len(rows), 'run')}", (_runs(material, rows, name, out),), True)
        )
    return Section("runs", "Runs", parts)


def _runs(material: Material, rows: pd.DataFrame, name: str, out: Path) -> Table:
    commands = material.sources.commands
    columns = ["task", "model", "seed", "policy", "checkpoint", "return", "updates", "wall_seconds", "commit", "run"]
    frame = rows[columns].assign(command=[commands.get(cell_name(row), "") for _, row in rows.iterrows()])
    first = frame.drop_duplicates("model")
    anchors = {label: material.anchor(row["task"], row["model"]) for label, row in first.iterrows()}
    shown: list[tuple[Head, Shown]] = [
        (Head("model", number=False), lambda row: Cell(row["model"], anchor=anchors.get(row.name))),
        (Head("seed"), lambda row: Cell(str(row["seed"]))),
        (Head("policy", number=False), lambda row: Cell(row["policy"])),
        (Head("return"), lambda row: Cell(number(row["return"]))),
        (Head("updates"), lambda row: Cell(count(row["updates"]))),
        (Head("commit", number=False), lambda row: Cell(_text(row["commit"])[:12], code=True)),
        (Head("run", number=False), lambda row: _run(row["run"], material.sources.directory, out)),
        (Head("command line", number=False), lambda row: Cell(row["command"] or NOTHING, code=True)),
    ]
    return table_of(f"runs-{name}", "One row for each run; the same command line gives the run again.", frame, shown)


def _run(run: Any, directory: Path, out: Path) -> Cell:
    """The directory of a run, as a link if it is there."""
    text = _text(run)
    there = text != NOTHING and not Path(text).is_absolute() and (directory / text).is_dir()
    link = Path(os.path.relpath(directory / text, out)).as_posix() + "/" if there else None
    return Cell(text, link=link, code=True)


def _settings_table(name: str, title: str, frame: pd.DataFrame) -> Table:
    columns: list[tuple[Head, Shown]] = [(Head("setting", number=False), lambda row: Cell(row["setting"], code=True))]
    if (frame["model"] != "").any():
        columns.insert(0, (Head("model", number=False), lambda row: Cell(row["model"])))
    if (frame["task"] != "").any():
        columns.insert(-1, (Head("task", number=False), lambda row: Cell(row["task"] or "all its tasks")))
    columns.append((Head("value", number=False), lambda row: Cell(row["value"], code=True)))
    return table_of(name, f"{title}.", frame, columns)


def _calls(calls: Any) -> Table | Words:
    """With what the grid was run, each time that it was run in another way."""
    rows: list[dict[str, Any]] = []
    for call in calls:
        row = _call(call)
        if not rows or any(rows[-1][key] != row[key] for key in row if key != "began"):
            rows.append(row)
    if not rows:
        return Words(("No grid.json lies beside the results: versions and machine are not known.",))
    frame = pd.DataFrame(rows)
    columns = [(Head(name, number=False), _as_it_is(name)) for name in frame.columns]
    return table_of(
        "machines", "With what the grid was run; a row for each time that anything changed.", frame, columns
    )


def _as_it_is(name: str) -> Shown:
    return lambda row: Cell(str(row[name]), code=name == "command")


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    words = [str(word) for word in call.get("command") or ()]
    code, machine = call.get("code") or {}, call.get("hardware") or {}
    changed = " with changed files" if code.get("changed_files") else ""
    return {
        "began": call.get("began", NOTHING),
        "command": " ".join(["lightning", *words[1:]]) if words else NOTHING,
        "jobs": call.get("jobs", NOTHING),
        "threads each": call.get("threads_per_cell", NOTHING),
        "code": f"{(code.get('commit') or NOTHING)[:12]}{changed}",
        "processor": f"{machine.get('processor', NOTHING)}, {machine.get('usable_cores', NOTHING)} cores",
        "GPUs": ", ".join(machine.get("gpus") or ()) or "none",
        "system": machine.get("system", NOTHING),
        "versions": ", ".join(f"{name} {version}" for name, version in (call.get("versions") or {}).items()),
    }


def _text(value: Any) -> str:
    return NOTHING if value is None or pd.isna(value) else str(value)
