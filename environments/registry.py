"""Names of scenarios -> environments: the only place that maps them."""

import difflib
import functools
from collections.abc import Callable

from environments import bridge, landmarks, mamujoco, matrix_game, mpe, rware, smac, smax
from environments.array_env import OneCopy
from environments.imported import is_import_path, make_imported
from environments.processes import ProcessVectorEnv
from environments.team_env import TeamEnv
from environments.vector import ParallelVectorEnv, VectorEnv

#: Every scenario, as "<family>/<name>". A suffix "-<source>" means: as in the data that this source published.
SCENARIOS = (
    *(f"smax/{name}" for name in smax.MAPS),
    *(f"mpe/{name}" for name in mpe.NAMES),
    *(f"mamujoco/{name}" for name in mamujoco.NAMES),
    *(f"rware/{name}" for name in rware.NAMES),
    *(f"smac_v1/{name}" for name in smac.V1_MAPS),
    *(f"smac_v2/{name}" for name in smac.V2_SCENARIOS),
    *(f"matrix/{name}" for name in matrix_game.PAYOFFS),
    "matrix/bridge",
    "matrix/landmarks",
)
#: Published data whose simulator we do not have: the reason, by source and family.
_NOT_THERE = {
    ("omiga", "smac_v1"): "it was recorded in MAPPO's own version of SMAC, whose observations and states are longer",
}


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


def scenario_of(dataset: str) -> str:
    """The scenario in which a policy that was trained on a dataset can be played.

    Sources differ in what agents observe in scenarios of the same name. Where we have the source's own variant,
    "<environment>/<scenario>-<source>", it is that one, else "<environment>/<scenario>".

    Args:
        dataset: "<source>/<environment>/<scenario>", such as "og_marl/mamujoco/2halfcheetah".

    Returns:
        One of ``SCENARIOS``, such as "mamujoco/2halfcheetah-og_marl".

    Raises:
        ValueError: If the dataset's name has other than three parts, or there is no such scenario, or none that fits.
    """
    parts = dataset.split("/")
    if len(parts) != 3:
        raise ValueError(f"expected a dataset '<source>/<environment>/<scenario>', got '{dataset}'")
    source, family, name = parts
    if (source, family) in _NOT_THERE:
        raise ValueError(f"'{dataset}' cannot be played: {_NOT_THERE[source, family]}; train without rollouts")
    variant = f"{family}/{name}-{source}"
    return variant if variant in SCENARIOS else "/".join(split_scenario(f"{family}/{name}"))


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
    return _matrix(name) if family == "matrix" else _FAMILIES[family](name)


def _matrix(name: str) -> TeamEnv:
    """One copy of a game of the family "matrix"."""
    if name in matrix_game.PAYOFFS:
        return matrix_game.MatrixGame(name)
    return OneCopy(_ARRAYS[name])


_ARRAYS: dict[str, type[bridge.BridgeVector] | type[landmarks.LandmarksVector]] = {
    "bridge": bridge.BridgeVector,
    "landmarks": landmarks.LandmarksVector,
}
_FAMILIES: dict[str, Callable[[str], TeamEnv]] = {
    "smax": smax.Smax,
    "mpe": mpe.make_mpe,
    "mamujoco": mamujoco.MultiAgentMujoco,
    "rware": rware.Rware,
    "smac_v1": smac.SmacV1,
    "smac_v2": smac.SmacV2,
}


def make_vector_env(scenario: str, n_envs: int) -> VectorEnv:
    """Many copies of a scenario that step together, in the fastest way there is for it.

    Args:
        scenario: One of ``SCENARIOS``, such as "smax/3m", or the import path of a function that makes an environment of
            your own (:mod:`environments.imported`), whose copies step one after the other.
        n_envs: Number of copies E, at least 1.

    Returns:
        The copies. SMAX runs under ``jax.vmap``, MPE and the matrix games as arrays, MuJoCo, RWARE and StarCraft in one
        worker process per core.

    Raises:
        ValueError: If there is no such scenario, or ``n_envs`` is not positive.
        ImportError: If its simulator is not installed; the message says how to install it.
    """
    if is_import_path(scenario):
        return ParallelVectorEnv(functools.partial(make_imported, scenario), n_envs, scenario)
    family, name = split_scenario(scenario)
    if family == "smax":
        return smax.SmaxVector(name, n_envs)
    if family == "mpe":
        return mpe.make_mpe_vector(name, n_envs)
    if family == "matrix":
        return _ARRAYS[name](n_envs) if name in _ARRAYS else matrix_game.MatrixVector(n_envs, name)
    return ProcessVectorEnv(functools.partial(make_env, scenario), n_envs, name=scenario)
