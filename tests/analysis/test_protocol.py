"""How results were measured, and where that departs from what is asked for."""

import pandas as pd

from analysis.protocol import Protocol, departures, statement
from tests.analysis.frames import results


def measured(seeds: int, **same: object) -> pd.DataFrame:
    values = [0.0] * seeds
    options = {"episodes": 256, "updates": 4000, "commit": "abc", **same}
    return results({("a", "x"): values, ("a", "y"): values}, **options)


def test_nothing_to_say():
    both = pd.concat([measured(10), measured(10, checkpoint="best")])
    assert departures(both) == []
    assert statement(both) == "10 seeds, 256 episodes per evaluation, 4,000 updates, final and best weights"


def test_every_departure_is_named():
    frame = pd.concat([measured(3), results({("a", "z"): [0.0] * 12}, episodes=16, updates=5000, commit="def")])
    assert departures(frame) == [
        "3 seeds instead of 10 (2 of 3 pairs)",
        "16 episodes per evaluation instead of at least 32",
        "no evaluation of the best weights",
        "models trained for different numbers of updates on a",
        "runs of 2 versions of the code",
    ]
    assert statement(frame) == "3 to 12 seeds, 16 to 256 episodes per evaluation, 4,000 to 5,000 updates, final weights"


def test_another_protocol():
    assert departures(measured(3), Protocol(seeds=3, episodes=100, checkpoints=("final",))) == []
