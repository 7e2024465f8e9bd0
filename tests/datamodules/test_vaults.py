import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datamodules
from datamodules.vaults import Vault, is_vault, read_vault, read_vaults
from tests.datamodules.recordings import make_leaves, write_vault

LENGTHS = (3, 1, 4)
DATASET = "made_up/game/map"


def assert_holds(vault: Path, leaves: dict[str, Any], steps: int) -> None:
    """What is read equals the first ``steps`` steps of the leaves, copy behind copy."""
    stream = read_vault(vault)

    def flat(leaf: np.ndarray) -> np.ndarray:
        return leaf[:, :steps].reshape(-1, *leaf.shape[2:])

    np.testing.assert_array_equal(stream.obs, flat(leaves["observations"]))
    np.testing.assert_array_equal(stream.state, flat(leaves["infos"]["state"]))
    np.testing.assert_array_equal(stream.actions, flat(leaves["actions"]))
    np.testing.assert_allclose(stream.rewards, flat(leaves["rewards"]).mean(axis=1), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(stream.terminals, flat(leaves["terminals"]).any(axis=1))


@pytest.mark.parametrize("flag_dtype", [bool, np.int32, np.float32])
@pytest.mark.parametrize("copies", [1, 2, 5])
def test_discrete_vaults_by_flashbax_come_back(copies: int, flag_dtype: Any, tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS, copies=copies, flag_dtype=flag_dtype)
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    assert_holds(vault, leaves, steps=8)
    stream = read_vault(vault)
    assert (stream.n_agents, stream.obs_dim, stream.state_dim, stream.action_dim) == (3, 4, 5, 3)
    assert stream.discrete
    assert stream.actions.dtype == np.int64
    assert len(stream) == 8 * copies
    np.testing.assert_array_equal(stream.legal_actions, leaves["infos"]["legals"].reshape(-1, 3, 3))
    assert np.flatnonzero(stream.terminals).tolist() == [k + 8 * copy for copy in range(copies) for k in (2, 3)]
    assert np.flatnonzero(stream.truncations).tolist() == [7 + 8 * copy for copy in range(copies)]
    assert {stream.obs.dtype, stream.state.dtype, stream.rewards.dtype} == {np.dtype(np.float32)}
    assert {stream.terminals.dtype, stream.truncations.dtype, stream.legal_actions.dtype} == {np.dtype(bool)}


def test_continuous_vaults_come_back_and_everything_is_legal(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS, discrete=False)
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    assert_holds(vault, leaves, steps=8)
    stream = read_vault(vault)
    assert not stream.discrete
    assert stream.action_dim == 3
    assert stream.legal_actions.shape == (8, 3, 3)
    assert stream.legal_actions.all()


def test_only_the_written_part_is_read_and_closed_as_truncated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leaves = make_leaves(LENGTHS, copies=2)
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves, written=6)
    with caplog.at_level(logging.WARNING):
        stream = read_vault(vault)
    assert_holds(vault, leaves, steps=6)
    assert np.flatnonzero(stream.truncations).tolist() == [5, 11]
    assert "stops within an episode (copy 1, step 5): marked as truncated there" in caplog.text


def test_the_flag_of_any_agent_is_the_teams(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS)
    terminals = np.zeros((1, 8, 3), dtype=bool)
    terminals[0, 4, 2] = True
    vault = write_vault(tmp_path, DATASET, "Mixed", {**leaves, "terminals": terminals})
    assert np.flatnonzero(read_vault(vault).terminals).tolist() == [4]


def test_team_rewards_and_flags_without_an_agent_axis(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS)
    team = {name: leaves[name][:, :, 0] for name in ("rewards", "terminals", "truncations")}
    stream = read_vault(write_vault(tmp_path, DATASET, "Mixed", {**leaves, **team}))
    np.testing.assert_array_equal(stream.rewards, team["rewards"][0])
    np.testing.assert_array_equal(stream.terminals, team["terminals"][0])


def test_without_a_state_the_observations_take_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leaves = make_leaves(LENGTHS)
    del leaves["infos"]["state"]
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    with caplog.at_level(logging.WARNING):
        stream = read_vault(vault)
    assert stream.state_is_concatenated
    np.testing.assert_array_equal(stream.state, leaves["observations"][0].reshape(8, 12))
    assert "holds no global state: the concatenated observations of all 3 agents" in caplog.text


