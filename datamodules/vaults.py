"""Read recorded datasets, flashbax *vaults* in OG-MARL's layout: the only file that knows the format on disk.

A vault is a directory with ``metadata.json`` (version, shape and type of every leaf) and an OCDBT key-value store that
holds one zarr array per leaf, named by its path with a dot behind every part (``infos.state.``), and ``vault_index``:
how many steps were written. The arrays are declared with an all but endless time axis, so only ``vault_index`` says
where the data ends. Reading needs the package tensorstore; neither flashbax nor JAX.

A vault may be larger than memory: it is read, checked and converted in pieces of some thousand steps.

Original: flashbax, https://github.com/instadeepai/flashbax, file ``flashbax/vault/vault.py``.
"""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

VAULT_VERSION = 1  # major version of flashbax's format
REQUIRED_LEAVES = ("observations", "actions", "rewards", "terminals", "truncations")
OPTIONAL_LEAVES = ("infos.state", "infos.legals")
AXES = {
    "observations": (4, 4),
    "actions": (3, 4),
    "rewards": (2, 3),
    "terminals": (2, 3),
    "truncations": (2, 3),
    "infos.state": (3, 4),
    "infos.legals": (4, 4),
}
PIECE_BYTES = 16 * 2**20  # of a vault in one piece, before conversion
CHUNK_CACHE_BYTES = 32 * 2**20  # decompressed zarr chunks kept, because a piece rarely ends where a chunk does

Leaves = dict[str, NDArray[Any]]
Columns = dict[str, NDArray[Any]]
OutOfRange = Literal["error", "clip"]
StateSource = Literal["team", "same for every agent", "one per agent", "observations"]


