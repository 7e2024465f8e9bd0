import dataclasses
from pathlib import Path

import pytest

from environments import learned
from environments.learned import STAGES, read_team, shipped_stages, write_team
from environments.registry import make_vector_env
from online.networks import Actor
from online.stages import Checkpoint, pick, ship


def test_stages_by_hand():
    returns = {0: -10.0, 10: 10.0, 20: 35.0, 40: 70.0, 55: 90.0, 80: 110.0, 100: 105.0}
    picked = pick([Checkpoint(steps, value, Path(f"{steps}")) for steps, value in returns.items()])
    # Good 110; the middle between -10 and 110 is 50, nearest 35; a fifth of the way is 14, nearest 10
    assert {stage: picked[stage].steps for stage in ("good", "medium", "poor")} == {
        "good": 80,
        "medium": 20,
        "poor": 10,
    }
    # of the 80 steps to good: 0, 20, 40, 60, 80
    assert [picked[f"replay-{k}"].steps for k in range(1, 6)] == [0, 20, 40, 55, 80]


def test_stages_of_several_trainings():
    long = [Checkpoint(steps, value, Path(f"long/{steps}")) for steps, value in ((0, 0.0), (40, 80.0), (80, 100.0))]
    short = [Checkpoint(steps, value, Path(f"short/{steps}")) for steps, value in ((0, -9.0), (20, 19.0), (60, 52.0))]
    picked = {stage: str(some.path) for stage, some in pick(short + long).items()}
    assert [picked[stage] for stage in ("good", "medium", "poor")] == ["long/80", "short/60", "short/20"]
    assert [picked[f"replay-{k}"] for k in (1, 3, 5)] == ["long/0", "long/40", "long/80"]  # one training only


def test_a_script_that_is_better_takes_the_place_of_good():
    returns = {0: -25.0, 10: -20.0, 20: -15.0, 40: -13.0}
    picked = pick([Checkpoint(steps, value, Path(f"{steps}")) for steps, value in returns.items()], scripted=-5.0)
    assert "good" not in picked
    assert (picked["medium"].steps, picked["poor"].steps, picked["replay-5"].steps) == (20, 10, 40)  # -15, -21


def test_one_checkpoint_is_no_training():
    with pytest.raises(ValueError, match="expected at least two checkpoints of a training, got 1"):
        pick([Checkpoint(0, 0.0, Path())])


def test_stages_are_copied_with_what_is_known_about_them(tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "WEIGHTS", tmp_path / "weights")
    network = Actor(make_vector_env("matrix/xor", 1), (4,), "tanh", standardise=False).in_numpy()
    for steps, value in ((0, 0.0), (5, 0.2), (10, 0.5), (20, 1.0)):
        facts = {"environment_steps": steps, "evaluation": {"return_mean": value}, "seed": 3}
        write_team(tmp_path / "training" / f"{steps}.safetensors", network, facts)
    ship("matrix/xor", (tmp_path / "training",))
    assert shipped_stages("matrix/xor") == STAGES
    medium, facts = read_team(tmp_path / "weights/matrix-xor-medium.safetensors")
    assert facts == {"environment_steps": 10, "evaluation": {"return_mean": 0.5}, "seed": 3}
    assert medium.scenario == "matrix/xor"
    other = dataclasses.replace(network, scenario="matrix/bridge")
    write_team(tmp_path / "training/30.safetensors", other, facts)
    with pytest.raises(ValueError, match=r"expected checkpoints of 'matrix/xor', '.*30.safetensors' is of 'matrix/bri"):
        ship("matrix/xor", (tmp_path / "training",))
