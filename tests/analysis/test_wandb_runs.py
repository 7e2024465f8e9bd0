"""Runs of Weights & Biases, through a stand-in for its public interface."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from analysis.runs import COLUMNS, CURVE_COLUMNS, main_rows
from analysis.statistics import values_of
from analysis.wandb_runs import AXIS, wandb_curves, wandb_results


class Run:
    """What ``wandb.Api().runs`` gives, as far as it is used."""

    def __init__(self, seed: int, state: str = "finished", group: str | None = "3m", **config: Any) -> None:
        self.name, self.state, self.group, self.url = (
            f"bc/seed_{seed}",
            state,
            group,
            f"https://wandb.ai/e/p/runs/{seed}",
        )
        known = {"algorithm": "BC", "dataset": "embedded/smax/3m", "quality": "Mixed", "seed": seed}
        self.config: dict[str, Any] = {**known, **config}
        self.summary: dict[str, Any] = {
            AXIS: 3999,
            "eval/return_mean": {"max": 9.0},  # of the rollouts while it trained
            "eval/policy, sampled/return_mean": 1.0 + seed,
            "eval/policy, sampled/win_rate": 0.25,
            "eval/policy, sampled/network_calls": 1,
            "eval/policy, mode/return_mean": 2.0 + seed,
            "train/policy_loss": 0.5,
        }

    def scan_history(self, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        points = [{AXIS: 99, "eval/return_mean": 0.5}, {AXIS: 199, "eval/return_mean": 1.5}]
        yield from ({key: point[key] for key in keys} for point in points)


class Api:
    def __init__(self, *runs: Run) -> None:
        self._runs, self.asked = runs, ("", {})

    def runs(self, path: str, filters: Mapping[str, Any]) -> Sequence[Run]:
        self.asked = (path, dict(filters))
        return self._runs


def test_final_tables_become_results():
    api = Api(Run(0), Run(1))
    frame = wandb_results("e/p", {"group": "3m"}, api)
    assert api.asked == ("e/p", {"group": "3m"})
    assert tuple(frame.columns) == COLUMNS and len(frame) == 4
    main = main_rows(frame)
    assert main["policy"].tolist() == ["policy, sampled"] * 2 and main["return"].tolist() == [1.0, 2.0]
    assert main["won"].tolist() == [0.25, 0.25] and main["calls_per_decision"].tolist() == [1, 1]
    assert set(main["task"]) == {"3m"} and set(main["model"]) == {"bc"} and set(main["algorithm"]) == {"BC"}
    assert main["run"].tolist()[1].endswith("/runs/1")
    assert values_of(main, "bc", "return").tolist() == [[1.0], [2.0]], "ready for the statistics"


def test_a_run_outside_a_grid_is_named_after_algorithm_and_data():
    frame = wandb_results("e/p", api=Api(Run(0, group=None)))
    assert set(frame["model"]) == {"BC"} and set(frame["task"]) == {"embedded/smax/3m Mixed"}


def test_a_run_that_says_where_it_belongs_is_believed():
    said = {"task": "3m, half of it", "model_name": "bc_wide", "stage": "fit"}
    frame = wandb_results("e/p", api=Api(Run(0, group="embedded/smax/3m/Mixed", **said), Run(1, stage="test")))
    assert set(frame["task"]) == {"3m, half of it"} and set(frame["model"]) == {"bc_wide"}
    assert set(frame["seed"]) == {0}, "tests are no second results"


def test_histories_become_curves():
    frame = wandb_curves("e/p", api=Api(Run(3)))
    assert tuple(frame.columns) == CURVE_COLUMNS
    assert frame[["seed", "update", "value"]].to_numpy().tolist() == [[3, 100, 0.5], [3, 200, 1.5]]


def test_unfinished_runs_are_left_out_and_named():
    with pytest.warns(UserWarning, match=r"left out, because they are not finished: bc/seed_1 \(crashed\)"):
        frame = wandb_results("e/p", api=Api(Run(0), Run(1, state="crashed")))
    assert set(frame["seed"]) == {0}
    with pytest.raises(ValueError, match=r"expected finished runs in 'e/p', got bc/seed_1 \(running\); offline runs"):
        wandb_results("e/p", api=Api(Run(1, state="running")))
    with pytest.raises(ValueError, match="expected finished runs in 'e/p', got none"):
        wandb_results("e/p", api=Api())


def test_a_run_that_does_not_say_what_it_is():
    run = Run(0)
    del run.config["seed"], run.config["quality"]
    with pytest.raises(ValueError, match=r"expected quality, seed in the configuration of https.*RunMetadata"):
        wandb_results("e/p", api=Api(run))
