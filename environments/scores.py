"""Reference returns of the scenarios, and scores on a scale that they share.

Random returns, and those of the ``good`` behaviours, were measured with :mod:`environments.behaviours`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from environments.registry import split_scenario

_MOST_OF_SMAX = "highest possible return (all damage 1, battle won 1)"


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


REFERENCES = {
    "smax/3m": Reference(0.175, 2.0, f"random: 1,024 episodes, standard error .003; expert: {_MOST_OF_SMAX}"),
    "smax/2s3z": Reference(0.204, 2.0, f"random: 1,024 episodes, standard error .002; expert: {_MOST_OF_SMAX}"),
    "smax/5m_vs_6m": Reference(0.134, 2.0, f"random: 512 episodes, standard error .002; expert: {_MOST_OF_SMAX}"),
    "smax/3s_vs_5z": Reference(0.209, 2.0, f"random: 512 episodes, standard error .004; expert: {_MOST_OF_SMAX}"),
    "smax/6h_vs_8z": Reference(0.323, 2.0, f"random: 512 episodes, standard error .004; expert: {_MOST_OF_SMAX}"),
    "mpe/simple_spread": Reference(
        -25.2,
        -6.7,
        "random: 10,240 episodes, standard error .1; expert: the good behaviour, as many, standard error .03",
    ),
    "matrix/xor": Reference(0.5, 1.0, "random: both actions equally likely; expert: highest possible return"),
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
            "compare returns, or measure its random return and add it to environments.scores.REFERENCES"
        )
    reference = REFERENCES[scenario]
    return 100.0 * (np.asarray(returns, dtype=np.float64) - reference.random) / (reference.expert - reference.random)
