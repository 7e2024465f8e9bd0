"""Names of scenarios -> environments: the only place that maps them."""

import difflib

from environments import matrix_game, mpe, smax
from environments.team_env import TeamEnv
from environments.vector import ParallelVectorEnv, VectorEnv

#: Every scenario, as "<family>/<name>".
SCENARIOS = (
    *(f"smax/{name}" for name in smax.MAPS),
    "mpe/simple_spread",
    *(f"matrix/{name}" for name in matrix_game.PAYOFFS),
)


def split_scenario(scenario: str) -> tuple[str, str]:
    """Family and name of a scenario.

    Args:
        scenario: One of ``SCENARIOS``, such as "smax/3m".

    Returns:
        Both parts, such as ("smax", "3m").

    Raises:
        ValueError: If there is no such scenario; the message suggests the nearest names.
    """
    if scenario not in SCENARIOS:
        near = difflib.get_close_matches(scenario, SCENARIOS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of: {', '.join(SCENARIOS)}"
        raise ValueError(f"unknown scenario '{scenario}'; {hint}")
    family, name = scenario.split("/")
    return family, name


def make_env(scenario: str) -> TeamEnv:
    """One copy of a scenario.

    Args:
        scenario: One of ``SCENARIOS``, such as "smax/3m".

    Returns:
        A PettingZoo ``ParallelEnv``.

    Raises:
        ValueError: If there is no such scenario.
        ImportError: If its simulator is not installed; the message says how to install it.
    """
    family, name = split_scenario(scenario)
    if family == "smax":
        return smax.Smax(name)
    if family == "mpe":
        return mpe.SimpleSpread()
    return matrix_game.MatrixGame(name)


def make_vector_env(scenario: str, n_envs: int) -> VectorEnv:
    """Many copies of a scenario that step together, in the fastest way there is for it.

    Args:
        scenario: One of ``SCENARIOS``, such as "smax/3m".
        n_envs: Number of copies E, at least 1.

    Returns:
        The copies. SMAX runs under ``jax.vmap``, simple_spread as arrays, all others one copy after the other.

    Raises:
        ValueError: If there is no such scenario, or ``n_envs`` is not positive.
        ImportError: If its simulator is not installed; the message says how to install it.
    """
    family, name = split_scenario(scenario)
    if family == "smax":
        return smax.SmaxVector(name, n_envs)
    if family == "mpe":
        return mpe.SimpleSpreadVector(n_envs)
    return ParallelVectorEnv(lambda: make_env(scenario), n_envs, name=scenario)
