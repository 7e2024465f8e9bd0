import numpy as np
import pytest

from environments.registry import SCENARIOS
from environments.scores import REFERENCES, normalised_score


@pytest.mark.parametrize("scenario", REFERENCES)
def test_random_is_0_and_expert_is_100(scenario):
    random, expert, source = REFERENCES[scenario]
    np.testing.assert_allclose(normalised_score([random, expert, (random + expert) / 2], scenario), [0, 100, 50])
    assert "random" in source
    assert "expert" in source


def test_references_are_of_scenarios_that_exist():
    assert set(REFERENCES) <= set(SCENARIOS)


def test_shape_is_kept_and_scores_may_leave_the_scale():
    assert normalised_score(np.array([[0.0, 1.5]]), "matrix/xor").tolist() == [[-100.0, 200.0]]
    assert float(normalised_score(0.75, "matrix/xor")) == 50.0


def test_unknown():
    with pytest.raises(ValueError, match="no reference returns are known for 'smax/27m_vs_30m', only for smax/3m"):
        normalised_score(1.0, "smax/27m_vs_30m")
    with pytest.raises(ValueError, match="unknown scenario 'smax/nowhere'"):
        normalised_score(1.0, "smax/nowhere")
