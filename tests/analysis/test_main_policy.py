"""Which row of an evaluation stands for a model."""

from typing import Any

import pytest

from analysis.main_policy import main_policy

HEADS = ["the data", "policy, sampled", "policy, mode"]
SCALES = ["the data", "cloning", "policy, w = 1", "policy, w = 2"]
NOISES = ["the data", "policy, own noise", "policy, zero noise", "policy, shared noise"]


@pytest.mark.parametrize(
    ("names", "options", "asked", "expected"),
    [
        (["the data", "one candidate", "policy"], {}, None, "policy"),
        (HEADS, {}, None, "policy, sampled"),
        (HEADS, {}, "policy, mode", "policy, mode"),
        (HEADS, {}, "policy, w = 2", "policy, sampled"),
        (SCALES, {"guidance_scale": 2.0}, None, "policy, w = 2"),
        (SCALES, {"guidance_scale": 3.0}, None, "policy, w = 1"),
        (NOISES, {"noise": "normal", "shared_noise": False}, None, "policy, own noise"),
        (NOISES, {"noise": "zero", "shared_noise": False}, None, "policy, zero noise"),
        (NOISES, {"noise": "normal", "shared_noise": True}, None, "policy, shared noise"),
        (["the data"], {}, None, None),
    ],
)
def test_the_policy_that_stands_for_a_model(
    names: list[str], options: dict[str, Any], asked: str | None, expected: str | None
):
    assert main_policy(names, options, asked) == expected
