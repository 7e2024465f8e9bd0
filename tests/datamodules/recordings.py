"""Small recordings for the tests of this directory: streams in memory, and vaults written by flashbax itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.catalogue import PublishedDataset
from datamodules.vaults import Stream

OBS_DIM, STATE_DIM, N_ACTIONS = 4, 5, 3

Leaves = dict[str, Any]


def make_stream(lengths: tuple[int, ...], n_agents: int = 2, discrete: bool = True, terminal: bool = True) -> Stream:
    """A stream in which every entry tells its row: obs[k] = k everywhere, rewards[k] = k."""
    steps = sum(lengths)
    row = np.arange(steps)
    ends = np.zeros(steps, dtype=bool)
    ends[np.cumsum(lengths) - 1] = True
    actions = row[:, None] % N_ACTIONS + np.zeros((1, n_agents), int)
    legal = np.ones((steps, n_agents, N_ACTIONS), dtype=bool)
    legal[np.arange(steps), :, (row + 1) % N_ACTIONS] = False
    return Stream(
        obs=np.broadcast_to(row[:, None, None], (steps, n_agents, OBS_DIM)).astype(np.float32),
        state=np.broadcast_to(row[:, None], (steps, STATE_DIM)).astype(np.float32),
        actions=actions if discrete else np.full((steps, n_agents, N_ACTIONS), 0.5, np.float32),
        rewards=row.astype(np.float32),
        terminals=ends if terminal else np.zeros_like(ends),
        truncations=np.zeros_like(ends) if terminal else ends,
        legal_actions=legal if discrete else np.broadcast_to(np.True_, legal.shape),
    )


def make_leaves(
    lengths: tuple[int, ...],
    copies: int = 1,
    n_agents: int = 3,
    discrete: bool = True,
    flag_dtype: Any = bool,
    seed: int = 0,
) -> Leaves:
    """Random leaves in OG-MARL's structure; each copy records episodes of the given lengths, the last one truncated."""
    generator = np.random.default_rng(seed)
    steps = sum(lengths)
    shape = (copies, steps, n_agents)
    ends = np.zeros(steps, dtype=bool)
    ends[np.cumsum(lengths) - 1] = True
    truncated = np.zeros(steps, dtype=bool)
    truncated[-1] = True
    actions = generator.integers(0, N_ACTIONS, shape)
    legals = generator.random((*shape, N_ACTIONS)) < 0.5
    np.put_along_axis(legals, actions[..., None], True, axis=3)
    return {
        "observations": generator.normal(size=(*shape, OBS_DIM)).astype(np.float32),
        "actions": actions.astype(np.int32)
        if discrete
        else generator.uniform(-1, 1, (*shape, N_ACTIONS)).astype(np.float32),
        "rewards": generator.normal(size=shape).astype(np.float32),
        "terminals": np.broadcast_to((ends & ~truncated)[:, None], shape).astype(flag_dtype),
        "truncations": np.broadcast_to(truncated[:, None], shape).astype(flag_dtype),
        "infos": {"state": generator.normal(size=(copies, steps, STATE_DIM)).astype(np.float32), "legals": legals},
    }


def leaves_as_published(card: PublishedDataset, lengths: tuple[int, ...], seed: int = 0) -> Leaves:
    """Random leaves of a single copy in the shapes of a published dataset: legal actions, terminal episodes."""
    generator = np.random.default_rng(seed)
    shapes = replace(card, copies=1, steps=sum(lengths)).leaf_shapes
    leaves = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    if card.discrete:
        leaves["actions"] = generator.integers(0, card.action_dim, shapes["actions"]).astype(np.int32)
    else:
        leaves["actions"] = leaves["actions"].clip(-1.0, 1.0)
    ends = np.isin(np.arange(sum(lengths)), np.cumsum(lengths) - 1)
    leaves["terminals"] = np.broadcast_to(ends[:, None], shapes["terminals"]).astype(np.float32)
    leaves["truncations"] = np.zeros_like(leaves["terminals"])
    if card.legal_actions:
        leaves["infos.legals"] = np.ones(shapes["infos.legals"], np.float32)
    infos = {name.removeprefix("infos."): leaves.pop(name) for name in list(leaves) if name.startswith("infos.")}
    return leaves | {"infos": infos}


def write_vault(root: Path, dataset: str, quality: str, leaves: Leaves, written: int | None = None) -> Path:
    """Write leaves with flashbax, at OG-MARL's place; ``written`` steps of them count as written."""
    import jax
    from flashbax.buffers.trajectory_buffer import TrajectoryBufferState
    from flashbax.vault import Vault

    source, environment, scenario = dataset.split("/")
    steps = leaves["rewards"].shape[1]
    experience = jax.tree.map(jax.numpy.asarray, leaves)
    vault = Vault(
        vault_name=f"{scenario}.vlt",
        experience_structure=experience,
        rel_dir=str(root / source / environment),
        vault_uid=quality,
    )
    count = steps if written is None else written
    state = TrajectoryBufferState(
        experience=experience, current_index=jax.numpy.asarray(count), is_full=jax.numpy.asarray(False)
    )
    vault.write(state)
    return root / source / environment / f"{scenario}.vlt" / quality
