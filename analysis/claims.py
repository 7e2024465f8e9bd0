"""What VGM2P claims, held against the results of configs/benchmark/claims.yaml.

python -m analysis.claims runs/benchmark/claims
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis.claim_tables import OURS, coefficient_curves, coefficient_runs, sensitivity, steps_table, variants
from analysis.runs import main_rows, read_results


def verdicts(frame: pd.DataFrame, column: str = "return", level: float = 0.05) -> list[str]:
    """Where the claims hold and where they do not, a sentence for each claim and task.

    Args:
        frame: Results of the grid.
        column: What is measured.
        level: Below this p a difference is called one.
    """
    found = []
    for task, some in sensitivity(frame, column).groupby("task", sort=False):
        own = some[some["family"] == OURS]
        others = some[some["family"] != OURS]
        if own.empty or others.empty:
            continue
        number = own["estimate"].iloc[0]
        less = others[others["estimate"] < number]["family"].tolist()
        what = f"range/best {number:.3f} over guidance scales"
        rest = ", ".join(f"{row.family} {row.estimate:.3f}" for row in others.itertuples())
        holds = "holds" if not less else f"does not hold: smaller for {', '.join(less)}"
        found.append(f"(a) coefficient-insensitivity on {task}: {what} against {rest}; {holds}")
    found += [f"(b) {words}" for words in _worse_or_better(steps_table(frame, column), "network calls", "1", level)]
    table = variants(main_rows(frame), OURS, column)
    parts = {"(c)": table[table["model"].str.contains(r"\+credit\+|^meanflow_bc$|^vgm2p$")]}
    parts["(d)"] = table[~table["model"].str.contains(r"\+credit\+|^meanflow_bc$")]
    for letter, part in parts.items():
        found += [f"{letter} {words}" for words in _worse_or_better(part, "variant", OURS, level)]
    return found


def _worse_or_better(table: pd.DataFrame, what: str, base: str, level: float) -> list[str]:
    """A sentence for each task: what differs from the base."""
    sentences = []
    for task, some in table.groupby("task", sort=False):
        rest = some[some["model"] != base]
        if rest.empty:
            continue
        told = rest[rest["p"] < level]
        better, worse = told[told["difference"] > 0], told[told["difference"] < 0]
        words = [f"{sign} {_named(part)}" for sign, part in (("better:", better), ("worse:", worse)) if len(part)]
        alike = rest.drop(told.index)
        words += [f"not told apart: {_named(alike)}"] if len(alike) else []
        sentences.append(f"{what} on {task} against {base}: {'; '.join(words)}")
    return sentences


def _named(part: pd.DataFrame) -> str:
    return ", ".join(f"{row.model} ({_rounded(row.difference, '+', 2)})" for row in part.itertuples())


def tables(frame: pd.DataFrame, column: str = "return") -> Mapping[str, pd.DataFrame]:
    """All tables of the claims, by title.

    Args:
        frame: Results of the grid.
        column: What is measured.
    """
    return {
        "Return over a coefficient": coefficient_curves(coefficient_runs(frame), column),
        "What a wrong coefficient costs": sensitivity(frame, column),
        "Network calls for a decision": steps_table(frame, column),
        "Variants": variants(main_rows(frame), OURS, column),
    }


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown: numbers with three digits behind the point, from 100 on with none, coefficients as given."""
    text = table.map(lambda entry: _rounded(entry) if isinstance(entry, float) else str(entry))
    for name in {"value", "best_value"} & set(table.columns):
        text[name] = [f"{value:g}" for value in table[name]]
    lines = ["| " + " | ".join(cells) + " |" for cells in [list(text.columns), *text.to_numpy().tolist()]]
    return "\n".join([lines[0], "|" + "---|" * len(text.columns), *lines[1:]])


def _rounded(value: float, sign: str = "", digits: int = 3) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.{digits}f}"


def main(words: Sequence[str] | None = None) -> None:
    """Prints tables and verdicts as Markdown."""
    about = "What VGM2P claims, and what was seen."
    parser = argparse.ArgumentParser(prog="python -m analysis.claims", description=about)
    parser.add_argument("results", type=Path, help="directory of lightning benchmark, or its results.csv")
    frame = read_results(parser.parse_args(words).results)
    for title, table in tables(frame).items():
        print(f"## {title}\n\n{markdown(table)}\n")
    print("## Where the claims hold\n")
    print("\n".join(f"- {sentence}" for sentence in verdicts(frame)))


if __name__ == "__main__":
    main()
