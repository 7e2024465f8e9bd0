"""Timing several variants of one piece of work side by side, on machines that do other things as well.

Two runs of the same program minutes apart may differ by a factor; what is next to each other in time may be compared.
So the variants take turns, in a new random order every round, and a ratio is formed within a round before anything is
averaged. Medians and quartiles of the rounds are what is reported.
"""

from __future__ import annotations

import argparse
import platform
import random
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

Work = Callable[[], object]
Seconds = dict[str, list[float]]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Quartiles(NamedTuple):
    """Median and the middle half of some numbers."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Quartiles:
        """Quartiles of at least one number."""
        lower, median, upper = np.percentile(list(values), [25, 50, 75])
        return cls(float(median), float(lower), float(upper))

    def text(self, digits: int, unit: float = 1.0) -> str:
        """``median [lower, upper]``, each multiplied by a unit."""
        median, lower, upper = (f"{value * unit:.{digits}f}" for value in self)
        return f"{median} [{lower}, {upper}]"


def arguments(description: str, repeats: int) -> argparse.Namespace:
    """Command line of a benchmark; also sets the number of threads and prints the command and the machine.

    Args:
        description: What the benchmark measures.
        repeats: Default number of rounds.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of one tensor operation")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds in which every variant has its turn")
    parser.add_argument(
        "--clock",
        choices=sorted(CLOCKS),
        default="wall",
        help="'cpu' counts this process's own time: steadier where others use the cores, meaningful with one thread",
    )
    options = parser.parse_args()
    if min(options.threads, options.repeats) < 1:
        parser.error(f"--threads and --repeats must be at least 1, got {options.threads} and {options.repeats}")
    torch.set_num_threads(options.threads)
    print(f"`python {shlex.join(sys.argv)}`\n")
    print(
        f"{options.threads} thread(s) of {_processor()}, torch {torch.__version__}, {options.clock} time, "
        f"median [quartiles] of {options.repeats} rounds\n"
    )
    return options


def take_turns(variants: Mapping[str, Work], repeats: int, calls: int, clock: str = "wall") -> Seconds:
    """Seconds per call of each variant, one number per round.

    Args:
        variants: What to time, by name.
        repeats: Rounds; in each, every variant has one turn, in random order. A further round before them warms up.
        calls: Calls per turn: enough for a turn to take milliseconds.
        clock: ``wall`` or ``cpu``.
    """
    now = CLOCKS[clock]
    order, shuffle = list(variants), random.Random(0).shuffle
    seconds: Seconds = {name: [] for name in order}
    for number in range(repeats + 1):
        shuffle(order)
        for name in order:
            work, start = variants[name], now()
            for _ in range(calls):
                work()
            if number > 0:
                seconds[name].append((now() - start) / calls)
    return seconds


def ratios(seconds: Seconds, name: str, baseline: str) -> Quartiles:
    """Cost of one variant in units of another, formed round by round."""
    return Quartiles.of(a / b for a, b in zip(seconds[name], seconds[baseline], strict=True))


def comparison(title: str, seconds: Seconds, baseline: str, unit: float, label: str, digits: int = 2) -> None:
    """Prints a Markdown table with a row per variant: its time and its ratio to the baseline.

    Args:
        title: Printed above.
        seconds: What ``take_turns`` returned.
        baseline: The variant that the ratios refer to.
        unit: Factor from seconds to the printed unit.
        label: Head of the column of times.
        digits: Decimals of the times.
    """
    rows = [
        (name, Quartiles.of(values).text(digits, unit), ratios(seconds, name, baseline).text(2))
        for name, values in seconds.items()
    ]
    table(title, ("", label, "ratio"), rows)


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a Markdown table; the first column is text, the others are numbers."""
    print(f"**{title}**\n")
    print("| " + " | ".join(head) + " |")
    print("|---" + "|--:" * (len(head) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def _processor() -> str:
    """Name of the processor, where the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
