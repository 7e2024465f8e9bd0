"""What models reach in the training time of VGM2P, for one task."""

import pandas as pd

from analysis.equal_time import returns_at_equal_time
from analysis.report.blocks import Cell, Head, Section, Shown, Table, count, number, table_of
from analysis.report.material import Material

REFERENCE = "vgm2p"


def at_equal_time(material: Material, task: str) -> Section | None:
    """The section; None if the reference was not run, or times or curves are not known.

    Args:
        material: The results; only final weights have a time.
        task: Which one.
    """
    rows = material.rows[(material.rows["task"] == task) & material.rows["train_seconds"].notna()]
    if material.checkpoint != "final" or REFERENCE not in set(rows["model"]) or rows["model"].nunique() < 2:
        return None
    try:
        read = returns_at_equal_time(rows, material.sources.curves, REFERENCE)
    except ValueError:  # a curve that is not there
        return None
    name = material.task_names[task]
    return Section(f"time-{name}", f"{task}: in the training time of {REFERENCE}", (_table(read, name),), folded=True)


def _table(read: pd.DataFrame, name: str) -> Table:
    found = read.groupby("model", as_index=False).agg(
        seeds=("seed", "nunique"),
        at_equal_time=("return", "mean"),
        std=("return", "std"),
        time=("share", "first"),
        update=("update", "mean"),
    )
    found = found.sort_values("at_equal_time", ascending=False, ignore_index=True)
    columns: list[tuple[Head, Shown]] = [
        (Head("model", number=False), lambda row: Cell(row["model"], strong=row["model"] == REFERENCE)),
        (Head("seeds"), lambda row: Cell(count(row["seeds"]))),
        (Head("return"), lambda row: Cell(number(row["at_equal_time"]))),
        (Head("std"), lambda row: Cell(number(row["std"], 3))),
        (Head("time for all updates"), lambda row: Cell(f"{number(row['time'], 3)} ×")),
        (Head("read at update"), lambda row: Cell(count(row["update"]))),
    ]
    caption = (
        f"Each run where {read['seconds'].iloc[0]:,.0f} seconds of training end, which is what {REFERENCE} takes for "
        "all of its updates: slower ones between two evaluations of their curve, faster ones at their end (they could "
        "go on). Times are medians over seeds, and as comparable as the machine's load was equal."
    )
    return table_of(f"time-{name}", caption, found, columns)
