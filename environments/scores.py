"""Reference returns of the scenarios, and scores on a scale that they share.

Returns of random play, and those of the ``good`` behaviour, are what ``python benchmarks/reference_returns.py`` prints.
Expert returns of published data are on the dataset cards of OG-MARL (https://github.com/instadeepai/og-marl,
``docs/dataset_cards/datacard_info.json``). They were earned in older versions of the simulators
(:mod:`environments.mamujoco`, :mod:`environments.rware`): scores of different policies can be compared with each other,
and with those of papers only with care.

Scenarios without an honest expert have no reference, and no score:

- simple_tag and simple_world_comm: nobody's return is known; OMAR's are about OMAR's preys, which are not included.
- simple_spread_discrete: the good script needs continuous actions.
- the other robots, and RWARE without AlberDICE's additional rewards: no data of theirs is published.
- SMAC and SMACv2: random play has to be measured with StarCraft II.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from environments.registry import split_scenario


class Reference(NamedTuple):
    """Two returns of a scenario: team reward, summed over an episode.

    Attributes:
        random: Mean return of uniformly random legal actions: score 0.
        expert: What counts as an expert's return: score 100.
        source: Where both come from.
    """

    random: float
    expert: float
    source: str


def _measured(random: float, error: float, episodes: int, expert: float, source: str) -> Reference:
    """A reference whose random return was measured, with that standard error."""
    return Reference(random, expert, f"random: {episodes:,} episodes, standard error {error:g}; expert: {source}")


def _smax(random: float, error: float) -> Reference:
    return _measured(random, error, 512, 2.0, "highest possible return (all damage 1, battle won 1)")


def _half_cheetah(expert: float, source: str) -> Reference:
    """Whoever shares out the six joints: random actions move the same robot in the same way."""
    return _measured(-282.5, 5.2, 256, expert, source)


def _rware(random: float, error: float, expert: float) -> Reference:
    return _measured(random, error, 128, expert, "mean of AlberDICE's Expert data")


_OG_MARL_GOOD = "mean of OG-MARL's Good data"
_OMIGA_EXPERT = "mean of OMIGA's Expert data"

#: By scenario; one that is missing has no score.
REFERENCES = {
    "smax/3m": _smax(0.1745, 0.0041),
    "smax/2s3z": _smax(0.2099, 0.0034),
    "smax/25m": _smax(0.2105, 0.0016),
    "smax/3s5z": _smax(0.2024, 0.0028),
    "smax/8m": _smax(0.1785, 0.0026),
    "smax/5m_vs_6m": _smax(0.1382, 0.0025),
    "smax/10m_vs_11m": _smax(0.1627, 0.0019),
    "smax/27m_vs_30m": _smax(0.1969, 0.0015),
    "smax/3s5z_vs_3s6z": _smax(0.1784, 0.0022),
    "smax/3s_vs_5z": _smax(0.2143, 0.0035),
    "smax/6h_vs_8z": _smax(0.3233, 0.0036),
    "smax/smacv2_5_units": _smax(0.2556, 0.0079),
    "smax/smacv2_10_units": _smax(0.2749, 0.0077),
    "smax/smacv2_20_units": _smax(0.3111, 0.0088),
    "mpe/simple_spread": _measured(
        -25.43, 0.08, 10_240, -6.735, "the good behaviour, as many episodes, standard error 0.03"
    ),
    "mpe/simple_spread-omar": _measured(
        159.7, 0.6, 10_240, 516.8, "OMAR's, by which papers on its data score (their random return: 159.8)"
    ),
    "mamujoco/2halfcheetah": _half_cheetah(6924.1, f"{_OG_MARL_GOOD}, same robot"),
    "mamujoco/2halfcheetah-og_marl": _half_cheetah(6924.1, _OG_MARL_GOOD),
    "mamujoco/2halfcheetah-omar": _half_cheetah(3338.7, "mean of OMAR's Expert data"),
    "mamujoco/6halfcheetah-omiga": _half_cheetah(2785.1, _OMIGA_EXPERT),
    "mamujoco/2ant-omiga": _measured(-58.65, 6.1, 256, 2055.1, _OMIGA_EXPERT),
    "mamujoco/3hopper-omiga": _measured(17.79, 1.1, 256, 2452.0, _OMIGA_EXPERT),
    "rware/tiny-2ag-alberdice": _rware(0.4482, 0.051, 12.775),
    "rware/tiny-4ag-alberdice": _rware(0.7141, 0.042, 15.675),
    "rware/tiny-6ag-alberdice": _rware(0.9994, 0.034, 17.454),
    "rware/small-2ag-alberdice": _rware(0.1496, 0.024, 7.119),
    "rware/small-4ag-alberdice": _rware(0.3213, 0.026, 9.493),
    "rware/small-6ag-alberdice": _rware(0.5542, 0.025, 10.757),
    "matrix/xor": Reference(0.5, 1.0, "random: both actions equally likely; expert: highest possible return"),
    "matrix/bridge": _measured(-3.738, 0.013, 10_240, 8.775, "highest possible return, mean over the four starts"),
    "matrix/landmarks": _measured(0.283, 0.0012, 10_240, 1.0, "highest possible return"),
}


def normalised_score(returns: ArrayLike, scenario: str) -> NDArray[np.float64]:
    """Returns on a scale from 0 for random actions to 100 for the expert.

    score = 100 (return - random) / (expert - random)        (Fu et al., 2020, arXiv:2004.07219)

    Args:
        returns: Team rewards summed over an episode, any shape.
        scenario: Such as "smax/3m".

    Returns:
        Scores of the same shape; below 0 and above 100 are possible.

    Raises:
        ValueError: If there is no such scenario, or its reference returns are not known.
    """
    split_scenario(scenario)
    if scenario not in REFERENCES:
        raise ValueError(
            f"no reference returns are known for '{scenario}', only for {', '.join(REFERENCES)}; "
            "compare returns, or measure its random return (benchmarks/reference_returns.py) and add it, with an "
            "expert's and where that comes from, to environments.scores.REFERENCES"
        )
    reference = REFERENCES[scenario]
    return 100.0 * (np.asarray(returns, dtype=np.float64) - reference.random) / (reference.expert - reference.random)
