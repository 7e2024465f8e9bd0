"""OG-MARL's replay buffer is flashbax's: what we record, it reads."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.vaults import read_vault

flashbax = pytest.importorskip("flashbax")


def test_our_recordings_are_read_by_the_calls_that_og_marl_makes(tmp_path: Path) -> None:
    import jax
    from flashbax.vault import Vault

    from environments.recording import record

    directory = record("embedded/matrix/xor", "Mixed", tmp_path, episodes=40)
    # og_marl/replay_buffers.py, FlashbaxReplayBuffer.populate_from_vault and .sample
    state = Vault(vault_name="embedded/matrix/xor.vlt", vault_uid="Mixed", rel_dir=str(tmp_path)).read()
    buffer = flashbax.make_trajectory_buffer(
        add_batch_size=1,
        sample_batch_size=8,
        sample_sequence_length=2,
        period=1,
        min_length_time_axis=1,
        max_size=2,
    )
    experience = jax.jit(buffer.sample)(state, jax.random.PRNGKey(0)).experience
    assert set(experience) == {"observations", "actions", "rewards", "terminals", "truncations", "infos"}
    stream = read_vault(directory)
    assert experience["observations"].shape == (8, 2, *stream.obs.shape[1:])
    assert experience["infos"]["state"].shape == (8, 2, stream.state_dim)
    assert experience["infos"]["legals"].shape == (8, 2, *stream.legal_actions.shape[1:])
    for name, mine in (("observations", stream.obs), ("actions", stream.actions), ("terminals", None)):
        theirs = np.asarray(state.experience[name])[0, : len(stream)]
        expected = np.repeat(stream.terminals[:, None], stream.n_agents, axis=1) if mine is None else mine
        np.testing.assert_array_equal(theirs.astype(expected.dtype), expected)
    actions = np.asarray(experience["actions"])
    np.testing.assert_array_equal(np.asarray(experience["rewards"])[..., 0], actions[..., 0] != actions[..., 1])
