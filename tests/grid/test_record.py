"""The machine that a grid was run on."""

from grid import record


def test_the_machine():
    found = record.hardware()
    assert found["processor"] and 1 <= found["usable_cores"] <= found["cores"] and found["gpus"] == found["gpus"]
    assert set(found) == {"processor", "cores", "usable_cores", "torch_threads", "gpus", "system"}
