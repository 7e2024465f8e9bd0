"""Sizes and speed of the environments: steps per second of one copy and of many, and the time of two evaluations.

    python benchmarks/environment_speed.py
    python benchmarks/environment_speed.py --one-per-family
    python benchmarks/environment_speed.py --scenarios smax/3m mpe/simple_spread --copies 1 256

A step moves one copy with all its agents by one decision; actions are random and legal, deciding on them is not
counted. The first episodes compile, import and start whatever there is, and are not counted either. Scenarios whose
simulator is not installed are left out. Needs the installed package (pip install -e .) or PYTHONPATH=.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

import numpy as np

from environments.behaviours import Uniform
from environments.registry import make_vector_env
from environments.vector import VectorEnv

SCENARIOS = (
    "smax/3m",
    "smax/2s3z",
    "smax/smacv2_5_units",
    "mpe/simple_spread",
    "mpe/simple_tag",
    "mpe/simple_world_comm",
    "mpe/simple_tag-omar",
    "mamujoco/2halfcheetah",
    "mamujoco/6halfcheetah",
    "mamujoco/2ant",
    "mamujoco/4ant",
    "mamujoco/3hopper",
    "mamujoco/2walker",
    "rware/tiny-2ag",
    "rware/small-6ag",
    "matrix/xor",
    "matrix/bridge",
    "matrix/landmarks",
)
#: The first scenario of each family.
ONE_PER_FAMILY = tuple({scenario.partition("/")[0]: scenario for scenario in reversed(SCENARIOS)}.values())[::-1]
#: What an evaluation may take: scenario, episodes, seconds.
TARGETS = (("mpe/simple_spread", 64, 3.0), ("smax/3m", 256, 5.0))


def play(env: VectorEnv, first_seed: int, limit: int) -> tuple[int, float]:
    """Play one episode per copy, or a part of it.

    Args:
        env: The copies.
        first_seed: Seed of the first copy.
        limit: At most so many steps.

    Returns:
        Steps of all unfinished copies together, and the seconds they took, the start included.
    """
    team, generator = Uniform(env.discrete), np.random.default_rng(first_seed)
    began = time.perf_counter()
    shown = env.reset(range(first_seed, first_seed + env.n_envs))
    seconds, steps = time.perf_counter() - began, 0
    for _ in range(limit):
        if shown.finished.all():
            break
        actions = team.act(shown, generator)
        steps += int((~shown.finished).sum())
        began = time.perf_counter()
        shown = env.step(actions)
        seconds += time.perf_counter() - began
    return steps, seconds


def sizes(env: VectorEnv) -> str:
    """Cells of the table: agents, length of an observation, and actions, as a number of choices or of dimensions."""
    actions = f"{env.action_dim} choices" if env.discrete else f"{env.action_dim} continuous"
    return f"{env.n_agents} | {env.obs_dim} | {actions}"


def speed(env: VectorEnv, seconds: float) -> float:
    """Steps per second of some copies of a scenario, measured for at least so many seconds."""
    play(env, 0, limit=2)
    steps, spent, seed = 0, 0.0, 0
    while spent < seconds:
        played, took = play(env, seed, limit=100)
        steps, spent, seed = steps + played, spent + took, seed + env.n_envs
    return steps / spent


def row(scenario: str, copies: Sequence[int], seconds: float) -> str:
    """A scenario's row of the table, or why there is none."""
    speeds, cells = [], ""
    for number in copies:
        try:
            env = make_vector_env(scenario, number)
        except ImportError as error:
            return f"| {scenario} | {str(error).partition('(')[0].strip()} |"
        try:
            cells = sizes(env)
            speeds.append(speed(env, seconds))
        finally:
            env.close()
    return f"| {scenario} | {cells} | " + " | ".join(f"{each:,.0f}" for each in speeds) + " |"


def evaluation(scenario: str, episodes: int) -> float:
    """Seconds that whole episodes take, all at the same time, once everything is compiled and started."""
    env = make_vector_env(scenario, episodes)
    play(env, 0, limit=2)
    _, seconds = play(env, episodes, limit=10_000)
    env.close()
    return seconds


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--scenarios", nargs="+", default=SCENARIOS)
    chosen.add_argument("--one-per-family", action="store_const", const=ONE_PER_FAMILY, dest="scenarios")
    parser.add_argument("--copies", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each number is measured")
    options = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} core(s)\n")
    names = [f"steps/s, {copies} {'copy' if copies == 1 else 'copies'}" for copies in options.copies]
    print("| scenario | agents | observation | actions | " + " | ".join(names) + " |")
    print("|---|--:|--:|--:" + "|--:" * len(options.copies) + "|")
    for scenario in options.scenarios:
        print(row(scenario, options.copies, options.seconds), flush=True)
    print("\n| evaluation | seconds | target | |")
    print("|---|--:|--:|---|")
    for scenario, episodes, target in TARGETS:
        if scenario in options.scenarios:
            took = evaluation(scenario, episodes)
            met = "met" if took < target else "missed"
            print(f"| {scenario}, {episodes} episodes | {took:.2f} | {target:.0f} | {met} |")


if __name__ == "__main__":
    main()
