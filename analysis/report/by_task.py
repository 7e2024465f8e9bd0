"""What is known about the models of one task, as frames and as tables."""

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.report.blocks import NOTHING, Cell, Head, Shown, Table, between, count, number, share, table_of
from analysis.tables import task_table

DATA = "the data"  # the row of an evaluation that says what the recorded episodes earned
STAGES = ("critic", "credit", "policy")
#: Means over runs, by column of the results.
MEANS = {
    "error": "return_error",
    "iqm": "return_iqm",
    **{name: name for name in ("score", "won", "length", "calls_per_decision", "ms_per_decision", "parameters")},
    **{name: name for name in ("episodes", "lost", "updates")},
    **{f"{stage}_seconds": f"{stage}_seconds_per_update" for stage in STAGES},
    "wall_seconds": "wall_seconds",
}


def compared(rows: pd.DataFrame, repetitions: int) -> pd.DataFrame:
    """The models of one task.

    Args:
        rows: One row for each run of the task, all with a return.
        repetitions: Draws of the bootstrap.

    Returns:
        One row for each model, the best first: task, place, model, algorithm, policy, checkpoint, seeds, return (mean
        over seeds), low and high (95 % interval, empty with one seed), std (over seeds), p, best, as_good; means over
        seeds of ``MEANS``; updates per second by stage (from the mean time of an update), wall_minutes, runs.
    """
    table = task_table(rows, repetitions=repetitions).rename(columns={"mean": "return"})
    table.loc[table["seeds"] < 2, ["low", "high"]] = float("nan")  # a single value has no interval
    table.insert(1, "place", range(1, len(table) + 1))
    groups = rows.groupby("model", sort=False)
    means = groups.agg(**{name: (column, "mean") for name, column in MEANS.items()})
    said = groups[["algorithm", "checkpoint"]].first().assign(policy=groups["policy"].agg(_joined))
    found = table.merge(said, left_on="model", right_index=True).merge(means, left_on="model", right_index=True)
    for stage in STAGES:
        found[f"{stage}_updates_per_second"] = 1 / found.pop(f"{stage}_seconds")
    found["wall_minutes"] = found.pop("wall_seconds") / 60
    return found.merge(groups["run"].agg(_joined).rename("runs"), left_on="model", right_index=True)


def of_the_data(rows: pd.DataFrame) -> pd.DataFrame:
    """What the recorded episodes of a task earned, once for each different recording that its runs learned from.

    Args:
        rows: All rows of the task.

    Returns:
        models (who learned from it), return, std, iqm, score, won, length, episodes.
    """
    data = rows[rows["policy"] == DATA]
    columns = {"return": "return", "return_std": "std", "return_iqm": "iqm", "score": "score", "won": "won"}
    columns |= {"length": "length", "episodes": "episodes"}
    found = data.assign(key=data["return"].round(9)).groupby("key", sort=False)
    values = found[list(columns)].first().rename(columns=columns)
    values.insert(0, "models", found["model"].agg(_joined))
    return values.reset_index(drop=True)


