"""The head of a report: what was run, how it departs from the protocol, what is missing, and all returns."""

from collections import Counter

import pandas as pd

from analysis.protocol import departures, statement
from analysis.report.blocks import NOTHING, Cell, Head, Section, Shown, Table, Words, listed, number, several, table_of
from analysis.report.material import Material

SHOWN = 12  # names of missing cells that are not folded away


def headline(material: Material) -> str:
    """What was run, in one or two sentences."""
    rows, commands = material.rows, material.sources.commands
    done, wanted = rows.drop_duplicates(["task", "model", "seed"]), len(commands)
    finished = f"{len(done):,} finished runs"
    if wanted:
        among = wanted - len(material.sources.missing(material.checkpoint))
        finished = f"{among:,} of {wanted:,} cells are finished"
    name = material.sources.grid.get("name")
    return (
        f"{f'Grid {name}: ' if name else ''}{several(len(material.models), 'model')} on "
        f"{several(len(material.tasks), 'task')}, {statement(_played(material))}. {finished}; the "
        f"{material.checkpoint} weights count."
    )


def remarks(material: Material) -> list[str]:
    """Where the results depart from the protocol, and what else a reader must know before the numbers."""
    rows = material.rows
    found = [f"Departs from the protocol: {line}." for line in departures(_played(material))]
    if material.checkpoint == "best":
        found.append(
            "Departs from the protocol: the weights were chosen by playing, which offline learning cannot do; the "
            "final weights are what counts."
        )
    if changed := int(rows["changed_files"].astype(str).isin(("True", "1", "1.0")).sum()):
        found.append(f"{changed:,} of {len(rows):,} runs were made with files that differ from their commit.")
    if material.seeds < 2:
        found.append(
            "One seed for each model: no interval over seeds, and nothing says whether another seed would give the "
            "same order."
        )
    lost = rows[rows["lost"] > 0]
    if len(lost):
        found.append(f"Episodes were lost (they ended in an error of the simulator) in {several(len(lost), 'run')}.")
    if material.empty:
        found.append(f"Without a return, and left out: {listed(material.empty)}.")
    return found


def missing_cells(material: Material) -> Section | None:
    """Which cells have no results; None if none is missing or nothing says which were wanted."""
    missing = material.sources.missing(material.checkpoint)
    if not missing:
        return None
    whole = Counter(name.rpartition("/")[0] for name in material.sources.commands)
    pairs = Counter(name.rpartition("/")[0] for name in missing)
    by_task: dict[str, list[str]] = {}
    for pair, many in pairs.items():
        task, _, model = pair.partition("/")
        seeds = [name.rpartition("seed_")[2] for name in missing if name.rpartition("/")[0] == pair]
        by_task.setdefault(task, []).append(model if many == whole[pair] else f"{model} (seed {', '.join(seeds)})")
    lines = [f"{task}: {', '.join(models)}" for task, models in by_task.items()]
    title = f"{len(missing):,} of {len(material.sources.commands):,} cells are missing"
    explained = Words(("A model without seeds in brackets has no result at all on this task yet.",))
    return Section("missing", title, (explained, Words(lines, "list")), folded=len(missing) > SHOWN)


def overview(material: Material) -> Section:
    """Returns of all models on all tasks."""
    parts: list[Words | Table] = [_returns(material)]
    if not material.sources.commands:
        parts.append(Words(("No grid.json lies beside the results: which cells were wanted is not known.",)))
    return Section("overview", "Overview", parts)


def _returns(material: Material) -> Table:
    entries = pd.concat(material.found.values(), ignore_index=True)
    keyed = entries.set_index(["task", "model"])
    frame = pd.DataFrame({"model": material.models})
    columns: list[tuple[Head, Shown]] = [(Head("model", number=False), lambda row: Cell(row["model"]))]
    for task in material.tasks:
        columns.append((Head(task), _entry(keyed, task)))
    caption = (
        "Return on each task: mean ± standard deviation over seeds. Bold is the best of a task, * is not told from it "
        "by a Welch t-test (p ≥ 0.05, not corrected for the number of tests). Models are in the order of their mean "
        "place, those that lack a task last."
    )
    table = table_of("overview", caption, frame, columns)
    kept = entries[["task", "model", "seeds", "return", "std", "low", "high", "p", "best", "as_good", "runs"]]
    return Table(table.name, caption, table.heads, table.rows, kept)


def _entry(keyed: pd.DataFrame, task: str) -> Shown:
    def shown(row: pd.Series) -> Cell:
        if (task, row["model"]) not in keyed.index:
            return Cell(NOTHING)
        found = keyed.loc[(task, row["model"])]
        spread = f" ± {number(found['std'], 3)}" if found["seeds"] > 1 else ""
        mark = " *" if found["as_good"] and not found["best"] else ""
        return Cell(f"{number(found['return'])}{spread}{mark}", strong=bool(found["best"]))

    return shown


def _played(material: Material) -> pd.DataFrame:
    """All rows of the results, without those that count nothing."""
    results = material.sources.results
    return results[results["return"].notna()]
