"""How results are meant to be measured, and where a set of results departs from it.

The default is the protocol proposed in "Dispelling the Mirage of Progress in Offline MARL through Standardised
Baselines and Evaluation" (Formanek et al., arXiv:2406.09068): ten seeds, 32 episodes per evaluation, a fixed training
budget that is stated, means with standard deviations, and evaluations that do not choose anything. The last rule
decides which weights count: the final ones. ``best`` weights were chosen by playing, which offline learning cannot do;
they are shown beside the final ones, as what a few evaluations would have gained.
"""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Protocol:
    """What results are held against.

    Args:
        seeds: Runs of each model on each task.
        episodes: Episodes of an evaluation, at least.
        checkpoints: Which weights are evaluated; the first one is what counts.
    """

    seeds: int = 10
    episodes: int = 32
    checkpoints: tuple[str, ...] = ("final", "best")


DEFAULT = Protocol()


def departures(frame: pd.DataFrame, protocol: Protocol = DEFAULT) -> list[str]:
    """Where results were measured in another way, in words that can stand under a table.

    Args:
        frame: Results, of all policies and checkpoints.
        protocol: What is asked for.

    Returns:
        One sentence for each; none if there is nothing to say.
    """
    rows = frame[frame["main"]]
    found = []
    seeds = rows.groupby(["task", "model"])["seed"].nunique()
    if len(few := seeds[seeds < protocol.seeds]):
        found.append(f"{_seeds(few)} instead of {protocol.seeds} ({len(few)} of {len(seeds)} pairs)")
    if len(short := rows["episodes"].dropna()[lambda counts: counts < protocol.episodes]):
        found.append(f"{_range(short)} episodes per evaluation instead of at least {protocol.episodes}")
    missing = [name for name in protocol.checkpoints if name not in set(rows["checkpoint"])]
    if missing:
        found.append(f"no evaluation of the {' and '.join(missing)} weights")
    budgets = rows[rows["checkpoint"] == "final"].groupby("task")["updates"].nunique()
    if len(unequal := budgets[budgets > 1]):
        found.append(f"models trained for different numbers of updates on {', '.join(map(str, unequal.index))}")
    codes = rows["commit"].dropna().nunique()
    if codes > 1:
        found.append(f"runs of {codes} versions of the code")
    return found


def statement(frame: pd.DataFrame) -> str:
    """How results were measured, in one sentence.

    Args:
        frame: Results, of all policies and checkpoints.
    """
    rows = frame[frame["main"]]
    seeds = _seeds(rows.groupby(["task", "model"])["seed"].nunique())
    updates = _range(rows.loc[rows["checkpoint"] == "final", "updates"].dropna())
    weights = " and ".join(name for name in ("final", "best") if name in set(rows["checkpoint"]))
    episodes = _range(rows["episodes"].dropna())
    return f"{seeds}, {episodes} episodes per evaluation, {updates} updates, {weights} weights"


def _seeds(numbers: pd.Series) -> str:
    """``1 seed``, or ``3 to 5 seeds``."""
    words = _range(numbers)
    return f"{words} seed{'' if words == '1' else 's'}"


def _range(numbers: pd.Series) -> str:
    """``3``, or ``3 to 5``; a dash if there are none."""
    if numbers.empty:
        return "-"
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
