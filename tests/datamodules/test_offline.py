import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from datamodules import OfflineDataModule, TeamBatch
from datamodules.loaders import OrderedLoader
from datamodules.window_dataset import RESIDENT_BYTES, WindowDataset
from tests.datamodules.recordings import make_leaves, write_vault

LENGTHS = (4, 1, 3, 2, 5, 2, 3, 4, 1, 5)
DATASET = "made_up/game/map"
RECORDING = {
    "win_rate": 0.25,
    "behaviour_names": ["good", "weak"],
    "episode_behaviour": [0, 1] * 5,
}


@pytest.fixture(scope="module")
def leaves() -> dict[str, Any]:
    return make_leaves(LENGTHS)


@pytest.fixture(scope="module")
def root(leaves: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vaults")
    write_vault(root, DATASET, "Mixed", leaves)
    write_vault(root, DATASET, "Continuous", make_leaves(LENGTHS, discrete=False))
    return root


@pytest.fixture
def data(root: Path) -> OfflineDataModule:
    return OfflineDataModule(DATASET, root=root, batch_size=4, validation_fraction=0.3)


def test_dimensions_are_plain_values_known_at_once(data: OfflineDataModule, root: Path) -> None:
    dimensions = (data.n_agents, data.obs_dim, data.state_dim, data.action_dim, data.discrete)
    assert dimensions == (3, 4, 5, 3, True)
    assert [type(value) for value in dimensions] == [int, int, int, int, bool]
    assert data.scenario == "game/map"
    assert data.vault_dir == root / "made_up" / "game" / "map.vlt" / "Mixed"
    assert not OfflineDataModule(DATASET, "Continuous", root=str(root)).discrete


def test_statistics_by_hand(data: OfflineDataModule, leaves: dict[str, Any]) -> None:
    team = leaves["rewards"][0].mean(axis=1)
    stops = np.cumsum(LENGTHS)
    returns = [team[stop - length : stop].sum() for length, stop in zip(LENGTHS, stops, strict=True)]
    np.testing.assert_allclose(data.episode_returns, returns, rtol=1e-5)
    assert data.statistics == pytest.approx(
        {
            "episodes": 10,
            "transitions": 30,
            "length_mean": 3.0,
            "return_mean": np.mean(returns),
            "return_std": np.std(returns),
            "return_min": min(returns),
            "return_max": max(returns),
        },
        rel=1e-5,
    )


def test_the_reward_scale_is_in_the_batches_only(root: Path, data: OfflineDataModule) -> None:
    scaled = OfflineDataModule(DATASET, root=root, reward_scale=-3.0)
    assert scaled.statistics == data.statistics
    batch, reference = next(iter(scaled.all_batches(30))), next(iter(data.all_batches(30)))
    torch.testing.assert_close(batch.rewards, -3.0 * reference.rewards)


def test_whole_episodes_are_held_out(data: OfflineDataModule) -> None:
    rows = data.validation_rows
    assert (data.train_rows == ~rows).all()
    per_episode = [rows[start:stop] for start, stop in data.episode_bounds]
    assert all(episode.all() or not episode.any() for episode in per_episode)
    assert sum(episode.all() for episode in per_episode) == 3


def test_training_and_validation_serve_their_own_rows_once(data: OfflineDataModule) -> None:
    data.set_advantages(np.arange(30.0))  # makes rows recognisable
    data.setup("fit")
    trained = torch.cat([batch.advantages[:, 0] for batch in data.train_dataloader()])
    assert sorted(trained.tolist()) == np.flatnonzero(data.train_rows).tolist()
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert isinstance(loader, OrderedLoader)
        validated = [row for batch in loader for row in batch.advantages[:, 0].tolist()]
        assert validated == np.flatnonzero(data.validation_rows).tolist()
    predicted = [row for batch in data.predict_dataloader() for row in batch.advantages[:, 0].tolist()]
    assert predicted == list(range(30))


def test_all_batches_are_transitions_in_order_whatever_the_window(root: Path) -> None:
    data = OfflineDataModule(DATASET, root=root, window=4)
    data.set_advantages(np.arange(30.0))
    batches = data.all_batches(7)
    assert [tuple(batch.valid.shape) for batch in batches] == [(7, 2), (7, 2), (7, 2), (7, 2), (2, 2)]
    rows = torch.cat([batch.advantages for batch in batches])
    assert rows[:, 0].tolist() == list(range(30))
    last = data.episode_bounds[:, 1] - 1
    assert torch.equal(rows[:, 1] - rows[:, 0] == 0, torch.from_numpy(np.isin(np.arange(30), last)))
    assert next(iter(data.train_dataloader())).valid.shape[1] == 4


def test_whole_episodes_serve_every_step_once_and_in_order(root: Path) -> None:
    data = OfflineDataModule(DATASET, root=root)
    data.set_advantages(np.arange(30.0))
    lengths = np.diff(data.episode_bounds, axis=1)[:, 0]
    batches = list(data.all_batches(2 * int(lengths.max()) + 1, whole_episodes=True))
    assert [len(batch.valid) for batch in batches] == [2] * 5  # as many as fit, padding included
    assert {batch.valid.shape[1] for batch in batches} == {int(lengths.max()) + 1}
    rows = torch.cat([batch.advantages[:, :-1][batch.valid[:, :-1]] for batch in batches])
    assert rows.tolist() == list(range(30))
    first = torch.cat([batch.advantages[:, 0] for batch in batches])
    assert first.tolist() == data.episode_bounds[:, 0].tolist()
    assert len(next(iter(data.all_batches(1, whole_episodes=True))).valid) == 1  # at least one


def test_without_a_validation_fraction_everything_is_trained_on(root: Path) -> None:
    data = OfflineDataModule(DATASET, root=root, validation_fraction=0.0)
    assert data.train_rows.all()
    assert data.val_dataloader() == []


def test_advantages(data: OfflineDataModule) -> None:
    assert np.isnan(data.advantages).all()
    loader = data.train_dataloader()
    assert torch.isnan(next(iter(loader)).advantages).all()
    data.set_advantages(np.arange(30.0))
    assert data.advantages.tolist() == list(range(30))
    assert torch.isfinite(next(iter(loader)).advantages).all()
    with pytest.raises(ValueError, match=r"shape \(30,\), .*, got \(29,\)"):
        data.set_advantages(np.zeros(29))
    with pytest.raises(ValueError, match="got nan at row 0"):
        data.set_advantages(np.full(30, np.nan))


def test_credits(data: OfflineDataModule) -> None:
    values = np.arange(90.0).reshape(30, 3)
    data.set_credits(values)
    batch = next(iter(data.all_batches(30)))
    assert batch.credits[:, 0].tolist() == values.tolist()


def test_held_out_batches_are_spread_evenly(data: OfflineDataModule, root: Path) -> None:
    data.set_advantages(np.arange(30.0))
    rows = np.flatnonzero(data.validation_rows)
    every = torch.cat([batch.advantages[:, 0] for batch in data.held_out_batches(4, most=100)])
    assert every.tolist() == rows.tolist()
    some = torch.cat([batch.advantages[:, 0] for batch in data.held_out_batches(2, most=3)])
    assert some.tolist() == rows[[0, (len(rows) - 1) // 2, len(rows) - 1]].tolist()
    assert list(OfflineDataModule(DATASET, root=root, validation_fraction=0.0).held_out_batches(4, most=3)) == []


def test_scaling_is_fitted_on_the_training_split(data: OfflineDataModule) -> None:
    rows = data.train_rows
    np.testing.assert_allclose(
        data.observation_scaling.mean, data.stream.obs[rows].reshape(-1, 4).mean(axis=0), atol=1e-6
    )
    np.testing.assert_allclose(data.state_scaling.std, data.stream.state[rows].std(axis=0), rtol=1e-5)


def test_changes_are_measured_within_training_episodes(data: OfflineDataModule) -> None:
    obs, ends, rows = data.stream.obs, data.ends, data.train_rows
    steps = [obs[k + 1] - obs[k] for k in range(len(obs) - 1) if rows[k] and not ends[k]]
    changes = np.concatenate(steps)
    np.testing.assert_allclose(data.change_scaling.mean, changes.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(data.change_scaling.std, changes.std(axis=0), rtol=1e-5)


def test_nothing_changes_in_episodes_of_a_single_step(tmp_path: Path) -> None:
    write_vault(tmp_path, DATASET, "Mixed", make_leaves((1, 1, 1, 1)))
    scaling = OfflineDataModule(DATASET, root=tmp_path).change_scaling
    assert scaling.mean.tolist() == [0.0] * 4 and scaling.std.tolist() == [1.0] * 4


def test_the_range_of_returns_is_that_of_the_training_split(root: Path) -> None:
    data = OfflineDataModule(DATASET, root=root, validation_fraction=0.5, reward_scale=-2.0)
    loader = data.all_batches(30)
    returns = next(iter(loader)).returns[:, 0][torch.from_numpy(data.train_rows)]
    assert data.return_range == pytest.approx((float(returns.min()), float(returns.max())), rel=1e-6)
    every = -2.0 * data.episode_returns
    assert data.return_range != pytest.approx((every.min(), every.max()), rel=1e-6)  # held-out episodes are left out


class Counter(pl.LightningModule):
    """Counts the steps it is shown."""

    def validation_step(self, batch: TeamBatch, batch_idx: int) -> None:
        self.log("rows", batch.valid[:, 0].sum().float(), reduce_fx="sum")

    def test_step(self, batch: TeamBatch, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: TeamBatch, batch_idx: int) -> torch.Tensor:
        return batch.rewards[:, 0]


def test_lightning_validates_tests_and_predicts(data: OfflineDataModule) -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    held_out = float(data.validation_rows.sum())
    assert trainer.validate(Counter(), data, verbose=False) == [{"rows": held_out}]
    assert trainer.test(Counter(), data, verbose=False) == [{"rows": held_out}]
    predictions = trainer.predict(Counter(), data)
    assert predictions is not None
    assert torch.cat([torch.as_tensor(rows) for rows in predictions]).tolist() == data.stream.rewards.tolist()


def test_embedded_datasets_are_recorded_on_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = []

    def record(dataset: str, quality: str, root: Path) -> Path:
        recorded.append((dataset, quality))
        vault = write_vault(root, dataset, quality, make_leaves(LENGTHS))
        (vault / "recording.json").write_text(json.dumps(RECORDING))
        return vault

    recorder = ModuleType("environments.recording")
    recorder.record = record  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "environments.recording", recorder)
    for _ in range(2):
        data = OfflineDataModule("embedded/smax/3m", root=tmp_path)
        data.prepare_data()
        data.setup("fit")
        assert data.scenario == "smax/3m"
        assert data.statistics["win_rate"] == 0.25
        assert data.behaviour_names == ["good", "weak"]
        assert data.episode_behaviour is not None
        assert data.episode_behaviour.tolist() == [0, 1] * 5
    assert recorded == [("embedded/smax/3m", "Mixed")]


def test_behaviours_that_nobody_wrote_down(data: OfflineDataModule) -> None:
    assert data.behaviour_names == []
    assert data.episode_behaviour is None
    assert "win_rate" not in data.statistics


def test_behaviours_of_another_recording_are_refused(tmp_path: Path) -> None:
    vault = write_vault(tmp_path, DATASET, "Mixed", make_leaves(LENGTHS))
    (vault / "recording.json").write_text(json.dumps({**RECORDING, "episode_behaviour": [0, 1]}))
    with pytest.raises(ValueError, match=r"each of the 10 episodes of .* lists 2; delete the vault"):
        _ = OfflineDataModule(DATASET, root=tmp_path).episode_behaviour


def test_the_smallest_embedded_dataset_is_recorded_and_read(tmp_path: Path) -> None:
    pytest.importorskip("flashbax")
    data = OfflineDataModule("embedded/matrix/xor", root=tmp_path)
    assert (data.n_agents, data.action_dim, data.discrete) == (2, 2, True)
    actions = data.stream.actions
    np.testing.assert_array_equal(data.stream.rewards, actions[:, 0] != actions[:, 1])
    assert data.stream.terminals.all()
    assert data.statistics["return_mean"] == pytest.approx(0.5, abs=0.05)  # fair coins, 4,000 episodes


def test_unknown_datasets_stop_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean embedded/smax/3m"):
        OfflineDataModule("embedded/smax/3mm", root=tmp_path)
    with pytest.raises(ValueError, match="unknown quality 'Excellent' of embedded/smax/3m; choose one of: Mixed"):
        OfflineDataModule("embedded/smax/3m", "Excellent", root=tmp_path)


def test_missing_vaults_say_where_they_were_expected_and_what_there_is(root: Path) -> None:
    data = OfflineDataModule("somebody/game/map", "Good", root=root)
    with pytest.raises(
        FileNotFoundError, match=r"map.vlt.Good', found none; put it there, .*made_up.game.map.vlt.Mixed"
    ):
        data.prepare_data()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"window": 1}, "window of at least 2, got 1"),
        ({"seed": -1}, "seed of at least 0, got -1"),
        ({"validation_fraction": 1.0}, r"validation fraction in \[0, 1\), got 1.0"),
        ({"reward_scale": 0.0}, "finite reward_scale other than 0"),
        ({"first_episodes": 0}, "first_episodes of at least 1, got 0"),
        ({"episode_fraction": 0.0}, r"episode_fraction in \(0, 1\], got 0.0"),
        ({"return_temperature": -1.0}, "return_temperature above 0, got -1.0"),
    ],
)
def test_impossible_arguments_stop_before_anything_runs(arguments: dict[str, Any], message: str, root: Path) -> None:
    with pytest.raises(ValueError, match=message):
        OfflineDataModule(DATASET, root=root, **arguments)


