"""Read one recorded dataset, a flashbax *vault* in OG-MARL's layout: the only file that knows the format on disk.

A vault is a directory with ``metadata.json`` (version, shape and type of every leaf) and an OCDBT key-value store that
holds one zarr array per leaf, named by its path with a dot behind every part (``infos.state.``), and ``vault_index``:
how many steps were written. The arrays are declared with an all but endless time axis, so only ``vault_index`` says
where the data ends. Reading needs the package tensorstore; neither flashbax nor JAX.

Original: flashbax, https://github.com/instadeepai/flashbax, file ``flashbax/vault/vault.py``.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

VAULT_VERSION = 1  # major version of flashbax's format
REQUIRED_LEAVES = ("observations", "actions", "rewards", "terminals", "truncations")
OPTIONAL_LEAVES = ("infos.state", "infos.legals")

Leaves = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Stream:
    """One recording in memory: L steps, one episode after the other.

    Attributes:
        obs: (L, N, O) float32.
        state: (L, S) float32; the observations of all agents, concatenated, where the vault holds no state.
        actions: (L, N) int64 if discrete, else (L, N, A) float32 in [-1, 1].
        rewards: Team reward, (L,) float32: mean over the agents' rewards, as OG-MARL does.
        terminals: (L,) bool, True where the task ended for any agent.
        truncations: (L,) bool, True where the episode was cut off for any agent, or where the recording itself stops.
        legal_actions: (L, N, A) bool; all True if continuous or if the vault does not say.
        state_is_concatenated: True where ``state`` was built from the observations.
    """

    obs: NDArray[np.float32]
    state: NDArray[np.float32]
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    legal_actions: NDArray[np.bool_]
    state_is_concatenated: bool = False

    def __len__(self) -> int:
        """Number of steps L."""
        return len(self.rewards)

    @property
    def ends(self) -> NDArray[np.bool_]:
        """True at the last step of every episode, shape (L,)."""
        return self.terminals | self.truncations

    @property
    def discrete(self) -> bool:
        """Whether an action is one of A choices rather than a vector of A numbers."""
        return self.actions.ndim == 2

    @property
    def n_agents(self) -> int:
        """Number of agents N."""
        return int(self.obs.shape[1])

    @property
    def obs_dim(self) -> int:
        """Length O of one agent's observation."""
        return int(self.obs.shape[2])

    @property
    def state_dim(self) -> int:
        """Length S of the global state."""
        return int(self.state.shape[1])

    @property
    def action_dim(self) -> int:
        """Number of choices if discrete, else the length of an action."""
        return int(self.legal_actions.shape[2])


def is_vault(directory: Path) -> bool:
    """Whether a directory looks like a flashbax vault.

    Args:
        directory: Any path, existing or not.

    Returns:
        True if the directory holds both files by which a vault is known.
    """
    return (directory / "metadata.json").is_file() and (directory / "manifest.ocdbt").is_file()


def read_vault(directory: Path) -> Stream:
    """Read and check a whole vault.

    Recordings of several copies side by side (leading axes (B, T) with B > 1) are laid one behind the other. Where the
    recording of a copy stops within an episode, its last step is marked as truncated, and the log says so. Where the
    vault holds no state, the concatenated observations of all agents take its place, and the log says so.

    Args:
        directory: The vault: ``<root>/<source>/<environment>/<scenario>.vlt/<quality>``.

    Returns:
        The written part of the vault, as one stream.

    Raises:
        FileNotFoundError: If there is no vault in the directory.
        ValueError: If a leaf is missing, damaged or of an unexpected shape, if leaves disagree in length, if nothing
            was written, or if the data contains NaN, infinity, a flag that is neither 0 nor 1, an action out of range
            or an illegal one. The message names the leaf and its first bad position.
    """
    directory = Path(directory).absolute()
    leaves = _read_leaves(directory)
    batch, steps = leaves["rewards"].shape[:2]
    where = f"vault '{directory}'"
    _check_shapes(leaves, where)
    flat = {name: leaf.reshape(batch * steps, *leaf.shape[2:]) for name, leaf in leaves.items()}
    obs = _finite(flat["observations"], "observations", steps, where)
    rewards = _finite(flat["rewards"], "rewards", steps, where)
    terminals = _flags(flat["terminals"], "terminals", steps, where)
    truncations = _flags(flat["truncations"], "truncations", steps, where)
    actions, legal_actions = _actions(flat, steps, where)
    return Stream(
        obs=obs,
        state=_state(flat, obs, steps, where),
        actions=actions,
        rewards=rewards if rewards.ndim == 1 else rewards.mean(axis=1, dtype=np.float64).astype(np.float32),
        terminals=terminals,
        truncations=_close_recordings(terminals, truncations, steps, where),
        legal_actions=legal_actions,
        state_is_concatenated="infos.state" not in flat,
    )


