"""Numbers that others have published, to stand beside ours: never in the same mean.

published_results.csv has one row for each number: where it was printed (source, table), what was learned from (dataset,
quality, named as in ``lightning data list``), by which method, the value with its spread, the number of seeds, and the
unit. Units are ``return`` (sum of an episode's rewards, mean over agents), ``score`` (100 (return - random) / (expert -
random), with the two returns where the source prints them) and ``share: ...`` (of episodes). Averages over tasks are
left out.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.runs import OURS
from analysis.statistics import check_one_origin

FILE = Path(__file__).with_name("published_results.csv")
#: How each source measured, as far as it says so.
PROTOCOLS: Mapping[str, str] = {
    "MoSDOT": (
        "Lee et al., 2026. StarCraft II for SMAC; 1,000,000 updates on SMAC and 500,000 on MPE, 10 episodes every "
        "50,000 updates; 6 seeds, ± is two standard deviations over seeds (in Table 1: 4 seeds, one standard "
        "deviation). Trained on 200,000 steps of each SMAC dataset and 5,000,000 of simple_spread"
    ),
    "MADiff": (
        "README of https://github.com/zbzhu99/madiff at 120bf5c (2025-06-26), means without spread; 5 seeds. "
        "StarCraft II for SMAC. MADiff-C decides for all agents together, from all observations"
    ),
    "OG-MARL cards": (
        "https://github.com/instadeepai/og-marl, docs/dataset_cards: returns of the recorded episodes themselves, no "
        "training; ± is the standard deviation over episodes"
    ),
}
#: Which column of our results has the same unit.
_OURS = {"return": "return", "score": "score"}
COLUMNS = ("dataset", "quality", "origin", "method", "value", "std", "seeds", "unit", "from", "note")


def published() -> pd.DataFrame:
    """All published numbers.

    Returns:
        source, table, dataset, quality, method, value, spread, spread_kind, seeds, unit, random, expert, note; and
        ``std``, the standard deviation over seeds (half of a spread that is given as two; nan where none is given), and
        ``origin``, which is the source.
    """
    texts = ("source", "table", "dataset", "quality", "method", "spread_kind", "unit", "note")
    frame = pd.read_csv(FILE, dtype=dict.fromkeys(texts, "str"))
    frame["quality"] = frame["quality"].fillna("")
    frame["seeds"] = frame["seeds"].astype("Int64")
    size = frame["spread_kind"].map({"2 std over seeds": 0.5, "std over seeds": 1.0})
    return frame.assign(std=frame["spread"] * size, origin=frame["source"])


def beside(results: pd.DataFrame, unit: str = "return") -> pd.DataFrame:
    """Our results and the published ones for the same recordings, row under row.

    Args:
        results: Ours, one row for each run (:func:`analysis.runs.main_rows`).
        unit: ``return`` or ``score``.

    Returns:
        One row for each dataset, quality and method, with ``COLUMNS``: ``origin`` is "ours" or the source, ``std`` the
        standard deviation over seeds. ``from`` says how it was measured.

    Raises:
        ValueError: If the unit is another one, the results are not all ours, or nothing was published about any of
            their datasets.
    """
    if unit not in _OURS:
        raise ValueError(f"unit: expected one of {', '.join(_OURS)}, got '{unit}'")
    check_one_origin(results)
    if set(results["origin"]) != {OURS}:
        raise ValueError(f"expected our results, got those of {', '.join(sorted(set(results['origin'])))}")
    theirs = published()
    pairs = set(zip(results["dataset"], results["quality"], strict=True))
    same = [pair in pairs for pair in zip(theirs["dataset"], theirs["quality"], strict=True)]
    theirs = theirs[same]
    theirs = theirs[(theirs["unit"] == unit) & (theirs["spread_kind"] != "std over episodes")]
    if theirs.empty:
        raise ValueError(
            f"expected results on a dataset of which a {unit} was published, got "
            f"{', '.join(sorted(f'{dataset} {quality}' for dataset, quality in pairs))}; embedded datasets are "
            "recordings of our own in other simulators, and nothing published can be compared with them"
        )
    found = set(zip(theirs["dataset"], theirs["quality"], strict=True))
    ours = results[[pair in found for pair in zip(results["dataset"], results["quality"], strict=True)]]
    groups = ours.groupby(["dataset", "quality", "model"], sort=False)[_OURS[unit]]
    means = groups.agg(value="mean", std="std", seeds="count").reset_index().rename(columns={"model": "method"})
    means = means.assign(origin=OURS, unit=unit, note="", **{"from": "our runs"})
    theirs = theirs.assign(**{"from": theirs["table"].radd(theirs["source"] + ", ")}, note=theirs["note"].fillna(""))
    both = pd.concat([means, theirs])[list(COLUMNS)]
    return both.sort_values(["dataset", "quality"], kind="stable", ignore_index=True)


def protocols(frame: pd.DataFrame) -> list[str]:
    """How the published numbers in a table were measured: one sentence for each of their sources.

    Args:
        frame: With the column ``origin``.
    """
    return [f"{origin}: {PROTOCOLS[origin]}" for origin in frame["origin"].unique() if origin != OURS]