def policies(rows: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """All ways in which the models were played, of those that were played in more than one.

    Args:
        rows: Those of a task with certain weights, with all policies.
        models: In which order.

    Returns:
        One row for each model and policy: model, policy, main, seeds, return, std (over seeds), error, iqm, score, won,
        calls_per_decision, ms_per_decision.
    """
    played = rows[(rows["policy"] != DATA) & rows["return"].notna()]
    several = played.groupby("model")["policy"].nunique()
    played = played[played["model"].isin(several[several > 1].index)]
    groups = played.groupby(["model", "policy"], sort=False)
    names = ("score", "won", "calls_per_decision", "ms_per_decision")
    found = groups.agg(
        main=("main", "any"),
        seeds=("seed", "nunique"),
        mean=("return", "mean"),
        std=("return", "std"),
        error=("return_error", "mean"),
        iqm=("return_iqm", "mean"),
        **{name: (name, "mean") for name in names},
    )
    found = found.rename(columns={"mean": "return"}).reset_index()
    return found.sort_values("model", key=lambda names: names.map(list(models).index), kind="stable", ignore_index=True)


def main_table(found: pd.DataFrame, data: pd.DataFrame, name: str, anchors: Mapping[str, str]) -> Table:
    """The table of a task, with the data below the models.

    Args:
        found: As ``compared`` gives it.
        data: As ``of_the_data`` gives it.
        name: Stem of its CSV file.
        anchors: Where the runs of a model are listed.
    """
    optional: list[tuple[str, Head, Shown]] = [
        ("std", Head("std"), lambda row: Cell(number(row["std"], 3))),
        ("low", Head("95 % interval"), lambda row: Cell(between(row["low"], row["high"]))),
        ("error", Head("s.e."), lambda row: Cell(number(row["error"], 2))),
        ("iqm", Head("IQM"), lambda row: Cell(number(row["iqm"]))),
        ("score", Head("score"), lambda row: Cell(number(row["score"], 3))),
        ("won", Head("won"), lambda row: Cell(share(row["won"]))),
        ("length", Head("steps"), lambda row: Cell(number(row["length"], 3))),
        ("calls_per_decision", Head("calls"), lambda row: Cell(number(row["calls_per_decision"], 2))),
        ("ms_per_decision", Head("ms"), lambda row: Cell(number(row["ms_per_decision"], 3))),
        ("parameters", Head("parameters"), lambda row: Cell(count(row["parameters"]))),
        ("updates", Head("updates"), lambda row: Cell(count(row["updates"]))),
        *((f"{stage}_updates_per_second", Head(f"{stage}/s"), _rate(stage)) for stage in STAGES),
        ("wall_minutes", Head("minutes"), lambda row: Cell(number(row["wall_minutes"], 2))),
    ]
    columns: list[tuple[Head, Shown]] = [
        (Head("model", number=False), lambda row: Cell(row["model"], link=anchors.get(row["model"]))),
        (Head("place"), lambda row: Cell(count(row["place"]))),
        (Head("seeds"), lambda row: Cell(count(row["seeds"]))),
        (Head("return"), _marked),
        *((head, shown) for column, head, shown in optional if found[column].notna().any()),
    ]
    caption = "Bold is the best return; * is not told from it by a Welch t-test (p ≥ 0.05, uncorrected)."
    table = table_of(name, caption, found, columns)
    return Table(name, caption, table.heads, [*table.rows, *_data_rows(data, table.heads)], found)


def policies_table(found: pd.DataFrame, name: str) -> Table:
    """A table of all ways in which models were played.

    Args:
        found: As ``policies`` gives it.
        name: Stem of its CSV file.
    """
    columns: list[tuple[Head, Shown]] = [
        (Head("model", number=False), lambda row: Cell(row["model"])),
        (Head("policy", number=False), lambda row: Cell(row["policy"], strong=bool(row["main"]))),
        (Head("seeds"), lambda row: Cell(count(row["seeds"]))),
        (Head("return"), lambda row: Cell(number(row["return"]))),
        (Head("std"), lambda row: Cell(number(row["std"], 3))),
        (Head("s.e."), lambda row: Cell(number(row["error"], 2))),
        (Head("IQM"), lambda row: Cell(number(row["iqm"]))),
        (Head("score"), lambda row: Cell(number(row["score"], 3))),
        (Head("won"), lambda row: Cell(share(row["won"]))),
        (Head("calls"), lambda row: Cell(number(row["calls_per_decision"], 2))),
        (Head("ms"), lambda row: Cell(number(row["ms_per_decision"], 3))),
    ]
    caption = "The same weights, played in other ways. Bold stands for the model everywhere else in this report."
    return table_of(name, caption, found, columns)


def _data_rows(data: pd.DataFrame, heads: Sequence[Head]) -> list[list[Cell]]:
    """The recorded episodes, below the same heads."""
    rows = []
    for _, row in data.iterrows():
        known = {
            "model": "the data" if len(data) == 1 else f"the data of {row['models'].replace(';', ', ')}",
            "return": number(row["return"]),
            "IQM": number(row["iqm"]),
            "score": number(row["score"], 3),
            "won": share(row["won"]),
            "steps": number(row["length"], 3),
        }
        rows.append([Cell(known.get(head.text, NOTHING)) for head in heads])
    return rows


def _marked(row: pd.Series) -> Cell:
    text = number(row["return"])
    return Cell(text if row["best"] or not row["as_good"] else f"{text} *", strong=bool(row["best"]))


def _rate(stage: str) -> Shown:
    return lambda row: Cell(number(row[f"{stage}_updates_per_second"], 3))


def _joined(values: pd.Series) -> str:
    return ";".join(dict.fromkeys(str(value) for value in values.dropna()))
