"""Returns between which ``environments.scores`` puts its scale: random play, and the good script where there is one.

    python benchmarks/reference_returns.py                                  # everything that is installed; half an hour
    python benchmarks/reference_returns.py --scenarios smax/3m mpe/simple_spread

Episode k starts from seed k, and the team's choices come from a generator seeded by 0, so that the same simulators give
the same numbers on every machine of a kind. Returns are sums over an episode of the mean over agents, as everywhere.
The last column is what ``environments.scores`` holds. Scenarios whose simulator is not installed are left out. Needs
the installed package (pip install -e .) or PYTHONPATH=.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from environments.behaviours import Behaviour, make_behaviour
from environments.registry import SCENARIOS, make_vector_env
from environments.scores import REFERENCES
from environments.vector import VectorEnv

#: Episodes by family, and how many of them are played at the same time.
EPISODES = {"smax": 512, "mpe": 10_240, "matrix": 10_240, "mamujoco": 256, "rware": 128}
COPIES = {"smax": 256, "mpe": 1024, "matrix": 1024, "mamujoco": 16, "rware": 16}
#: Behaviours besides random play whose return stands for an expert's.
EXPERTS = {"mpe/simple_spread": "good"}


class Measured(NamedTuple):
    """Mean return of some episodes and its standard error."""

    mean: float
    error: float


def returns_of(team: Behaviour, env: VectorEnv, episodes: int) -> NDArray[np.float64]:
    """Return of each of the episodes that start from the seeds 0, 1, ..., (episodes,).

    Args:
        team: Who plays.
        env: Copies of the environment; their number divides the episodes.
        episodes: How many.

    Raises:
        RuntimeError: If the simulator failed.
    """
    generator, returns = np.random.default_rng(0), np.zeros(episodes)
    for first in range(0, episodes, env.n_envs):
        some = slice(first, first + env.n_envs)
        shown = env.reset(range(first, first + env.n_envs))
        team.reset(env.n_envs)
        while not shown.finished.all():
            shown = env.step(team.act(shown, generator))
            returns[some] += shown.rewards
        if shown.lost.any():
            raise RuntimeError(f"'{env.name}' lost episodes to failures of its simulator; measure again")
    return returns


def measured(scenario: str, behaviour: str, episodes: int) -> Measured:
    """Mean return of a behaviour in a scenario."""
    env = make_vector_env(scenario, min(COPIES[scenario.partition("/")[0]], episodes))
    try:
        returns = returns_of(make_behaviour(scenario, behaviour), env, episodes)
    finally:
        env.close()
    return Measured(float(returns.mean()), float(returns.std(ddof=1) / np.sqrt(episodes)))


def main() -> None:
    """Print a row for each scenario and behaviour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    playable = [scenario for scenario in SCENARIOS if scenario.partition("/")[0] in EPISODES]
    parser.add_argument("--scenarios", nargs="+", choices=playable, default=playable, metavar="SCENARIO")
    options = parser.parse_args()
    print("| scenario | behaviour | episodes | return | standard error | seconds | in scores.py |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for scenario in options.scenarios:
        reference, episodes = REFERENCES.get(scenario), EPISODES[scenario.partition("/")[0]]
        held = {"uniform": reference and reference.random, EXPERTS.get(scenario): reference and reference.expert}
        for behaviour in filter(None, held):
            began = time.perf_counter()
            try:
                mean, error = measured(scenario, behaviour, episodes)
            except ImportError as problem:
                print(f"| {scenario} | {str(problem).partition('(')[0].strip()} |")
                break
            stored = "" if held[behaviour] is None else f"{held[behaviour]:g}"
            row = f"{episodes:,} | {mean:.4g} | {error:.2g} | {time.perf_counter() - began:.0f} | {stored}"
            print(f"| {scenario} | {behaviour} | {row} |", flush=True)


if __name__ == "__main__":
    main()
