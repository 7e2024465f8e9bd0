import asyncio
import json

import numpy as np
import pytest

from environments import recording, vault_writer
from environments.recording import record

XOR, SPREAD, SMAX = "embedded/matrix/xor", "embedded/mpe/simple_spread", "embedded/smax/3m"
EPISODES = 4  # as many SMAX battles at a time as in the other tests, which therefore share what is compiled


def read(directory):
    """A vault through flashbax's own reader: the call that OG-MARL makes."""
    from flashbax.vault import Vault

    vault = Vault(vault_name=directory.parent.name, vault_uid=directory.name, rel_dir=str(directory.parent.parent))
    experience = vault.read().experience
    leaves = {name: np.asarray(leaf) for name, leaf in experience.items() if name != "infos"}
    return vault.vault_index, leaves | {f"infos.{name}": np.asarray(leaf) for name, leaf in experience["infos"].items()}


def description(directory):
    return json.loads((directory / "recording.json").read_text())


def small(dataset, root, **options):
    return record(dataset, "Mixed", root, progress=False, **({"episodes": EPISODES} | options))


@pytest.mark.parametrize(
    ("dataset", "shapes"),
    [
        (SMAX, {"observations": (3, 75), "actions": (3,), "infos.state": (72,), "infos.legals": (3, 8)}),
        (SPREAD, {"observations": (3, 18), "actions": (3, 5), "infos.state": (54,)}),
        (XOR, {"observations": (2, 1), "actions": (2,), "infos.state": (1,), "infos.legals": (2, 2)}),
    ],
)
def test_flashbax_reads_what_og_marl_expects(tmp_path, dataset, shapes):
    directory = small(dataset, tmp_path)
    source, family, name = dataset.split("/")
    assert directory == tmp_path / source / family / f"{name}.vlt" / "Mixed"
    index, leaves = read(directory)
    n_agents = shapes["observations"][0]
    shapes = shapes | {name: (n_agents,) for name in ("rewards", "terminals", "truncations")}
    assert {name: leaf.shape for name, leaf in leaves.items()} == {
        name: (1, index, *shape) for name, shape in shapes.items()
    }
    types = {name: np.int32 if name == "actions" and dataset != SPREAD else np.float32 for name in shapes}
    assert {name: leaf.dtype for name, leaf in leaves.items()} == types
    assert index == description(directory)["transitions"]
    ends = (leaves["terminals"] + leaves["truncations"])[0, :, 0]
    assert ends.sum() == EPISODES
    assert ends[-1] == 1


def test_smax_rows_belong_together(tmp_path):
    directory = small(SMAX, tmp_path)
    _, leaves = read(directory)
    legal = np.take_along_axis(leaves["infos.legals"], leaves["actions"][..., None], axis=-1)
    assert legal.all()  # the legal actions of the moment in which was acted
    ends = np.flatnonzero(leaves["terminals"][0, :, 0])
    starts = np.concatenate([[0], ends[:-1] + 1])
    health = leaves["infos.state"][0].reshape(len(leaves["rewards"][0]), -1)[:, 0:60:10]
    assert (health[starts] == 1.0).all()  # episodes begin with fresh units
    losses = -np.diff(health[:, 3:].mean(axis=1))
    within = np.setdiff1d(np.arange(len(losses)), ends)
    np.testing.assert_allclose(leaves["rewards"][0, within, 0], losses[within], atol=1e-6)


def test_statistics_are_those_of_the_data(tmp_path):
    directory = small(SPREAD, tmp_path, episodes=10)
    _, leaves = read(directory)
    returns = leaves["rewards"][0].mean(axis=1).reshape(10, 25).sum(axis=1)
    told = description(directory)
    expected = {"return_mean": returns.mean(), "return_std": returns.std()}
    expected |= {"return_min": returns.min(), "return_max": returns.max()}
    assert told["statistics"] == pytest.approx(expected, rel=1e-5)
    assert told["win_rate"] is None  # nobody can win there
    assert told["behaviour_names"] == ["good", "weak"]
    behaviour = np.array(told["episode_behaviour"])
    assert np.bincount(behaviour).tolist() == [3, 7]  # 30 % and 70 %
    for i, name in enumerate(told["behaviour_names"]):
        assert told["by_behaviour"][name]["return_mean"] == pytest.approx(returns[behaviour == i].mean(), rel=1e-5)