def test_every_argument_is_explained_on_the_command_line() -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(OfflineDataModule, "data")
    actions = [action for action in parser._actions if action.dest.startswith("data.")]
    assert len(actions) >= 8
    assert all(action.help and len(action.help) > 20 for action in actions)
    config = parser.parse_args(["--data.dataset=embedded/smax/3m", "--data.root=/somewhere", "--data.reward_scale=2"])
    data = parser.instantiate(config).data
    assert data.root == Path("/somewhere")
    assert data.reward_scale == 2.0


def served(data: OfflineDataModule) -> list[TeamBatch]:
    data.setup("fit")
    return [batch for _ in range(2) for batch in data.train_dataloader()]


@pytest.mark.parametrize("quality", ["Mixed", "Continuous"])
@pytest.mark.parametrize("choice", [{}, {"first_episodes": 7, "top_return_fraction": 0.6}])
def test_memory_and_disk_serve_the_same_batches(quality: str, choice: dict[str, Any], root: Path) -> None:
    one, other = (
        OfflineDataModule(DATASET, quality, root, batch_size=4, window=3, cache=cache, **choice)  # type: ignore[arg-type]
        for cache in ("memory", "disk")
    )
    for batch, same in zip(served(one), served(other), strict=True):
        for field, expected, actual in zip(TeamBatch._fields, batch, same, strict=True):
            torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True, msg=field)
    assert one.statistics == other.statistics
    assert one.key == other.key
    advantages = np.random.default_rng(0).normal(size=len(one.rewards)).astype(np.float32)
    for data in (one, other):
        data.set_advantages(advantages)
        np.testing.assert_array_equal(data.advantages, advantages)
        np.testing.assert_array_equal(
            torch.cat([batch.advantages[:, 0] for batch in data.all_batches(5)]).numpy(), advantages
        )