def test_without_legal_actions_all_that_were_seen_are_legal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leaves = make_leaves(LENGTHS)
    del leaves["infos"]["legals"]
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    with caplog.at_level(logging.WARNING):
        stream = read_vault(vault)
    assert stream.legal_actions.shape == (8, 3, leaves["actions"].max() + 1)
    assert stream.legal_actions.all()
    assert "does not say which actions were legal" in caplog.text


def test_a_path_with_spaces_and_signs(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS)
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    assert_holds(vault.rename(tmp_path / "my data #1 50%2F?"), leaves, steps=8)


def poisoned(name: str, index: tuple[int, ...], value: float, **options: Any) -> dict[str, Any]:
    leaves = make_leaves(LENGTHS, copies=2, **options)
    holder = leaves["infos"] if name in leaves["infos"] else leaves
    holder[name] = holder[name].copy()
    holder[name][index] = value
    return leaves


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        (
            poisoned("observations", (1, 4, 2, 3), np.nan),
            r"finite numbers in 'observations', got nan at copy 1, step 4, agent or entry \[2, 3\]",
        ),
        (poisoned("rewards", (0, 5, 1), np.inf), r"'rewards', got inf at copy 0, step 5, agent or entry \[1\]"),
        (poisoned("state", (1, 0, 4), -np.inf), r"'infos.state', got -inf at copy 1, step 0, agent or entry \[4\]"),
        (poisoned("actions", (0, 2, 1), 3), r"'actions' in 0..2, got 3 at copy 0, step 2, agent or entry \[1\]"),
        (poisoned("actions", (0, 2, 1), -1), r"'actions' in 0..2, got -1"),
        (
            poisoned("actions", (1, 7, 0, 2), 1.01, discrete=False),
            r"'actions' in \[-1, 1\], got 1.0\d* at copy 1, step 7, agent or entry \[0, 2\]",
        ),
        (poisoned("actions", (1, 7, 0, 2), np.nan, discrete=False), "finite numbers in 'actions', got nan"),
        (
            poisoned("terminals", (0, 6, 0), 0.5, flag_dtype=np.float32),
            "0 or 1 in 'terminals', got 0.5 at copy 0, step 6",
        ),
        (poisoned("truncations", (0, 6, 0), np.nan, flag_dtype=np.float32), "0 or 1 in 'truncations', got nan"),
    ],
)
def test_wrong_entries_are_found_and_named(leaves: dict[str, Any], message: str, tmp_path: Path) -> None:
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    with pytest.raises(ValueError, match=message):
        read_vault(vault)


def test_an_illegal_action_is_found_and_named(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS, copies=2)
    action = leaves["actions"][1, 3, 2]
    leaves["infos"]["legals"][1, 3, 2, action] = False
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    with pytest.raises(
        ValueError, match=rf"'infos.legals' allows, got {action} at copy 1, step 3, agent or entry \[2\]"
    ):
        read_vault(vault)


def test_fractional_choices_are_refused(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS)
    vault = write_vault(tmp_path, DATASET, "Mixed", {**leaves, "actions": leaves["actions"] + np.float32(0.5)})
    with pytest.raises(ValueError, match="whole numbers in 'actions'"):
        read_vault(vault)


def test_whole_vectors_are_not_actions(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS)
    vectors = np.repeat(leaves["actions"][..., None], 2, axis=-1)
    vault = write_vault(tmp_path, DATASET, "Mixed", {**leaves, "actions": vectors})
    with pytest.raises(ValueError, match="discrete actions have three axes"):
        read_vault(vault)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_choices_may_have_an_axis_of_length_1(dtype: Any, tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS)
    vault = write_vault(tmp_path, DATASET, "Expert", {**leaves, "actions": leaves["actions"][..., None].astype(dtype)})
    stream = read_vault(vault)
    assert stream.discrete
    np.testing.assert_array_equal(stream.actions, leaves["actions"][0])


def test_a_vector_of_length_1_is_continuous(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS, discrete=False)
    leaves["actions"] = leaves["actions"][..., :1]
    leaves["infos"]["legals"] = leaves["infos"]["legals"][..., :1]
    stream = read_vault(write_vault(tmp_path, DATASET, "Mixed", leaves))
    assert not stream.discrete
    assert stream.action_dim == 1


def test_a_state_that_all_agents_share_is_read_once(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS, copies=2)
    state = leaves["infos"]["state"]
    leaves["infos"]["state"] = np.repeat(state[:, :, None], 3, axis=2)
    stream = read_vault(write_vault(tmp_path, DATASET, "Mixed", leaves))
    np.testing.assert_array_equal(stream.state, state.reshape(16, -1))