def test_win_rate_is_that_of_the_data(tmp_path):
    directory = small(XOR, tmp_path, episodes=20)
    _, leaves = read(directory)
    assert description(directory)["win_rate"] == pytest.approx(leaves["rewards"][0, :, 0].mean())
    assert np.array_equal(leaves["rewards"][0, :, 0], leaves["actions"][0, :, 0] != leaves["actions"][0, :, 1])


def test_same_seed_same_data(tmp_path):
    first, second, other = (
        read(small(SPREAD, tmp_path / name, seed=seed))[1] for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["observations"], other["observations"])
    assert description(tmp_path / "a/embedded/mpe/simple_spread.vlt/Mixed") == description(
        tmp_path / "b/embedded/mpe/simple_spread.vlt/Mixed"
    )


def test_smax_too_repeats_itself(tmp_path):
    first, second = (read(small(SMAX, tmp_path / name))[1] for name in "ab")
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("dataset", "quality"), [(SMAX, "Good"), (SMAX, "Replay"), (SPREAD, "Medium")])
def test_teams_that_learned_repeat_themselves(tmp_path, dataset, quality):
    first, second = (
        record(dataset, quality, tmp_path / name, progress=False, episodes=EPISODES) for name in ("a", "b")
    )
    assert description(first) == description(second)
    assert set(description(first)["weights"]) == set(description(first)["behaviour_names"])
    (_, one), (_, other) = read(first), read(second)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_other_weights_make_another_recording(tmp_path, monkeypatch):
    record(SPREAD, "Medium", tmp_path, progress=False, episodes=EPISODES)
    monkeypatch.setattr(recording, "weights_of", lambda scenario, names: {"learned-medium": "other"})
    with pytest.raises(FileExistsError, match=r"expected a recording with weights=\{'learned-medium': 'other'\}"):
        record(SPREAD, "Medium", tmp_path, progress=False, episodes=EPISODES)


def test_recordings_of_scripts_mention_no_weights(tmp_path):
    assert "weights" not in description(small(SPREAD, tmp_path))


def test_half_cheetahs_run(tmp_path):
    pytest.importorskip("gymnasium_robotics")
    directory = record("embedded/mamujoco/2halfcheetah", "Good", tmp_path, progress=False, episodes=1)
    index, leaves = read(directory)
    assert index == 1000
    assert leaves["actions"].shape == (1, 1000, 2, 3) and np.abs(leaves["actions"]).max() <= 1.0
    assert leaves["rewards"][0, :, 0].sum() > 1000.0


def test_episodes_need_not_fill_the_rounds_or_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "COPIES", 4)
    monkeypatch.setattr(vault_writer, "STEPS_PER_WRITE", 60)
    directory = small(SPREAD, tmp_path, episodes=6)
    index, leaves = read(directory)
    assert index == 6 * 25
    ends = np.flatnonzero(leaves["truncations"][0, :, 0])
    assert ends.tolist() == list(range(24, 150, 25))
    assert len(description(directory)["episode_behaviour"]) == 6
    starts = leaves["observations"][0, ::25]
    assert len(np.unique(starts.reshape(6, -1), axis=0)) == 6  # none twice


