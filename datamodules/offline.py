"""The datamodule: finds or records a dataset, reads it into memory and serves it as batches of windows."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.batch import TeamBatch
from datamodules.catalogue import EMBEDDED, check_embedded, split_name, vault_directory
from datamodules.episodes import episode_lengths, episode_returns, held_out_episodes
from datamodules.normalisation import Standardisation
from datamodules.vaults import Stream, is_vault, read_vault
from datamodules.window_dataset import OrderedLoader, TrainingLoader, WindowDataset, check_reward_scale

logger = logging.getLogger(__name__)


class OfflineDataModule(pl.LightningDataModule):
    """Recorded team play, served as batches of short windows.

    A dataset is a recording of many episodes: what every agent saw, did and was allowed to do, and the reward of the
    team. Learning offline means learning from it alone, without playing. The recording is kept as a *vault*, the
    format of the OG-MARL datasets, in ``<root>/<source>/<environment>/<scenario>.vlt/<quality>``. Datasets whose name
    begins with ``embedded/`` are recorded into it on first use; others have to be there.

    How the recording becomes a team's: the reward is the mean over the agents' rewards, an episode is terminal (or
    truncated) where any agent's is, and where no global state was recorded the concatenated observations take its
    place.

    Whole episodes are held out for validation, chosen at random from the seed: steps of one episode are too much alike
    to be split between training and validation. An epoch serves every training step exactly once, in an order drawn
    from the seed and the number of the epoch; a run resumed from a checkpoint goes on with exactly the next batch.

    Args:
        dataset: Which recording, as <source>/<environment>/<scenario>. Recorded on first use: embedded/smax/3m and the
            other SMAX maps (for example embedded/smax/2s3z), embedded/mpe/simple_spread, embedded/matrix/xor.
        quality: How well the recorded teams play. Mixed is a minority of good episodes among many weak ones: what
            offline learning is for, because imitating all of it gives a weak team.
        root: Directory of all vaults; recordings are written into it.
        batch_size: Largest number of windows in a batch. An epoch is cut into batches of nearly the same size, none
            larger than this.
        window: Length of a window in steps. 2 is a transition (a step and the one after it), longer ones are for
            networks with a memory.
        validation_fraction: Share of the episodes held out for validation, from 0 (none) to just below 1.
        seed: Decides which episodes are held out and the order of the training batches.
        reward_scale: Factor on the rewards in the batches, to bring returns near the size of a network's outputs.
            Statistics and rollouts stay in the unit of the recording.

    Raises:
        ValueError: If the dataset or quality is unknown or an argument is out of its range.
        FileNotFoundError: If the dataset is not embedded and its vault does not exist.
    """

    def __init__(
        self,
        dataset: str,
        quality: str = "Mixed",
        root: str | Path = "vaults",
        batch_size: int = 256,
        window: int = 2,
        validation_fraction: float = 0.1,
        seed: int = 0,
        reward_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.quality = quality
        self.root = Path(root)
        self.vault_dir = vault_directory(self.root, dataset, quality)
        self.batch_size = _at_least("batch_size", batch_size, 1)
        self.window = _at_least("window", window, 2)
        self.validation_fraction = validation_fraction
        self.seed = _at_least("seed", seed, 0)
        check_reward_scale(reward_scale)
        self.reward_scale = reward_scale
        held_out_episodes(n_episodes=2, fraction=validation_fraction, seed=seed)  # raises on a fraction out of range
        if dataset.startswith(f"{EMBEDDED}/") and not is_vault(self.vault_dir):
            check_embedded(dataset, quality)
        self._stream: Stream | None = None
        self._windows: WindowDataset | None = None
        self._train_loader: TrainingLoader | None = None

    # Lightning's hooks

    def prepare_data(self) -> None:
        """Find the vault, or record it if the dataset is an embedded one."""
        if is_vault(self.vault_dir):
            return
        if not self.dataset.startswith(f"{EMBEDDED}/"):
            vaults = (path.parent.relative_to(self.root) for path in self.root.glob("*/*/*.vlt/[!.]*/metadata.json"))
            raise FileNotFoundError(
                f"expected the vault of {self.dataset} ({self.quality}) in '{self.vault_dir}', found none; "
                f"put it there, choose one of those in '{self.root}' ({', '.join(sorted(map(str, vaults))) or 'none'})"
                ", or an embedded dataset, for example embedded/smax/3m, which is recorded on first use"
            )
        from environments.recording import record  # only here: everything else works without a simulator

        record(self.dataset, self.quality, self.root)

    def setup(self, stage: str | None = None) -> None:
        """Read the vault once; at the start of every fit, begin the stream of training batches anew.

        Args:
            stage: "fit", "validate", "test", "predict" or None for all.
        """
        self._load()
        if stage in ("fit", None):
            self._train_loader = self._new_train_loader()

    def train_dataloader(self) -> TrainingLoader:
        """The one endless stream of training batches; asking again gives the same stream, not a new one.

        To look at the data beside the training, use ``val_dataloader`` or ``all_batches``, which leave this stream
        alone.
        """
        if self._train_loader is None:
            self._train_loader = self._new_train_loader()
        return self._train_loader

    def val_dataloader(self) -> OrderedLoader | list[OrderedLoader]:
        """The held-out episodes in order; an empty list, which Lightning skips, if none are held out."""
        held_out = self._starts(self.validation_rows)
        return OrderedLoader(self._load(), held_out, self.batch_size) if len(held_out) else []

    def test_dataloader(self) -> OrderedLoader | list[OrderedLoader]:
        """The held-out episodes in order, as for validation."""
        return self.val_dataloader()

    def predict_dataloader(self) -> OrderedLoader:
        """Every recorded step in order, training and held-out ones."""
        return OrderedLoader(self._load(), torch.arange(len(self._load())), self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream of training batches stands; Lightning writes it into the checkpoint.

        Lightning also asks the loader itself, but gives that state back only when it resumes within an epoch, not at
        the end of one.
        """
        return {} if self._train_loader is None else {"train_loader": self._train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the batches that the checkpoint's run has trained on.

        Args:
            state_dict: What ``state_dict`` returned.
        """
        if self._train_loader is not None and "train_loader" in state_dict:
            self._train_loader.load_state_dict(state_dict["train_loader"])

    # What the data is: the first five are handed to the algorithm when it is built

    @property
    def n_agents(self) -> int:
        """Number of agents in the team."""
        return self.stream.n_agents

    @property
    def obs_dim(self) -> int:
        """Length of one agent's observation."""
        return self.stream.obs_dim

    @property
    def state_dim(self) -> int:
        """Length of the global state."""
        return self.stream.state_dim

    @property
    def action_dim(self) -> int:
        """Number of choices if discrete, else the length of one agent's action."""
        return self.stream.action_dim

    @property
    def discrete(self) -> bool:
        """Whether an action is one of several choices."""
        return self.stream.discrete

    @property
    def scenario(self) -> str:
        """Name of the environment to play in, for example "smax/3m"."""
        _, environment, scenario = split_name(self.dataset)
        return f"{environment}/{scenario}"

    @property
    def stream(self) -> Stream:
        """The whole recording, L steps in order; recorded and read when it is first asked for."""
        self._load()
        assert self._stream is not None
        return self._stream

    @property
    def episode_bounds(self) -> NDArray[np.int64]:
        """First row and first row behind of each episode, shape (E, 2)."""
        return self._load().bounds

    @property
    def episode_returns(self) -> NDArray[np.float64]:
        """Sum over time of the team reward (mean over agents, unscaled) of each episode, shape (E,)."""
        return episode_returns(self.stream.rewards, self.episode_bounds)

    @property
    def validation_rows(self) -> NDArray[np.bool_]:
        """True at the steps of held-out episodes, shape (L,)."""
        held_out = held_out_episodes(len(self.episode_bounds), self.validation_fraction, self.seed)
        return np.repeat(held_out, episode_lengths(self.episode_bounds))

    @property
    def train_rows(self) -> NDArray[np.bool_]:
        """True at the steps that are trained on, shape (L,)."""
        return ~self.validation_rows

    @property
    def statistics(self) -> dict[str, float]:
        """Numbers that describe the whole recording, held-out episodes included.

        Keys: ``episodes``, ``transitions``, ``length_mean`` (steps per episode), ``return_mean``, ``return_std``,
            ``return_min``,
        ``return_max`` (of ``episode_returns``), and ``win_rate`` (share of episodes won) where the recording says so.
        """
        returns = self.episode_returns
        statistics = {
            "episodes": float(len(returns)),
            "transitions": float(len(self.stream)),
            "length_mean": len(self.stream) / len(returns),
            "return_mean": float(returns.mean()),
            "return_std": float(returns.std()),
            "return_min": float(returns.min()),
            "return_max": float(returns.max()),
        }
        win_rate = self._recording().get("win_rate")
        return statistics if win_rate is None else {**statistics, "win_rate": float(win_rate)}

    @property
    def behaviour_names(self) -> list[str]:
        """Names of the teams whose play was recorded, for example good and weak; empty where nobody wrote them down."""
        return [str(name) for name in self._recording().get("behaviour_names", [])]

    @property
    def episode_behaviour(self) -> NDArray[np.int64] | None:
        """Which of ``behaviour_names`` played each episode, shape (E,), or None where nobody wrote it down.

        Algorithms never see this; it serves to check whether a critic tells good play from weak.

        Raises:
            ValueError: If ``recording.json`` speaks of another number of episodes than the vault holds.
        """
        behaviour = self._recording().get("episode_behaviour")
        if behaviour is None:
            return None
        if len(behaviour) != len(self.episode_bounds):
            raise ValueError(
                f"expected one behaviour for each of the {len(self.episode_bounds)} episodes of '{self.vault_dir}', "
                f"but its recording.json lists {len(behaviour)}; delete the vault and record it again"
            )
        return np.asarray(behaviour, dtype=np.int64)

    @property
    def observation_scaling(self) -> Standardisation:
        """Mean and spread of each observation entry over training steps and agents, each of shape (O,)."""
        return Standardisation.fit(self.stream.obs[self.train_rows])

    @property
    def state_scaling(self) -> Standardisation:
        """Mean and spread of each state entry over training steps, each of shape (S,)."""
        return Standardisation.fit(self.stream.state[self.train_rows])

    # Advantages

    @property
    def advantages(self) -> NDArray[np.float32]:
        """A copy of the advantage of each recorded step, shape (L,); NaN until ``set_advantages``."""
        values: NDArray[np.float32] = self._load().advantages.numpy().copy()
        return values

    def set_advantages(self, values: NDArray[Any]) -> None:
        """Serve these advantages from now on, also in loaders that are already running.

        Args:
            values: One finite number per recorded step, in the order of ``all_batches``, shape (L,).

        Raises:
            ValueError: If their number differs from the number of steps, or one of them is not finite.
        """
        self._load().set_advantages(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)))

    def set_credits(self, values: NDArray[Any]) -> None:
        """Serve these credits from now on, also in loaders that are already running.

        Args:
            values: One finite number per recorded step and agent, in the order of ``all_batches``, shape (L, N).

        Raises:
            ValueError: If their shape differs from (L, N), or one of them is not finite.
        """
        self._load().set_credits(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)))

    def all_batches(self, batch_size: int) -> Iterable[TeamBatch]:
        """Every recorded step once and in order, as position 0 of windows of length 2.

        Args:
            batch_size: Number of steps in a batch; the last one may be smaller.

        Returns:
            An iterable with a length (the number of batches), which may be iterated again.
        """
        windows = self._load()
        return OrderedLoader(windows, torch.arange(len(windows)), batch_size, window=2)

    def held_out_batches(self, batch_size: int, most: int) -> Iterable[TeamBatch]:
        """Windows of the held-out episodes, in order; none if no episodes are held out.

        Args:
            batch_size: Number of windows in a batch; the last one may be smaller.
            most: Number of windows at most; fewer than there are begin at evenly spread steps.

        Returns:
            An iterable of batches.
        """
        starts = self._starts(self.validation_rows)
        if len(starts) > most:
            starts = starts[torch.linspace(0, len(starts) - 1, most).long()]
        return OrderedLoader(self._load(), starts, batch_size) if len(starts) else []

    # Inside

    def _load(self) -> WindowDataset:
        """The windows, recording and reading the vault the first time."""
        if self._windows is None:
            self.prepare_data()
            self._stream = read_vault(self.vault_dir)
            self._windows = WindowDataset(self._stream, self.window, self.reward_scale)
        return self._windows

    def _starts(self, rows: NDArray[np.bool_]) -> torch.Tensor:
        """Row numbers of a mask over the stream."""
        return torch.from_numpy(np.flatnonzero(rows))

    def _new_train_loader(self) -> TrainingLoader:
        """The stream of training batches from its beginning, for this process."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return TrainingLoader(
            self._load(),
            self._starts(self.train_rows),
            self.batch_size,
            self.seed,
            self._batches_trained,
            rank,
            world_size,
        )

    def _batches_trained(self) -> int | None:
        """Batches that Lightning's training loop has finished, in this run and those it resumes."""
        if self.trainer is None:
            return None
        # total.processed, because it counts a batch when it has been trained on and is what a resumed run starts from
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.state_dict()["total"]["processed"])

    def _recording(self) -> dict[str, Any]:
        """What the recorder wrote down about the recording; empty for vaults from elsewhere."""
        path = self.vault_dir / "recording.json"
        recording: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return recording


def _at_least(name: str, value: int, least: int) -> int:
    """The value, if it is large enough."""
    if value < least:
        raise ValueError(f"expected {name} of at least {least}, got {value}")
    return value
