import pytest

from callbacks.grid_cell import cell_of, cell_variables


def test_what_the_grid_says_is_what_the_run_reads():
    variables = cell_variables("small", "3m/bc/seed_4", "policy, mode")
    assert variables == {"VGM2P_GRID": "small", "VGM2P_CELL": "3m/bc/seed_4", "VGM2P_POLICY": "policy, mode"}
    assert cell_of(variables) == {"grid": "small", "grid_dataset": "3m", "grid_model": "bc"}
    assert cell_variables("small", "3m/bc/seed_4", None)["VGM2P_POLICY"] == ""


def test_outside_a_grid_there_is_nothing_to_say():
    assert cell_of({}) == {}
    assert cell_of({"VGM2P_GRID": "small", "VGM2P_CELL": ""}) == {}


@pytest.mark.parametrize("name", ["3m", "3m/bc", "3m//seed_0", "a/3m/bc/seed_0"])
def test_a_name_that_is_none(name: str):
    with pytest.raises(ValueError, match=f"VGM2P_CELL: expected <dataset>/<model>/seed_<seed>.*got '{name}'"):
        cell_of({"VGM2P_CELL": name})
