"""Published numbers beside ours: in a section of their own, in no mean, rank or figure."""

import pandas as pd

from analysis.protocol import statement
from analysis.published import beside, protocols, published
from analysis.report.blocks import Cell, Head, Section, Shown, Table, Words, count, number, plain_names, table_of
from analysis.report.material import Material
from analysis.runs import OURS


def published_section(material: Material) -> Section:
    """What others have printed about the same recordings, or that nobody has."""
    tables: list[Table] = []
    found: list[pd.DataFrame] = []
    for unit in ("return", "score"):
        ours = material.rows[material.rows[unit].notna()]
        if not _known(ours, unit):
            continue
        both = beside(ours, unit)
        found.append(both)
        groups = list(both.groupby(["dataset", "quality"], sort=False))
        names = plain_names([f"{dataset} {quality}" for (dataset, quality), _ in groups])
        tables += [
            _table(some, unit, f"{dataset} {quality}", f"published-{unit}-{names[f'{dataset} {quality}']}")
            for (dataset, quality), some in groups
        ]
    if not tables:
        words = (
            "Nothing that was published can stand beside these results: no paper reports about the same recordings. "
            "Embedded datasets are recordings of our own in other simulators.",
        )
        return Section("published", "Published numbers", (Words(words),))
    before = Words(
        (
            "What papers print about the same recordings, in the same unit. These numbers were measured in other ways, "
            "named below, and enter no mean, no order and no figure of this report.",
        )
    )
    how = Words([f"ours: {statement(material.rows)}", *protocols(pd.concat(found))], "list")
    return Section("published", "Published numbers", (before, how, *tables))


def _known(ours: pd.DataFrame, unit: str) -> bool:
    """Whether anything in this unit was published about one of the recordings."""
    theirs = published()
    theirs = theirs[(theirs["unit"] == unit) & (theirs["spread_kind"] != "std over episodes")]
    pairs = set(zip(theirs["dataset"], theirs["quality"], strict=True))
    return any(pair in pairs for pair in zip(ours["dataset"], ours["quality"], strict=True))


def _table(some: pd.DataFrame, unit: str, recording: str, name: str) -> Table:
    columns: list[tuple[Head, Shown]] = [
        (Head("method", number=False), lambda row: Cell(row["method"], strong=row["origin"] == OURS)),
        (Head("origin", number=False), lambda row: Cell(row["origin"])),
        (Head(unit), lambda row: Cell(number(row["value"]))),
        (Head("std over seeds"), lambda row: Cell(number(row["std"], 3))),
        (Head("seeds"), lambda row: Cell(count(row["seeds"]))),
        (Head("from", number=False), lambda row: Cell(row["from"])),
        (Head("note", number=False), lambda row: Cell(str(row["note"]))),
    ]
    return table_of(name, f"{recording}: {unit}. Ours in bold.", some, columns)