@dataclass(frozen=True)
class Stream:
    """One recording: L steps, one episode after the other; in memory or mapped from a file.

    Attributes:
        obs: (L, N, O) float32.
        state: (L, S) float32; the observations of all agents, concatenated, where the vault holds no state.
        actions: (L, N) int64 if discrete, else (L, N, A) float32 in [-1, 1].
        rewards: Team reward, (L,) float32: mean over the agents' rewards, as OG-MARL does.
        terminals: (L,) bool, True where the task ended for any agent.
        truncations: (L,) bool, True where the episode was cut off for any agent, or where the recording itself stops.
        legal_actions: (L, N, A) bool; if discrete all True where the vault does not say; if continuous True but for
            entries that only pad the action of an agent with fewer of them.
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


class Column(NamedTuple):
    """Shape of one step's entry in a field of a stream, and its type."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Vault:
    """An opened vault: its shapes are known and checked, its contents still on disk.

    Recordings of several copies side by side (leading axes (B, T) with B > 1) are laid one behind the other. Where the
    vault holds no state, the concatenated observations of all agents take its place; where it holds one for every
    agent, that is used if all agents have the same, else all of them, concatenated.

    Args:
        directory: The vault: ``<root>/<source>/<environment>/<scenario>.vlt/<quality>``.
        out_of_range: What to do with continuous actions outside [-1, 1]: "error" refuses the vault, "clip" moves them
            to the nearest limit and says how many.

    Raises:
        FileNotFoundError: If there is no vault in the directory.
        ValueError: If a leaf is missing, damaged or of an unexpected shape, if leaves disagree in length, or if nothing
            was written.
    """

    def __init__(self, directory: Path, out_of_range: OutOfRange = "error") -> None:
        self.directory = Path(directory).absolute()
        self.where = f"vault '{self.directory}'"
        self.out_of_range = out_of_range
        names = _stored_leaves(self.directory)
        self._stores, self.steps = self._open(names)
        self.copies = int(self._stores["rewards"].shape[0])
        self.shapes = {
            name: (self.copies, self.steps, *(int(size) for size in store.shape[2:]))
            for name, store in self._stores.items()
        }
        self.dtypes = {name: store.dtype.numpy_dtype for name, store in self._stores.items()}
        self._check_shapes()
        self.discrete = self._is_discrete()
        self.state_source = self._find_state()
        self.action_dim, self.has_entry = self._find_actions()
        self.clipped = 0

    def __len__(self) -> int:
        """Number of steps of all copies."""
        return self.copies * self.steps

    @property
    def columns(self) -> dict[str, Column]:
        """The fields that ``pieces`` fills, by name; no state made of observations, no legality that never changes."""
        n_agents, obs_dim = self.shapes["observations"][2:]
        float32, flag = np.dtype(np.float32), np.dtype(np.bool_)
        columns = {
            "obs": Column((n_agents, obs_dim), float32),
            "state": Column((self.state_dim,), float32),
            "actions": Column((n_agents,), np.dtype(np.int64))
            if self.discrete
            else Column((n_agents, self.action_dim), float32),
            "rewards": Column((), float32),
            "terminals": Column((), flag),
            "truncations": Column((), flag),
            "legal_actions": Column((n_agents, self.action_dim), flag),
        }
        if self.state_source == "observations":
            del columns["state"]
        if not self.discrete or "infos.legals" not in self.shapes:
            del columns["legal_actions"]
        return columns

    @property
    def state_dim(self) -> int:
        """Length S of the global state."""
        n_agents, obs_dim = self.shapes["observations"][2:]
        if self.state_source == "observations":
            return n_agents * obs_dim
        size = self.shapes["infos.state"][-1]
        return n_agents * size if self.state_source == "one per agent" else size

    def fingerprint(self) -> str:
        """What tells this content from another: 16 hexadecimal digits, from the vault's index and its files' sizes."""
        digest = hashlib.sha256(self.out_of_range.encode())
        for name in ("metadata.json", "manifest.ocdbt"):
            digest.update((self.directory / name).read_bytes())
        files = sorted(path for path in self.directory.rglob("*") if path.is_file() and path.name != "recording.json")
        for path in files:
            digest.update(f"{path.relative_to(self.directory)} {path.stat().st_size}\n".encode())
        return digest.hexdigest()[:16]

    def read(self, copy: int, first: int, behind: int, names: Sequence[str] | None = None) -> Leaves:
        """Some steps of one copy, as they were recorded.

        Args:
            copy: Number of the copy.
            first: First step.
            behind: First step behind.
            names: Leaves to read; by default all.

        Returns:
            Arrays of shape (behind - first, ...) by the leaf's name.

        Raises:
            ValueError: If a file is damaged or missing.
        """
        wanted = self._stores if names is None else {name: self._stores[name] for name in names}
        try:
            reads = {name: store[copy, first:behind].read() for name, store in wanted.items()}
            return {name: np.asarray(read.result()) for name, read in reads.items()}
        except Exception as error:  # tensorstore raises ValueError, OSError and its own kinds for damaged files
            raise _unreadable(self.directory, error) from error

    def pieces(
        self, found: Callable[[str], None] | None = None, note: Callable[[str], None] = logger.warning
    ) -> Iterator[Columns]:
        """The whole vault from its first step to its last, copy after copy, checked and converted.

        Where the recording of a copy stops within an episode, its last step is marked as truncated.

        Args:
            found: Called with a sentence for everything that is wrong; by default the first of them is raised.
            note: Called with a sentence for everything that is unusual but usable; by default it is logged.

        Yields:
            The next steps, as arrays (steps, ...) by the names of ``columns``.

        Raises:
            ValueError: Without ``found``: if the data contains NaN, infinity, a flag that is neither 0 nor 1, an action
                out of range or an illegal one, or if no step ends an episode. The message names the leaf and its first
                bad position.
        """
        found = found or _refuse
        self.clipped = 0
        self._note_what_is_absent(note)
        for copy in range(self.copies):
            ended = False
            for first in range(0, self.steps, self.piece):
                behind = min(first + self.piece, self.steps)
                check = _Check(self.where, copy, first, found)
                columns = self._convert(self.read(copy, first, behind), check)
                ended = ended or bool((columns["terminals"] | columns["truncations"]).any())
                if behind == self.steps:
                    self._close(columns, ended, copy, found, note)
                yield columns
        if self.clipped:
            note(f"{self.where}: {self.clipped} entries of 'actions' outside [-1, 1] were moved to the nearest limit")

    @property
    def piece(self) -> int:
        """Steps in a piece."""
        row = sum(math.prod(shape[2:]) * int(self.dtypes[name].itemsize) for name, shape in self.shapes.items())
        return max(PIECE_BYTES // row, 1)

    # Opening

    def _open(self, names: list[str]) -> tuple[dict[str, Any], int]:
        """The stored arrays and the number of steps written to them."""
        import tensorstore as ts  # here, so that importing datamodules does not need it

        context = ts.Context({"cache_pool": {"total_bytes_limit": CHUNK_CACHE_BYTES}})

        def opened(name: str) -> Any:
            base = {"driver": "file", "path": f"{self.directory}/"}
            store = {"driver": "ocdbt", "base": base, "path": name}
            return ts.open({"driver": "zarr", "kvstore": store}, open=True, read=True, context=context)

        try:
            written = int(opened("vault_index").result().read().result()[0])
            if written < 1:
                raise ValueError("no step was ever written to it")
            futures = {name: opened(f"{name}.") for name in names}
            stores = {name: future.result() for name, future in futures.items()}
            for name, store in stores.items():
                if store.ndim > 1 and store.shape[1] < written:
                    raise ValueError(f"'{name}' holds {store.shape[1]} of the {written} steps")
            return stores, written
        except Exception as error:  # tensorstore raises ValueError, OSError and its own kinds for damaged files
            raise _unreadable(self.directory, error) from error

    def _check_shapes(self) -> None:
        """Raise unless all leaves agree on copies, steps and agents and have the expected number of axes."""
        agreed = self.shapes["observations"]
        for name, shape in self.shapes.items():
            fewest, most = AXES[name]
            if not fewest <= len(shape) <= most:
                raise ValueError(
                    f"{self.where}: expected '{name}' with {' or '.join(map(str, sorted({fewest, most})))} axes "
                    f"(copies, steps, ...), got shape {shape}"
                )
            shared = 2 if name == "infos.state" and len(shape) == 3 else min(len(shape), 3)
            if shape[:shared] != agreed[:shared]:
                raise ValueError(
                    f"{self.where}: '{name}' has shape {shape}, but 'observations' {agreed}: "
                    "expected the same copies, steps and agents; record or convert it again"
                )

    def _is_discrete(self) -> bool:
        """Whether actions are choices: no axis of their own, or one of length 1 that is not a vector's."""
        shape, whole = self.shapes["actions"], not np.issubdtype(self.dtypes["actions"], np.floating)
        if len(shape) == 3:
            return True
        single = shape[3] == 1 and (whole or self.shapes.get("infos.legals", (1,))[-1] != 1)
        if whole and not single:
            raise ValueError(
                f"{self.where}: expected continuous 'actions' (four axes) to be floats, got {self.dtypes['actions']}; "
                "discrete actions have three axes (copies, steps, agents) or a fourth of length 1"
            )
        return single

    def _find_state(self) -> StateSource:
        if "infos.state" not in self.shapes:
            return "observations"
        if len(self.shapes["infos.state"]) == 3:
            return "team"
        states = (leaves["infos.state"] for leaves in self._scan("infos.state"))
        same = all(np.array_equal(state, np.broadcast_to(state[:, :1], state.shape)) for state in states)
        return "same for every agent" if same else "one per agent"

    def _find_actions(self) -> tuple[int, NDArray[np.bool_] | None]:
        """Number of choices or length of an action; and which entries each agent has, if continuous, (N, A)."""
        legals = self.shapes.get("infos.legals")
        if self.discrete:
            if legals is not None:
                return legals[-1], None
            return max(int(leaves["actions"].max()) for leaves in self._scan("actions")) + 1, None
        n_agents, length = self.shapes["actions"][2:]
        if legals is None:
            return length, np.ones((n_agents, length), dtype=bool)
        return length, self._entries(n_agents, length)

    def _entries(self, n_agents: int, length: int) -> NDArray[np.bool_]:
        """Which entries of a continuous action each agent has, (N, A): legal actions that never change say it."""
        everything = np.ones((n_agents, length), dtype=bool)
        if self.shapes["infos.legals"][-1] != length:
            return everything
        entries: NDArray[np.bool_] = self.read(0, 0, 1, ["infos.legals"])["infos.legals"][0].astype(bool)
        constant = all((leaves["infos.legals"] == entries).all() for leaves in self._scan("infos.legals"))
        return entries if constant and entries.any(axis=1).all() else everything

    def _scan(self, name: str) -> Iterator[Leaves]:
        """One leaf, piece by piece."""
        for copy in range(self.copies):
            for first in range(0, self.steps, self.piece):
                yield self.read(copy, first, min(first + self.piece, self.steps), [name])

    # Converting

    def _note_what_is_absent(self, note: Callable[[str], None]) -> None:
        n_agents = self.shapes["observations"][2]
        if self.state_source == "observations":
            note(
                f"{self.where} holds no global state: the concatenated observations of all {n_agents} agents take its "
                "place"
            )
        if self.state_source == "one per agent":
            note(f"{self.where} holds another state for every agent: all {n_agents} of them, concatenated, are used")
        if self.discrete and "infos.legals" not in self.shapes:
            note(f"{self.where} does not say which actions were legal: all {self.action_dim} seen in it count as legal")

    def _convert(self, leaves: Leaves, check: "_Check") -> Columns:
        """Columns of some steps."""
        rewards = check.finite(leaves["rewards"], "rewards")
        columns = {
            "obs": check.finite(leaves["observations"], "observations"),
            "rewards": rewards if rewards.ndim == 1 else rewards.mean(axis=1, dtype=np.float64).astype(np.float32),
            "terminals": check.flags(leaves["terminals"], "terminals"),
            "truncations": check.flags(leaves["truncations"], "truncations"),
        }
        if self.state_source != "observations":
            state = check.finite(leaves["infos.state"], "infos.state")
            columns["state"] = (
                state[:, 0] if self.state_source == "same for every agent" else state.reshape(len(state), -1)
            )
        if self.discrete:
            actions = leaves["actions"].reshape(leaves["actions"].shape[:2])
            columns |= check.choices(actions, leaves.get("infos.legals"), self.action_dim)
        else:
            columns["actions"] = self._vectors(leaves, check)
        return columns

    def _vectors(self, leaves: Leaves, check: "_Check") -> NDArray[np.float32]:
        """Continuous actions within [-1, 1]."""
        values = check.finite(leaves["actions"], "actions")
        outside = np.abs(values) > 1.0
        if self.out_of_range == "error":
            remedy = "if the simulator moves them to the nearest limit, set data.init_args.out_of_range to clip"
            check.reject(outside, values, "expected 'actions' in [-1, 1]", remedy)
            return values
        self.clipped += int(outside.sum())
        return np.clip(values, -1.0, 1.0) if outside.any() else values

    def _close(
        self, columns: Columns, ended: bool, copy: int, found: Callable[[str], None], note: Callable[[str], None]
    ) -> None:
        """Mark the last step of a copy's recording as truncated where it ends no episode."""
        if not ended and self.steps > 1:
            found(
                f"{self.where}: expected episodes to end somewhere, but no 'terminals' nor 'truncations' is set in all "
                f"{self.steps} steps of copy {copy}; mark the last step of each episode and record it again"
            )
        if not (columns["terminals"][-1] or columns["truncations"][-1]):
            columns["truncations"] = columns["truncations"].copy()
            columns["truncations"][-1] = True
            note(
                f"{self.where} stops within an episode (copy {copy}, step {self.steps - 1}): marked as truncated there"
            )


def is_vault(directory: Path) -> bool:
    """Whether a directory looks like a flashbax vault.

    Args:
        directory: Any path, existing or not.

    Returns:
        True if the directory holds both files by which a vault is known.
    """
    return (directory / "metadata.json").is_file() and (directory / "manifest.ocdbt").is_file()


def read_vault(directory: Path, out_of_range: OutOfRange = "error") -> Stream:
    """Read and check a whole vault.

    Args:
        directory: The vault: ``<root>/<source>/<environment>/<scenario>.vlt/<quality>``.
        out_of_range: What to do with continuous actions outside [-1, 1], see ``Vault``.

    Returns:
        The written part of the vault, as one stream in memory.

    Raises:
        FileNotFoundError: If there is no vault in the directory.
        ValueError: If the vault is damaged or holds what cannot be trained on, see ``Vault`` and ``Vault.pieces``.
    """
    return read_vaults([Vault(directory, out_of_range)])


def read_vaults(vaults: Sequence[Vault]) -> Stream:
    """Read vaults into memory, one behind the other.

    Args:
        vaults: At least one; all of the same shapes.

    Returns:
        All their steps as one stream.

    Raises:
        ValueError: If the vaults do not fit together, or hold what cannot be trained on.
    """
    columns = common_columns(vaults)
    length = sum(map(len, vaults))
    arrays = {name: np.empty((length, *column.shape), column.dtype) for name, column in columns.items()}
    row = 0
    for vault in vaults:
        for piece in vault.pieces():
            behind = row + len(piece["rewards"])
            for name, array in arrays.items():
                array[row:behind] = piece[name]
            row = behind
    return stream_of(arrays, vaults)


def common_columns(vaults: Sequence[Vault]) -> dict[str, Column]:
    """The fields of several vaults together.

    Args:
        vaults: At least one.

    Returns:
        The columns that each of them fills.

    Raises:
        ValueError: If they differ, with the first difference.
    """
    first = vaults[0]
    for other in vaults[1:]:
        for name, column in first.columns.items():
            if other.columns.get(name) != column:
                raise ValueError(
                    f"expected vaults of the same shapes to be combined, but '{name}' of a step is {column.shape} in "
                    f"'{first.directory}' and {other.columns[name].shape if name in other.columns else 'absent'} in "
                    f"'{other.directory}'; combine recordings of one scenario only"
                )
        if (first.action_dim, first.state_source) != (other.action_dim, other.state_source):
            raise ValueError(
                f"expected vaults with the same actions and states to be combined, but '{first.directory}' has "
                f"{first.action_dim} actions and the state of '{first.state_source}', '{other.directory}' "
                f"{other.action_dim} and '{other.state_source}'; combine recordings of one scenario only"
            )
    return first.columns


def stream_of(arrays: Columns, vaults: Sequence[Vault]) -> Stream:
    """A stream from its columns, with what the columns leave out.

    Args:
        arrays: One array (L, ...) for each of ``common_columns``.
        vaults: Where they come from.

    Returns:
        The stream; it shares its memory with the arrays.
    """
    vault, length = vaults[0], len(arrays["rewards"])
    concatenated = vault.state_source == "observations"
    constant = np.ones((arrays["obs"].shape[1], vault.action_dim), bool) if vault.discrete else vault.has_entry
    assert constant is not None
    return Stream(
        obs=arrays["obs"],
        state=arrays["obs"].reshape(length, -1) if concatenated else arrays["state"],
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        terminals=arrays["terminals"],
        truncations=arrays["truncations"],
        legal_actions=arrays.get("legal_actions", np.broadcast_to(constant, (length, *constant.shape))),  # no memory
        state_is_concatenated=concatenated,
    )


class _Check:
    """Converts leaves of consecutive steps of one copy and reports what is wrong with them.

    Args:
        where: Words for the vault.
        copy: Number of the copy.
        first: Number of the first step.
        found: Called with a sentence for each leaf with wrong entries.
    """

    def __init__(self, where: str, copy: int, first: int, found: Callable[[str], None]) -> None:
        self._where, self._copy, self._first, self._found = where, copy, first, found

    def reject(
        self,
        bad: NDArray[np.bool_],
        values: NDArray[Any],
        what: str,
        remedy: str = "the recording is wrong or damaged, record or copy it again",
    ) -> None:
        """Report the first bad position, if there is any."""
        if bad.any():
            step, *inner = (int(index) for index in np.argwhere(bad)[0])
            position = f"copy {self._copy}, step {self._first + step}" + (f", agent or entry {inner}" if inner else "")
            self._found(
                f"{self._where}: {what}, got {values[(step, *inner)]} at {position} ({int(bad.sum())} such entries); "
                f"{remedy}"
            )

    def finite(self, values: NDArray[Any], name: str) -> NDArray[np.float32]:
        """Cast to float32, having made sure that every entry is a finite number."""
        values = np.ascontiguousarray(values, dtype=np.float32)
        if not np.isfinite(values.sum(dtype=np.float64)):  # one cheap pass; the search below only in case of need
            self.reject(~np.isfinite(values), values, f"expected finite numbers in '{name}'")
        return values

    def flags(self, values: NDArray[Any], name: str) -> NDArray[np.bool_]:
        """Booleans from bool, integer or float flags; True for the team where any agent's is."""
        flags: NDArray[np.bool_] = values.astype(bool)
        self.reject(values != flags, values, f"expected 0 or 1 in '{name}'")
        return flags if flags.ndim == 1 else np.any(flags, axis=1)

    def choices(self, actions: NDArray[Any], legals: NDArray[Any] | None, count: int) -> Columns:
        """Discrete actions and, where recorded, legal ones, checked against each other and against their range."""
        choices = actions.astype(np.int64)
        self.reject(choices != actions, actions, "expected whole numbers in 'actions' (one choice per agent)")
        outside = (choices < 0) | (choices >= count)
        self.reject(outside, choices, f"expected 'actions' in 0..{count - 1}")
        if legals is None:
            return {"actions": choices}
        legal_actions = np.ascontiguousarray(legals.astype(bool))
        self.reject(legals != legal_actions, legals, "expected 0 or 1 in 'infos.legals'")
        choice = np.where(outside, 0, choices)[..., None]  # those out of range have been reported
        taken = np.take_along_axis(legal_actions, choice, axis=2)[..., 0] | outside
        self.reject(~taken, choices, "expected 'actions' that 'infos.legals' allows")
        return {"actions": choices, "legal_actions": legal_actions}


def _refuse(problem: str) -> NoReturn:
    raise ValueError(problem)


def _unreadable(directory: Path, error: Exception) -> ValueError:
    return ValueError(
        f"vault '{directory}' cannot be read: {error}. It is empty, damaged or incomplete; "
        "delete it and record or copy it again"
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
        version, names = float(metadata["version"]), _leaf_names(metadata["structure_shape"])
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