def test_states_of_each_agent_are_concatenated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leaves = make_leaves(LENGTHS, copies=2)
    state = np.repeat(leaves["infos"]["state"][:, :, None], 3, axis=2)
    state[1, 7, 2, 0] += 1.0  # a single difference, at the very end
    leaves["infos"]["state"] = state
    with caplog.at_level(logging.WARNING):
        stream = read_vault(write_vault(tmp_path, DATASET, "Mixed", leaves))
    np.testing.assert_array_equal(stream.state, state.reshape(16, 15))
    assert "another state for every agent: all 3 of them, concatenated" in caplog.text


def test_entries_that_only_pad_a_continuous_action_are_marked(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS, discrete=False)
    entries = np.array([[True, True, True], [True, True, False], [True, False, False]])
    leaves["infos"]["legals"] = np.broadcast_to(entries, leaves["infos"]["legals"].shape)
    stream = read_vault(write_vault(tmp_path, DATASET, "Mixed", leaves))
    np.testing.assert_array_equal(stream.legal_actions, np.broadcast_to(entries, (8, 3, 3)))


def test_actions_out_of_range_are_clipped_on_demand_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leaves = make_leaves(LENGTHS, copies=2, discrete=False)
    leaves["actions"][0, 1, 2, 0], leaves["actions"][1, 7, 0, 1] = 1.5, -3.0
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    with caplog.at_level(logging.WARNING):
        stream = read_vault(vault, out_of_range="clip")
    np.testing.assert_array_equal(stream.actions, leaves["actions"].reshape(16, 3, 3).clip(-1, 1))
    assert "2 entries of 'actions' outside [-1, 1] were moved" in caplog.text


