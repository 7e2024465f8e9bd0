"""The datamodule: finds or records a dataset, reads it into memory and serves it as batches of windows."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.batch import TeamBatch
from datamodules.cache import decoded_bytes, fingerprint, open_cache, physical_memory
from datamodules.catalogue import split_name, vault_directory
from datamodules.episodes import episode_bounds, episode_lengths, episode_returns, held_out_episodes
from datamodules.finding import check_available, obtain, out_of_range_rule
from datamodules.loaders import OrderedLoader, TrainingLoader
from datamodules.normalisation import Standardisation
from datamodules.sampling import (
    Batches,
    EpisodeBatches,
    ShuffledBatches,
    check_subset,
    choose_episodes,
    return_weights,
)
from datamodules.vaults import OutOfRange, Stream, Vault, read_vaults
from datamodules.window_dataset import WindowDataset, check_reward_scale

logger = logging.getLogger(__name__)

Cache = Literal["auto", "memory", "disk", "device"]
Sampling = Literal["uniform", "by_episode", "return_weighted"]
MEMORY_SHARE = 4  # a recording is kept in memory if it takes at most one part of this many
PIECE = 2**14  # steps read at once where a pass goes over all of them


class OfflineDataModule(pl.LightningDataModule):
    """Recorded team play, served as batches of short windows.

    A dataset is a recording of many episodes: what every agent saw, did and was allowed to do, and the reward of the
    team. Learning offline means learning from it alone, without playing. The recording is kept as a *vault*, the
    format of the OG-MARL datasets, in ``<root>/<source>/<environment>/<scenario>.vlt/<quality>``. Datasets whose name
    begins with ``embedded/`` are recorded into it on first use; published ones (``lightning data list``) are
    downloaded; others have to be there.

    How the recording becomes a team's: the reward is the mean over the agents' rewards, an episode is terminal (or
    truncated) where any agent's is, and where no global state was recorded the concatenated observations take its
    place.

    Whole episodes are held out for validation, chosen at random from the seed: steps of one episode are too much alike
    to be split between training and validation. An epoch serves every training step exactly once, in an order drawn
    from the seed and the number of the epoch; a run resumed from a checkpoint goes on with exactly the next batch.

    Args:
        dataset: Which recording, as <source>/<environment>/<scenario>. Recorded on first use: embedded/smax/3m and the
            other SMAX maps (for example embedded/smax/2s3z), embedded/mpe/simple_spread, embedded/matrix/xor,
            embedded/matrix/landmarks.
            Downloaded on first use: those that ``lightning data list`` shows, for example og_marl/smac_v1/3m.
        quality: How well the recorded teams play. Mixed is a minority of good episodes among many weak ones: what
            offline learning is for, because imitating all of it gives a weak team.
        root: Directory of all vaults; recordings and downloads are written into it.
        batch_size: Largest number of windows in a batch. An epoch is cut into batches of nearly the same size, none
            larger than this.
        window: Length of a window in steps. 2 is a transition (a step and the one after it), longer ones are for
            networks with a memory.
        validation_fraction: Share of the episodes held out for validation, from 0 (none) to just below 1.
        seed: Decides which episodes are held out and the order of the training batches.
        reward_scale: Factor on the rewards in the batches, to bring returns near the size of a network's outputs.
            Statistics and rollouts stay in the unit of the recording.
        cache: Where the decoded recording is kept. memory: in main memory, decoded at every start. disk: in plain files
            mapped into memory, decoded once; for recordings larger than memory. device: on the accelerator, if it fits.
            auto: memory if it takes at most a quarter of the machine's, else disk.
        cache_dir: Directory of decoded recordings and of the advantages of critics; by default .cache in the root.
            Everything in it can be deleted.
        download: Whether to download a published dataset that is not there yet.
        out_of_range: Continuous actions outside [-1, 1]: error refuses the recording, clip moves them to the nearest
            limit and says how many. null does what the catalogue says of a published dataset, else error.
        combine_with: Further vaults to learn from, as <source>/<environment>/<scenario>/<quality>; of the same shapes.
        first_episodes: Use only so many episodes from the beginning.
        episode_fraction: Use a random share of the (first) episodes, in (0, 1].
        top_return_fraction: Use the share with the highest returns of those, in (0, 1].
        sampling: uniform serves every training step once per epoch. by_episode draws an episode, then one of its steps,
            so that long episodes count no more than short ones. return_weighted does so too, but draws episodes with
            high returns more often.
        return_temperature: For return_weighted: an episode one standard deviation better is drawn exp(1 / this) times
            as often.

    Raises:
        ValueError: If the dataset or quality is unknown or an argument is out of its range.
        FileNotFoundError: If the dataset cannot be recorded nor downloaded and its vault does not exist.
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
        cache: Cache = "auto",
        cache_dir: str | Path | None = None,
        download: bool = True,
        out_of_range: OutOfRange | None = None,
        combine_with: Sequence[str] = (),
        first_episodes: int | None = None,
        episode_fraction: float = 1.0,
        top_return_fraction: float = 1.0,
        sampling: Sampling = "uniform",
        return_temperature: float = 1.0,
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
        self.cache: Cache = cache
        self.cache_dir = self.root / ".cache" if cache_dir is None else Path(cache_dir)
        self.download = download
        self.out_of_range = out_of_range
        self.combine_with = tuple(combine_with)
        self.first_episodes = first_episodes
        self.episode_fraction, self.top_return_fraction = episode_fraction, top_return_fraction
        self.sampling: Sampling = sampling
        self.return_temperature = return_temperature
        check_subset(first_episodes, episode_fraction, top_return_fraction)
        return_weights(np.zeros(1), return_temperature)  # raises on a temperature out of range
        held_out_episodes(n_episodes=2, fraction=validation_fraction, seed=seed)  # raises on a fraction out of range
        self._sources = [(dataset, quality), *map(_split_vault_name, self.combine_with)]
        for name, level in self._sources:
            check_available(self.root, name, level)
        self._vaults: list[Vault] | None = None
        self._stream: Stream | None = None
        self._chosen: NDArray[np.bool_] | None = None
        self._windows: WindowDataset | None = None
        self._train_loader: TrainingLoader | None = None

    # Lightning's hooks

    def prepare_data(self) -> None:
        """Find the vaults; record embedded datasets and download published ones that are not there."""
        for dataset, quality in self._sources:
            obtain(self.root, dataset, quality, self.download)

    def setup(self, stage: str | None = None) -> None:
        """Decode the recording once; at the start of every fit, begin the stream of training batches anew.

        Args:
            stage: "fit", "validate", "test", "predict" or None for all.
        """
        windows = self._load()
        if self.cache == "device" and self.trainer is not None:
            windows.to(self.trainer.strategy.root_device)
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
        """Every recorded step in order, training and held-out ones; whole episodes for policies that remember."""
        module = None if self.trainer is None else self.trainer.lightning_module
        return self.all_batches(self.batch_size, whole_episodes=getattr(module, "recurrent", False))

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
        return self._opened()[0].shapes["observations"][2]

    @property
    def obs_dim(self) -> int:
        """Length of one agent's observation."""
        return self._opened()[0].shapes["observations"][3]

    @property
    def state_dim(self) -> int:
        """Length of the global state."""
        return self._opened()[0].state_dim

    @property
    def action_dim(self) -> int:
        """Number of choices if discrete, else the length of one agent's action."""
        return self._opened()[0].action_dim

    @property
    def discrete(self) -> bool:
        """Whether an action is one of several choices."""
        return self._opened()[0].discrete

    @property
    def scenario(self) -> str:
        """Name of the environment to play in, for example "smax/3m"."""
        _, environment, scenario = split_name(self.dataset)
        return f"{environment}/{scenario}"

    @property
    def stream(self) -> Stream:
        """The whole recording in order, before episodes are chosen; decoded when it is first asked for."""
        self._load()
        assert self._stream is not None
        return self._stream

    @property
    def rewards(self) -> NDArray[np.float32]:
        """Team reward of each step (mean over agents, unscaled), shape (L,)."""
        return self._load().rewards

    @property
    def ends(self) -> NDArray[np.bool_]:
        """True at the last step of each episode, shape (L,)."""
        return self._load().ends

    @property
    def episode_bounds(self) -> NDArray[np.int64]:
        """First row and first row behind of each episode, shape (E, 2)."""
        return self._load().bounds

    @property
    def episode_returns(self) -> NDArray[np.float64]:
        """Sum over time of the team reward (mean over agents, unscaled) of each episode, shape (E,)."""
        return episode_returns(self.rewards, self.episode_bounds)

    @property
    def key(self) -> str:
        """What tells the steps served here, and their rewards, from any others: 16 hexadecimal digits."""
        subset = (self.first_episodes, self.episode_fraction, self.top_return_fraction)
        seed = self.seed if self.episode_fraction < 1.0 else None
        what = (fingerprint(self._opened()), subset, seed, self.reward_scale)
        return hashlib.sha256(repr(what).encode()).hexdigest()[:16]

    @property
    def derived_dir(self) -> Path:
        """Where what is computed from this recording is kept: the decoded copy, and advantages."""
        source, environment, scenario = split_name(self.dataset)
        names = " ".join(self.combine_with)
        others = f"+{hashlib.sha256(names.encode()).hexdigest()[:8]}" if names else ""
        return self.cache_dir / source / environment / scenario / f"{self.quality}{others}"

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
        """Numbers that describe the chosen episodes, held-out ones included.

        Keys: ``episodes``, ``transitions``, ``length_mean`` (steps per episode), ``return_mean``, ``return_std``,
            ``return_min``,
        ``return_max`` (of ``episode_returns``), and ``win_rate`` (share of episodes won) where the recording says so.
        """
        returns = self.episode_returns
        statistics = {
            "episodes": float(len(returns)),
            "transitions": float(len(self.rewards)),
            "length_mean": len(self.rewards) / len(returns),
            "return_mean": float(returns.mean()),
            "return_std": float(returns.std()),
            "return_min": float(returns.min()),
            "return_max": float(returns.max()),
        }
        win_rate = self._recordings()[0].get("win_rate") if self._chosen is None and len(self._sources) == 1 else None
        return statistics if win_rate is None else {**statistics, "win_rate": float(win_rate)}

    @property
    def behaviour_names(self) -> list[str]:
        """Names of the teams whose play was recorded, for example good and weak; empty where nobody wrote them down."""
        return [str(name) for recording in self._recordings() for name in recording.get("behaviour_names", [])]

    @property
    def episode_behaviour(self) -> NDArray[np.int64] | None:
        """Which of ``behaviour_names`` played each episode, shape (E,), or None where nobody wrote it down.

        Algorithms never see this; it serves to check whether a critic tells good play from weak.

        Raises:
            ValueError: If ``recording.json`` speaks of another number of episodes than the vaults hold.
        """
        columns, names = [], 0
        for recording in self._recordings():
            behaviour = recording.get("episode_behaviour")
            if behaviour is None:
                return None
            columns.append(np.asarray(behaviour, dtype=np.int64) + names)
            names += len(recording.get("behaviour_names", []))
        behaviours = np.concatenate(columns)
        windows = self._load()
        recorded = len(windows.bounds) if self._chosen is None else len(self._chosen)
        if len(behaviours) != recorded:
            raise ValueError(
                f"expected one behaviour for each of the {recorded} episodes of '{self.vault_dir}', "
                f"but its recording.json lists {len(behaviours)}; delete the vault and record it again"
            )
        return behaviours if self._chosen is None else behaviours[self._chosen]

    @property
    def observation_scaling(self) -> Standardisation:
        """Mean and spread of each observation entry over training steps and agents, each of shape (O,)."""
        return Standardisation.fit(batch.obs[:, 0].cpu().numpy() for batch in self._training_steps())

    @property
    def state_scaling(self) -> Standardisation:
        """Mean and spread of each state entry over training steps, each of shape (S,)."""
        return Standardisation.fit(batch.state[:, 0].cpu().numpy() for batch in self._training_steps())

    @property
    def change_scaling(self) -> Standardisation:
        """Mean and spread of what an observation entry changes in a step, over training steps that have a next one.

        Where no episode has a second step, means are 0 and spreads 1.
        """
        if self.ends[self.train_rows].all():
            return Standardisation(np.zeros(self.obs_dim, np.float32), np.ones(self.obs_dim, np.float32))
        return Standardisation.fit(
            (batch.obs[:, 1] - batch.obs[:, 0])[batch.valid[:, 1]].cpu().numpy() for batch in self._training_steps(2)
        )

    @property
    def return_range(self) -> tuple[float, float]:
        """Smallest and largest return of a training episode, as ``TeamBatch.returns`` has them: times reward_scale."""
        held_out = held_out_episodes(len(self.episode_bounds), self.validation_fraction, self.seed)
        returns = self.episode_returns[~held_out] * self.reward_scale
        return float(returns.min()), float(returns.max())

    # Advantages

    @property
    def advantages(self) -> NDArray[np.float32]:
        """A copy of the advantage of each recorded step, shape (L,); NaN until ``set_advantages``."""
        values: NDArray[np.float32] = self._load().advantages.cpu().numpy().copy()
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

    def all_batches(self, batch_size: int, whole_episodes: bool = False) -> OrderedLoader:
        """Every recorded step once and in order, as the valid learning steps of the windows.

        Args:
            batch_size: Number of steps in a batch; the last one may be smaller.
            whole_episodes: Windows are whole episodes, for networks that remember, as many as make up a batch (padding
                included), at least one. Otherwise windows have length 2, and a step is at position 0.

        Returns:
            An iterable with a length (the number of batches), which may be iterated again.
        """
        windows = self._load()
        if not whole_episodes:
            return OrderedLoader(windows, torch.arange(len(windows)), batch_size, window=2)
        longest = int(episode_lengths(self.episode_bounds).max())
        first_steps = torch.from_numpy(self.episode_bounds[:, 0])
        return OrderedLoader(windows, first_steps, max(1, batch_size // longest), window=longest + 1)

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

    def _opened(self) -> list[Vault]:
        """The vaults, found, recorded or downloaded the first time."""
        if self._vaults is None:
            self.prepare_data()
            self._vaults = [
                Vault(vault_directory(self.root, *source), self.out_of_range or out_of_range_rule(*source))
                for source in self._sources
            ]
        return self._vaults

    def _load(self) -> WindowDataset:
        """The windows, decoding the vaults the first time."""
        if self._windows is None:
            vaults, mapped = self._opened(), None
            if self._on_disk(vaults):
                self._stream, mapped = open_cache(self.derived_dir, vaults)
            else:
                self._stream = read_vaults(vaults)
            self._chosen = self._choose(self._stream)
            self._windows = WindowDataset(self._stream, self.window, self.reward_scale, self._chosen, mapped)
        return self._windows

    def _on_disk(self, vaults: Sequence[Vault]) -> bool:
        """Whether to map the recording from disk."""
        if self.cache != "auto":
            return self.cache == "disk"
        return decoded_bytes(vaults) > physical_memory() // MEMORY_SHARE

    def _choose(self, stream: Stream) -> NDArray[np.bool_] | None:
        """Which episodes of the recording are used, or None for all."""
        subset = (self.first_episodes, self.episode_fraction, self.top_return_fraction)
        if subset == (None, 1.0, 1.0):
            return None
        returns = episode_returns(stream.rewards, episode_bounds(stream.ends))
        return choose_episodes(returns, *subset, seed=self.seed)

    def _training_steps(self, window: int = 1) -> Iterator[TeamBatch]:
        """All training steps in order, as the first ones of windows."""
        yield from OrderedLoader(self._load(), self._starts(self.train_rows), PIECE, window)

    def _starts(self, rows: NDArray[np.bool_]) -> torch.Tensor:
        """Row numbers of a mask over the stream."""
        return torch.from_numpy(np.flatnonzero(rows))

    def _new_train_loader(self) -> TrainingLoader:
        """The stream of training batches from its beginning, for this process."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return TrainingLoader(self._load(), self._batches(), self._batches_trained, rank, world_size)

    def _batches(self) -> Batches:
        """Which training steps are served in which order."""
        if self.sampling == "uniform":
            return ShuffledBatches(self._starts(self.train_rows), self.batch_size, self.seed)
        episodes = ~held_out_episodes(len(self.episode_bounds), self.validation_fraction, self.seed)
        returns = self.episode_returns[episodes]
        weights = return_weights(returns, self.return_temperature)
        weights = weights if self.sampling == "return_weighted" else np.ones_like(weights)
        return EpisodeBatches(self.episode_bounds[episodes], weights, self.batch_size, self.seed)

    def _batches_trained(self) -> int | None:
        """Batches that Lightning's training loop has finished, in this run and those it resumes."""
        if self.trainer is None:
            return None
        # total.processed, because it counts a batch when it has been trained on and is what a resumed run starts from
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.state_dict()["total"]["processed"])

    def _recordings(self) -> list[dict[str, Any]]:
        """What the recorder wrote down about each vault; empty for vaults from elsewhere."""
        paths = (vault_directory(self.root, *source) / "recording.json" for source in self._sources)
        return [json.loads(path.read_text()) if path.is_file() else {} for path in paths]


def _split_vault_name(name: str) -> tuple[str, str]:
    """Dataset and quality of ``<source>/<environment>/<scenario>/<quality>``."""
    dataset, separator, quality = name.rpartition("/")
    if not separator or dataset.count("/") != 2:
        raise ValueError(
            f"expected combine_with to name vaults as <source>/<environment>/<scenario>/<quality>, got {name!r}; "
            "for example embedded/smax/3m/Mixed"
        )
    return dataset, quality


def _at_least(name: str, value: int, least: int) -> int:
    """The value, if it is large enough."""
    if value < least:
        raise ValueError(f"expected {name} of at least {least}, got {value}")
    return value
