"""Whether VGM2P's claims hold, for the results of configs/benchmark/claims.yaml."""

import pandas as pd

from analysis.claims import tables, verdicts
from analysis.report.blocks import Cell, Head, Section, Shown, Table, Words, count, number, plain, table_of
from analysis.report.material import Material


def claims_section(material: Material) -> Section | None:
    """The section; None for other results, whose models are not called <algorithm>+<option>+<value>.

    Args:
        material: The results.
    """
    if material.checkpoint != "final" or not any("+" in model for model in material.models):
        return None
    results = material.sources.results
    try:
        found, sentences = tables(results), verdicts(results)
    except ValueError as error:
        words = Words((f"The claims cannot be judged yet: {error}",), "warning")
        return Section("claims", "Claims", (words,))
    shown = [_table(title, table) for title, table in found.items()]
    return Section("claims", "Where the claims hold", (Words(sentences, "list"), *shown))


def _table(title: str, table: pd.DataFrame) -> Table:
    columns: list[tuple[Head, Shown]] = []
    for column in table.columns:
        text = table[column].dtype == object or column in ("task", "family", "option", "model")
        columns.append((Head(str(column), number=not text), _shown(str(column), text)))
    return table_of(f"claims-{plain(title)}", title, table, columns)


def _shown(column: str, text: bool) -> Shown:
    if text:
        return lambda row: Cell(str(row[column]))
    if column in ("seeds", "values"):
        return lambda row: Cell(count(row[column]))
    return lambda row: Cell(number(row[column]))