def test_pages_are_given_back_while_batches_are_served(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = iter(range(10**9, 10**12, RESIDENT_BYTES // 3))  # every batch maps a third of what may be mapped
    released = []
    monkeypatch.setattr("datamodules.cache.resident_file_bytes", lambda: next(resident))
    data = OfflineDataModule(DATASET, root=root, batch_size=4, validation_fraction=0.0, cache="disk")
    data.setup("fit")
    mapped = data._load()._mapped
    assert mapped is not None
    release = mapped.release
    monkeypatch.setattr(mapped, "release", lambda above: released.append(release(above)))
    for _ in range(2):
        list(data.train_dataloader())  # 8 batches
    # The fourth reading is the first that is more than the limit above the one when the files were mapped; after a
    # release, whose own reading is the new floor, it is the fourth again
    assert released == [False, False, False, True] * 4


@pytest.mark.parametrize("choice", [{}, {"first_episodes": 7}])
def test_what_is_asked_for_next_is_announced(
    choice: dict[str, Any], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datamodules.cache.physical_memory", lambda: 0)  # nothing fits into the file cache
    data = OfflineDataModule(DATASET, root=root, batch_size=4, window=3, cache="disk", **choice)
    data.setup("fit")
    windows = data._load()
    announced, asked, expect = [], [], windows.expect

    def announce(starts: torch.Tensor) -> None:
        announced.append(starts)
        expect(starts)

    def serve(self: WindowDataset, starts: torch.Tensor) -> TeamBatch:
        asked.append(starts)
        return self.windows(starts, 3)

    monkeypatch.setattr(windows, "expect", announce)
    monkeypatch.setattr(WindowDataset, "__getitem__", serve)
    for _ in range(2):
        list(data.train_dataloader())
    half = len(asked) // 2
    expected = asked[1:half] + asked[half + 1 :]  # all but the first batch of each pass
    assert [rows.tolist() for rows in announced] == [rows.tolist() for rows in expected]


def test_the_disk_is_chosen_for_what_is_large_in_this_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = OfflineDataModule(DATASET, root=root)
    pages = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 0}
    size = 30 * (3 * 4 * 4 + 5 * 4 + 3 * 8 + 4 + 1 + 1 + 3 * 3)
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    pages["SC_PHYS_PAGES"] = 4 * size
    assert not data._on_disk(data._opened())
    pages["SC_PHYS_PAGES"] = 4 * size - 4
    assert data._on_disk(data._opened())


def test_decoded_copies_go_where_they_are_told(root: Path, tmp_path: Path) -> None:
    data = OfflineDataModule(DATASET, root=root, cache="disk", cache_dir=tmp_path / "fast disk")
    data.setup()
    assert data.derived_dir == tmp_path / "fast disk" / "made_up" / "game" / "map" / "Mixed"
    assert [path.name for path in data.derived_dir.glob("steps-*/obs.npy")] == ["obs.npy"]
    assert OfflineDataModule(DATASET, root=root).cache_dir == root / ".cache"


def test_subsets_are_served_counted_and_held_out_from(root: Path, leaves: dict[str, Any]) -> None:
    data = OfflineDataModule(DATASET, root=root, first_episodes=4, validation_fraction=0.25)
    assert data.statistics["episodes"] == 4
    assert data.statistics["transitions"] == 10  # 4 + 1 + 3 + 2
    np.testing.assert_allclose(data.rewards, leaves["rewards"][0, :10].mean(axis=1), rtol=1e-6)
    obs = torch.cat([batch.obs[:, 0] for batch in data.all_batches(3)]).numpy()
    np.testing.assert_array_equal(obs, leaves["observations"][0, :10])
    assert data.train_rows.sum() + data.validation_rows.sum() == 10
    assert "win_rate" not in data.statistics

    best = OfflineDataModule(DATASET, root=root, top_return_fraction=0.2)
    returns = OfflineDataModule(DATASET, root=root).episode_returns
    np.testing.assert_allclose(sorted(best.episode_returns), sorted(returns)[-2:])
    (root / "made_up/game/map.vlt/Mixed/recording.json").write_text(json.dumps(RECORDING))
    behaviour = best.episode_behaviour
    assert behaviour is not None
    assert behaviour.tolist() == [index % 2 for index in np.flatnonzero(np.isin(returns, best.episode_returns))]
    (root / "made_up/game/map.vlt/Mixed/recording.json").unlink()


def test_windows_of_a_subset_never_reach_into_left_out_episodes(root: Path) -> None:
    data = OfflineDataModule(DATASET, root=root, top_return_fraction=0.5, window=4)
    whole = OfflineDataModule(DATASET, root=root).stream
    chosen = {tuple(row) for row in whole.obs[:, 0]} & {
        tuple(row) for batch in data.all_batches(8) for row in batch.obs[:, 0, 0].numpy()
    }
    for batch in served(data):
        assert {tuple(row) for row in batch.obs[:, :, 0].flatten(0, 1).numpy()} <= chosen


def test_vaults_are_combined(root: Path, leaves: dict[str, Any]) -> None:
    more = make_leaves((2, 2), seed=9)
    write_vault(root, DATASET, "More", more)
    data = OfflineDataModule(DATASET, root=root, combine_with=[f"{DATASET}/More"], cache="disk")
    expected = np.concatenate([leaves["observations"][0], more["observations"][0]])
    np.testing.assert_array_equal(torch.cat([batch.obs[:, 0] for batch in data.all_batches(7)]).numpy(), expected)
    assert data.statistics["episodes"] == 12
    assert data.key != OfflineDataModule(DATASET, root=root).key
    assert data.derived_dir.name.startswith("Mixed+")
    assert data.episode_behaviour is None
    for quality, names in (("Mixed", ["good", "weak"] * 5), ("More", ["best"] * 2)):
        recording = {"behaviour_names": sorted(set(names)), "episode_behaviour": [names[0] != n for n in names]}
        (root / f"made_up/game/map.vlt/{quality}/recording.json").write_text(json.dumps(recording, default=int))
    assert data.behaviour_names == ["good", "weak", "best"]
    behaviour = data.episode_behaviour
    assert behaviour is not None
    assert behaviour.tolist() == [0, 1] * 5 + [2, 2]
    for quality in ("Mixed", "More"):
        (root / f"made_up/game/map.vlt/{quality}/recording.json").unlink()


def test_names_of_vaults_to_combine_are_checked(root: Path) -> None:
    with pytest.raises(ValueError, match=r"combine_with to name vaults as <source>.*got 'embedded/smax/3m'"):
        OfflineDataModule(DATASET, root=root, combine_with=["embedded/smax/3m"])
    with pytest.raises(ValueError, match=r"'(obs|actions)' of a step"):
        OfflineDataModule(DATASET, root=root, combine_with=[f"{DATASET}/Continuous"]).setup()


def test_episodes_with_high_returns_are_drawn_more_often(root: Path) -> None:
    def share_of_the_best(**arguments: Any) -> float:
        data = OfflineDataModule(DATASET, root=root, batch_size=400, validation_fraction=0.0, **arguments)
        data.setup("fit")
        first, behind = data.episode_bounds[np.argmax(data.episode_returns)]
        best = {tuple(row) for row in data.stream.obs[first:behind, 0]}
        batches = [batch for _ in range(5) for batch in data.train_dataloader()]
        rows = [tuple(row) in best for batch in batches for row in batch.obs[:, 0, 0].numpy()]
        return float(np.mean(rows))

    returns = OfflineDataModule(DATASET, root=root).episode_returns
    weights = np.exp((returns - returns.max()) / (0.5 * returns.std()))
    length = LENGTHS[int(np.argmax(returns))]
    assert share_of_the_best() == pytest.approx(length / 30)
    assert share_of_the_best(sampling="by_episode") == pytest.approx(0.1, abs=0.03)
    drawn = share_of_the_best(sampling="return_weighted", return_temperature=0.5)
    assert drawn == pytest.approx(weights.max() / weights.sum(), abs=0.05)


def test_actions_out_of_range_are_handled_as_told(root: Path) -> None:
    leaves = make_leaves(LENGTHS, discrete=False)
    leaves["actions"][0, 3, 1, 2] = -1.25
    write_vault(root, DATASET, "Wide", leaves)
    with pytest.raises(ValueError, match=r"'actions' in \[-1, 1\], got -1.25 .* set data.init_args.out_of_range to"):
        OfflineDataModule(DATASET, "Wide", root).setup()
    data = OfflineDataModule(DATASET, "Wide", root, out_of_range="clip")
    assert data.stream.actions[3, 1, 2] == -1.0


def test_the_device_holds_the_data(root: Path) -> None:
    data = OfflineDataModule(DATASET, root=root, cache="device", batch_size=4)
    windows = data._load()
    windows.to(torch.device("meta"))  # a device without contents: where batches are gathered is what counts
    assert windows[torch.arange(3)].obs.device.type == "meta"
    assert windows.windows(torch.arange(3), 5).valid.shape == (3, 5)
