import json

import pytest

from online.figures import measure


def test_figures_are_those_of_the_recording(tmp_path):
    pytest.importorskip("flashbax")
    file = tmp_path / "figures.json"
    other = {"dataset": "embedded/smax/3m", "quality": "Mixed", "steps": 1}
    file.write_text(json.dumps([other]))
    measure(tmp_path, ("embedded/matrix/xor",), file)
    kept, xor = json.loads(file.read_text())
    assert kept == other
    told = json.loads((tmp_path / "embedded/matrix/xor.vlt/Mixed/recording.json").read_text())
    assert xor.pop("won") == told["win_rate"] == pytest.approx(0.5, abs=0.03)
    assert xor == {
        **{"dataset": "embedded/matrix/xor", "quality": "Mixed", "n_agents": 2, "obs_dim": 1, "state_dim": 1},
        **{"action_dim": 2, "discrete": True, "steps": 4000, "episodes": 4000, "state_per_agent": False, "copies": 1},
        **told["statistics"],
    }