def test_episodes_are_put_in_a_row():
    steps = [{"x": np.array([0, 10, 20])}, {"x": np.array([1, 11, 21])}, {"x": np.array([2, 12, 22])}]
    assert recording._in_a_row(steps, np.array([2, 3, 1]))["x"].tolist() == [0, 1, 10, 11, 12, 20]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_interruption_leaves_nothing(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(recording, "COPIES", 2)
    monkeypatch.setattr(vault_writer, "STEPS_PER_WRITE", 1)
    play, calls = recording._play, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise stop
        return play(*args)

    monkeypatch.setattr(recording, "_play", interrupted)
    with pytest.raises(stop):
        small(SPREAD, tmp_path, episodes=8)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list((tmp_path / "embedded/mpe/simple_spread.vlt").iterdir()) == []
    monkeypatch.undo()
    assert read(small(SPREAD, tmp_path))[0] == EPISODES * 25  # and the next attempt succeeds


def test_the_slower_of_two_recordings_is_discarded(tmp_path, monkeypatch):
    record_into = recording._record_into

    def overtaken(draft, *args):
        monkeypatch.setattr(recording, "_record_into", record_into)
        faster = small(XOR, tmp_path)
        overtaken.inode = faster.stat().st_ino
        return record_into(draft, *args)

    monkeypatch.setattr(recording, "_record_into", overtaken)
    directory = small(XOR, tmp_path)
    assert directory.stat().st_ino == overtaken.inode
    assert list(directory.parent.iterdir()) == [directory]
    assert read(directory)[0] == EPISODES


def test_failing_to_put_it_in_place_is_an_error(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(recording.Path, "rename", full)
    with pytest.raises(OSError, match="no space left"):
        small(XOR, tmp_path)


def test_recorded_once(tmp_path, monkeypatch):
    directory = small(XOR, tmp_path)
    monkeypatch.setattr(recording, "_record_into", None)  # would fail if it were called
    assert small(XOR, tmp_path) == directory


def test_other_data_is_not_overwritten(tmp_path):
    directory = small(XOR, tmp_path)
    with pytest.raises(
        FileExistsError, match=r"expected a recording with seed=5 in '.*xor.vlt/Mixed', found seed=0; del"
    ):
        small(XOR, tmp_path, seed=5)
    with pytest.raises(FileExistsError, match=r"expected a recording with episodes=9 .* found episodes=4"):
        small(XOR, tmp_path, episodes=9)
    (directory / "recording.json").unlink()
    with pytest.raises(
        FileExistsError, match=r"found no recording\.json; delete the directory, or record under another"
    ):
        small(XOR, tmp_path)


def test_recording_works_inside_a_running_event_loop(tmp_path):
    async def notebook_cell():
        return small(XOR, tmp_path)

    assert read(asyncio.run(notebook_cell()))[0] == EPISODES


def test_progress_bar_and_nothing_else(tmp_path, capsys):
    record(XOR, "Mixed", tmp_path / "loud", episodes=3)
    output = capsys.readouterr()
    assert "recording matrix/xor: 100%" in output.err
    assert "3/3" in output.err
    assert output.out == ""
    small(XOR, tmp_path / "quiet")
    output = capsys.readouterr()
    assert output.out == output.err == ""


def test_relative_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert small(XOR, "vaults") == tmp_path / "vaults/embedded/matrix/xor.vlt/Mixed"


def test_missing_flashbax_is_noticed_before_the_work(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(vault_writer.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"recording needs flashbax .* pip install '.\[record\]'"):
        small(XOR, tmp_path)


def test_impossible_requests(tmp_path):
    with pytest.raises(ValueError, match=r"expected a dataset 'embedded/<scenario>'.*got 'og_marl/smac_v1/3m'"):
        small("og_marl/smac_v1/3m", tmp_path)
    with pytest.raises(ValueError, match="unknown scenario 'smax/3n'; did you mean smax/3m"):
        small("embedded/smax/3n", tmp_path)
    with pytest.raises(ValueError, match="unknown quality 'Superb' for 'smax/3m'; choose one of: Mixed"):
        record(SMAX, "Superb", tmp_path)
    with pytest.raises(ValueError, match=r"expected at least one episode .* got episodes=0"):
        small(XOR, tmp_path, episodes=0)
    with pytest.raises(ValueError, match=r"a seed of at least 0 .* seed=-1"):
        small(XOR, tmp_path, seed=-1)
    assert list(tmp_path.iterdir()) == []


def test_names_of_own_recordings(tmp_path):
    player = recording.Player("anybody", lambda env: None, {})
    for dataset, quality in ((XOR, "Own"), ("my/xor", "Own"), ("my/../xor", "Own"), ("my/matrix/xor", "a/b")):
        with pytest.raises(
            ValueError, match=f"'my/smax/3m', and the name of a quality, got '{dataset}' and '{quality}'"
        ):
            recording.record_team(dataset, quality, tmp_path, "matrix/xor", player)
    assert list(tmp_path.iterdir()) == []


def test_lost_episodes_stop_a_recording(tmp_path, monkeypatch):
    make = recording.make_vector_env

    def breaking(scenario, n_envs):
        env = make(scenario, n_envs)
        step = env.step
        monkeypatch.setattr(env, "step", lambda actions: step(actions)._replace(lost=np.array([True] * n_envs)))
        return env

    monkeypatch.setattr(recording, "make_vector_env", breaking)
    with pytest.raises(RuntimeError, match=r"'matrix/xor' lost 4 episodes .* record again"):
        small(XOR, tmp_path)