def test_a_recording_without_any_end_is_refused(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS, copies=2)
    leaves["terminals"], leaves["truncations"] = leaves["terminals"].copy(), leaves["truncations"].copy()
    leaves["terminals"][1], leaves["truncations"][1] = False, False
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    with pytest.raises(ValueError, match="no 'terminals' nor 'truncations' is set in all 8 steps of copy 1"):
        read_vault(vault)


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100])
def test_the_size_of_the_pieces_changes_nothing(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = make_leaves((3, 1, 4, 2), copies=2)
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    monkeypatch.setattr(Vault, "piece", piece)
    assert [len(columns["rewards"]) for columns in Vault(vault).pieces()] == 2 * (
        [piece] * (10 // piece) + [10 % piece] * (10 % piece > 0)
    )
    assert_holds(vault, leaves, steps=10)
    leaves["rewards"][1, 6, 2] = np.nan
    damaged = write_vault(tmp_path, DATASET, "Bad", leaves)
    with pytest.raises(ValueError, match=r"'rewards', got nan at copy 1, step 6, agent or entry \[2\]"):
        read_vault(damaged)


def test_vaults_are_read_one_behind_the_other(tmp_path: Path) -> None:
    first, second = make_leaves(LENGTHS, seed=1), make_leaves((2, 2), copies=2, seed=2)
    vaults = [Vault(write_vault(tmp_path, DATASET, name, leaves)) for name, leaves in (("A", first), ("B", second))]
    stream = read_vaults(vaults)
    both = [leaves["observations"].reshape(-1, 3, 4) for leaves in (first, second)]
    np.testing.assert_array_equal(stream.obs, np.concatenate(both))
    assert np.flatnonzero(stream.ends).tolist() == [2, 3, 7, 9, 11, 13, 15]


def test_vaults_of_different_shapes_are_not_combined(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS)
    fewer = {**leaves, "observations": leaves["observations"][..., :2]}
    vaults = [Vault(write_vault(tmp_path, DATASET, name, leaf)) for name, leaf in (("A", leaves), ("B", fewer))]
    with pytest.raises(ValueError, match=r"'obs' of a step is \(3, 4\) in .*A' and \(3, 2\) in"):
        read_vaults(vaults)
    discrete = make_leaves(LENGTHS, discrete=False)
    with pytest.raises(ValueError, match="'actions' of a step"):
        read_vaults([vaults[0], Vault(write_vault(tmp_path, DATASET, "C", discrete))])


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    vault = write_vault(tmp_path, DATASET, "A", make_leaves(LENGTHS))
    fingerprint = Vault(vault).fingerprint()
    copy = tmp_path / "copy"
    shutil.copytree(vault, copy)
    assert Vault(copy).fingerprint() == fingerprint
    assert Vault(vault, out_of_range="clip").fingerprint() != fingerprint
    other = write_vault(tmp_path, DATASET, "B", make_leaves(LENGTHS, seed=1))
    assert Vault(other).fingerprint() != fingerprint


@pytest.mark.parametrize(
    ("name", "leaf", "message"),
    [
        ("rewards", np.zeros((1, 8, 2)), r"'rewards' has shape \(1, 8, 2\), but 'observations' \(1, 8, 3, 4\)"),
        ("actions", np.zeros((1, 8), int), r"expected 'actions' with 3 or 4 axes \(copies, steps, ...\)"),
        ("observations", np.zeros((1, 8, 4)), "expected 'observations' with 4 axes"),
    ],
)
def test_shapes_that_do_not_fit_together(name: str, leaf: np.ndarray, message: str, tmp_path: Path) -> None:
    vault = write_vault(tmp_path, DATASET, "Mixed", {**make_leaves(LENGTHS), name: leaf})
    with pytest.raises(ValueError, match=message):
        read_vault(vault)


def test_missing_leaves_are_named(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS)
    del leaves["truncations"]
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    with pytest.raises(ValueError, match=r"lacks truncations \(it holds actions, infos.legals"):
        read_vault(vault)


def test_a_leaf_shorter_than_the_others(tmp_path: Path) -> None:
    import tensorstore as ts

    vault = write_vault(tmp_path, DATASET, "Mixed", make_leaves(LENGTHS))
    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{vault}/"}, "path": "rewards."}
    leaf = ts.open({"driver": "zarr", "kvstore": store}).result()
    leaf.resize(exclusive_max=[1, 5, 3], resize_metadata_only=True).result()
    with pytest.raises(ValueError, match="'rewards' holds 5 of the 8 steps"):
        read_vault(vault)


def test_nothing_written(tmp_path: Path) -> None:
    vault = write_vault(tmp_path, DATASET, "Mixed", make_leaves(LENGTHS), written=0)
    with pytest.raises(ValueError, match="no step was ever written"):
        read_vault(vault)


def test_no_vault_at_all(tmp_path: Path) -> None:
    assert not is_vault(tmp_path)
    with pytest.raises(FileNotFoundError, match="was the recording or the copy interrupted"):
        read_vault(tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    whole = write_vault(tmp_path, DATASET, "Mixed", make_leaves(LENGTHS))
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.suffix != ".json")
    refused = 0
    for file in files:
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        (copy / file).write_bytes((copy / file).read_bytes()[: (copy / file).stat().st_size // 2])
        try:
            read_vault(copy)
        except ValueError as error:
            assert "cannot be read" in str(error)
            refused += 1
        shutil.rmtree(copy)
    assert refused > 0  # flashbax leaves behind some files that no longer matter


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("{", "metadata.json is not what flashbax writes"),
        (json.dumps({"version": 1.2}), "metadata.json is not what flashbax writes"),
        (json.dumps({"version": 2.0, "structure_shape": {}}), "format version 2.0, expected 1.x"),
    ],
)
def test_foreign_metadata(metadata: str, message: str, tmp_path: Path) -> None:
    vault = write_vault(tmp_path, DATASET, "Mixed", make_leaves(LENGTHS))
    (vault / "metadata.json").write_text(metadata)
    with pytest.raises(ValueError, match=message):
        read_vault(vault)


@pytest.mark.parametrize("version", [1, 1.0, 1.2, 1.9, "1.2"])
def test_every_minor_version_is_read(version: Any, tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS)
    vault = write_vault(tmp_path, DATASET, "Mixed", leaves)
    metadata = json.loads((vault / "metadata.json").read_text())
    (vault / "metadata.json").write_text(json.dumps({**metadata, "version": version}))
    assert_holds(vault, leaves, steps=8)


def test_reading_needs_neither_jax_nor_flashbax(tmp_path: Path) -> None:
    vault = write_vault(tmp_path, DATASET, "Mixed", make_leaves(LENGTHS))
    code = (
        "import sys; from pathlib import Path; from datamodules import read_vault\n"
        "assert 'tensorstore' not in sys.modules, 'tensorstore'\n"
        "assert len(read_vault(Path(sys.argv[1]))) == 8\n"
        "assert not {'jax', 'flashbax', 'orbax', 'environments'} & set(sys.modules)\n"
    )
    project = Path(datamodules.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code, str(vault)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