def _leaf_names(structure: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of all leaves in the metadata's nested structure, joined by dots."""
    names: list[str] = []
    for key, value in structure.items():
        names += _leaf_names(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return names


def _stored_leaves(directory: Path) -> list[str]:
    """The leaves we use, as far as the vault's metadata lists them."""
    if not is_vault(directory):
        raise FileNotFoundError(
            f"expected a vault (metadata.json and manifest.ocdbt) in '{directory}', found none; "
            "was the recording or the copy interrupted? Delete the directory and record or copy the dataset again"
        )
    try:
        metadata = json.loads((directory / "metadata.json").read_text())
        version, names = metadata["version"], _leaf_names(metadata["structure_shape"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"vault '{directory}': metadata.json is not what flashbax writes ({error!r}); copy the dataset again"
        ) from error
    if int(version) != VAULT_VERSION:
        raise ValueError(
            f"vault '{directory}' has format version {version}, expected {VAULT_VERSION}.x; convert it with flashbax"
        )
    missing = [name for name in REQUIRED_LEAVES if name not in names]
    if missing:
        raise ValueError(
            f"vault '{directory}' lacks {', '.join(missing)} (it holds {', '.join(names)}); "
            "expected OG-MARL's structure, record or convert it again"
        )
    return [name for name in REQUIRED_LEAVES + OPTIONAL_LEAVES if name in names]


def _read_leaves(directory: Path) -> Leaves:
    """Read the written part of every leaf, shape (B, T, ...)."""
    names = _stored_leaves(directory)
    import tensorstore as ts  # here, so that importing datamodules does not need it

    def opened(name: str) -> Any:
        store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{directory}/"}, "path": name}
        return ts.open({"driver": "zarr", "kvstore": store}, open=True, read=True)

    try:
        written = int(opened("vault_index").result().read().result()[0])
        if written < 1:
            raise ValueError("no step was ever written to it")
        futures = {name: opened(f"{name}.") for name in names}
        stores = {name: future.result() for name, future in futures.items()}
        for name, store in stores.items():
            if store.shape[1] < written:
                raise ValueError(f"'{name}' holds {store.shape[1]} of the {written} steps")
        reads = {name: store[:, :written].read() for name, store in stores.items()}
        return {name: np.asarray(read.result()) for name, read in reads.items()}
    except Exception as error:  # tensorstore raises ValueError, OSError and its own kinds for damaged files
        raise ValueError(
            f"vault '{directory}' cannot be read: {error}. It is empty, damaged or incomplete; "
            "delete it and record or copy it again"
        ) from error


def _check_shapes(leaves: Leaves, where: str) -> None:
    """Raise unless all leaves agree on lanes, steps and agents and have the expected number of axes."""
    observations = leaves["observations"]
    axes = {
        "observations": (4, 4),
        "actions": (3, 4),
        "rewards": (2, 3),
        "terminals": (2, 3),
        "truncations": (2, 3),
        "infos.state": (3, 3),
        "infos.legals": (4, 4),
    }
    for name, leaf in leaves.items():
        fewest, most = axes[name]
        if not fewest <= leaf.ndim <= most:
            raise ValueError(
                f"{where}: expected '{name}' with {' or '.join(map(str, sorted({fewest, most})))} axes "
                f"(copies, steps, ...), got shape {leaf.shape}"
            )
        shared = 2 if name == "infos.state" else min(leaf.ndim, 3)
        if leaf.shape[:shared] != observations.shape[:shared]:
            raise ValueError(
                f"{where}: '{name}' has shape {leaf.shape}, but 'observations' {observations.shape}: "
                "expected the same copies, steps and agents; record or convert it again"
            )


def _position(index: NDArray[np.int64], steps: int) -> str:
    """Words for a position in a leaf, from its index in the flattened array."""
    row, *inner = (int(i) for i in index)
    copy, step = divmod(row, steps)
    return f"copy {copy}, step {step}" + (f", agent or entry {inner}" if inner else "")


def _reject(bad: NDArray[np.bool_], values: NDArray[Any], what: str, steps: int, where: str) -> None:
    """Raise with the first bad position, if there is any."""
    if bad.any():
        first = np.argwhere(bad)[0]
        raise ValueError(
            f"{where}: {what}, got {values[tuple(first)]} at {_position(first, steps)} "
            f"({int(bad.sum())} such entries); the recording is wrong or damaged, record or copy it again"
        )


def _finite(values: NDArray[Any], name: str, steps: int, where: str) -> NDArray[np.float32]:
    """Cast to float32, having made sure that every entry is a finite number."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values.sum(dtype=np.float64)):  # one cheap pass; the search below only in case of need
        _reject(~np.isfinite(values), values, f"expected finite numbers in '{name}'", steps, where)
    return values


def _flags(values: NDArray[Any], name: str, steps: int, where: str) -> NDArray[np.bool_]:
    """Booleans from bool, integer or float flags; True for the team where any agent's is."""
    flags: NDArray[np.bool_] = values.astype(bool)
    _reject(values != flags, values, f"expected 0 or 1 in '{name}'", steps, where)
    return flags if flags.ndim == 1 else np.any(flags, axis=1)


def _state(flat: Leaves, obs: NDArray[np.float32], steps: int, where: str) -> NDArray[np.float32]:
    """The recorded state, or the concatenated observations in its place."""
    if "infos.state" in flat:
        return _finite(flat["infos.state"], "infos.state", steps, where)
    logger.warning(
        "%s holds no global state: the concatenated observations of all %d agents take its place", where, obs.shape[1]
    )
    return obs.reshape(len(obs), -1)


def _close_recordings(
    terminals: NDArray[np.bool_], truncations: NDArray[np.bool_], steps: int, where: str
) -> NDArray[np.bool_]:
    """Mark the last step of each copy's recording as truncated where it ends no episode."""
    truncations = truncations.copy()
    last = np.arange(steps - 1, len(truncations), steps)
    open_ended = last[~(terminals | truncations)[last]]
    for row in open_ended:
        copy, step = divmod(int(row), steps)
        logger.warning("%s stops within an episode (copy %d, step %d): marked as truncated there", where, copy, step)
    truncations[open_ended] = True
    return truncations


def _actions(flat: Leaves, steps: int, where: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Actions and legal actions, checked against each other and against their range."""
    actions = flat["actions"]
    if actions.ndim == 3:
        return _continuous_actions(actions, steps, where)
    choices = actions.astype(np.int64)
    _reject(choices != actions, actions, "expected whole numbers in 'actions' (one choice per agent)", steps, where)
    legals = flat.get("infos.legals")
    count = int(choices.max()) + 1 if legals is None else legals.shape[2]
    expected = f"expected 'actions' in 0..{count - 1}"
    _reject((choices < 0) | (choices >= count), choices, expected, steps, where)
    if legals is None:
        logger.warning("%s does not say which actions were legal: all %d seen in it count as legal", where, count)
        return choices, np.ones((*choices.shape, count), dtype=bool)
    legal_actions = np.ascontiguousarray(legals.astype(bool))
    _reject(legals != legal_actions, legals, "expected 0 or 1 in 'infos.legals'", steps, where)
    taken = np.take_along_axis(legal_actions, choices[..., None], axis=2)[..., 0]
    _reject(~taken, choices, "expected 'actions' that 'infos.legals' allows", steps, where)
    return choices, legal_actions


def _continuous_actions(actions: NDArray[Any], steps: int, where: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Continuous actions within [-1, 1]; every one is legal."""
    if not np.issubdtype(actions.dtype, np.floating):
        raise ValueError(
            f"{where}: expected continuous 'actions' (four axes) to be floats, got {actions.dtype}; "
            "discrete actions have three axes (copies, steps, agents)"
        )
    values = _finite(actions, "actions", steps, where)
    _reject(np.abs(values) > 1.0, values, "expected 'actions' in [-1, 1]", steps, where)
    return values, np.broadcast_to(np.True_, values.shape)  # takes no memory
