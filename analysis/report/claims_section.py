"""Whether VGM2P's claims hold, for the results of configs/benchmark/claims.yaml."""

import pandas as pd

from analysis.claim_tables import CLONE, OURS, coefficient_curves, coefficient_runs
from analysis.claims import tables, verdicts
from analysis.report import figures
from analysis.report.blocks import (
    Cell,
    Drawing,
    Gallery,
    Head,
    Section,
    Shown,
    Table,
    Words,
    count,
    number,
    plain,
    table_of,
)
from analysis.report.material import Material
from analysis.report.style import looks
from analysis.runs import main_rows


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
    return Section("claims", "Where the claims hold", (Words(sentences, "list"), _curves(material), *shown))


def _curves(material: Material) -> Gallery:
    """Claim (a) as pictures, one for each task."""
    results = material.sources.results
    table = coefficient_curves(coefficient_runs(results), repetitions=material.repetitions)
    clones = main_rows(results).query("model == @CLONE").groupby("task")["return"].mean()
    families = looks(sorted(set(table["family"]), key=lambda family: (family != OURS, family)))
    drawings = []
    for task, some in table.groupby("task", sort=False):
        present = {family: look for family, look in families.items() if family in set(some["family"])}
        figure = figures.coefficients(some, float(clones.get(task, float("nan"))), present)
        alt = f"{task}: return over the coefficient of {', '.join(present)}."
        drawings.append(Drawing(f"coefficients-{plain(str(task))}", alt, figure))
    caption = (
        "Return over each algorithm's coefficient, mean over seeds with 95 % bootstrap intervals; dotted is cloning "
        f"without values ({CLONE}). A flat line does not depend on its coefficient."
    )
    return Gallery(caption, drawings)


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
