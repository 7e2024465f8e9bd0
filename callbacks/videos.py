"""Films of what a team has learned: episodes drawn step by step and written as MP4."""

import importlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from rich.console import Console

from callbacks.episodes import check_fits, play
from callbacks.evaluation_mode import evaluating
from callbacks.rollout import PLAYABLE, RolloutEvaluation
from callbacks.run_directory import directory_of, is_trial
from callbacks.stages import stage_name
from callbacks.wandb_records import log_films
from environments.drawing import import_pillow
from environments.imported import is_import_path, make_imported
from environments.registry import make_env, scenario_of
from environments.vector import Array, ParallelVectorEnv, VectorStep
from lightning_modules.base import OfflineModule
from whole_files import written_whole

DIRECTORY = "videos"
FIRST_START = 1_000_000  # RolloutEvaluation's, where there is none to ask
FRAMES_PER_SECOND = 10  # of environments that say nothing about it


class Videos(Callback):
    """Films episodes of the policy, to watch what the team does.

    At the end of training, and for ``lightning test``, the first ``episodes`` episodes of ``RolloutEvaluation`` (the
    same starts) are played once more with the module's ``policy`` and written to ``videos/episode_1.mp4`` and so on in
    the run's directory, one frame per step and one for the start. With ``every_n_updates`` there are more of them while
    training, ``videos/update_2000_episode_1.mp4``. Files are H.264 and play in every browser; they also go to Weights
    & Biases, if there is a ``WandbLogger``. Training is not disturbed.

    ``--callbacks.videos true`` on the command line adds it to a run, ``--callbacks.videos 5`` with five episodes.

    Args:
        episodes: Episodes that are filmed each time.
        every_n_updates: Updates between two times while training; 0 films at the end only.
        seed: First start; episode k starts from seed + k. By default ``RolloutEvaluation``'s.
        environment: What to play, as for ``RolloutEvaluation``, and by default the same. Its ``render`` has to give RGB
            arrays.

    Raises:
        ValueError: If a number is out of its range, or, when a run begins, if no environment belongs to the data, or it
            cannot be drawn or does not fit the module.
        ImportError: When a run begins, if the simulator, Pillow or PyAV is not installed.
    """

    def __init__(
        self, episodes: int = 2, every_n_updates: int = 0, seed: int | None = None, environment: str | None = None
    ) -> None:
        for name, value, least in (
            ("episodes", episodes, 1),
            ("every_n_updates", every_n_updates, 0),
            ("seed", seed or 0, 0),
        ):
            if value < least:
                raise ValueError(
                    f"Videos.{name} must be at least {least}, got {value}; change it under trainer.callbacks in the "
                    "configuration, or in --callbacks.videos"
                )
        self.episodes = episodes
        self.every_n_updates = every_n_updates
        self.seed = seed
        self.environment = environment
        self._env: FilmedEnv | None = None
        self._first = FIRST_START

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Opens the environment, so that whatever is missing is known before training."""
        if stage not in ("fit", "test") or self._env is not None:
            return
        rollouts = [callback for callback in trainer.callbacks if isinstance(callback, RolloutEvaluation)]  # type: ignore[attr-defined]
        scenario = self.environment or next((one.environment for one in rollouts), None) or _scenario_of_data(trainer)
        self._first = next((one.seed for one in rollouts), FIRST_START) if self.seed is None else self.seed
        import_pillow()
        import_av()
        self._env = FilmedEnv(scenario)
        check_fits(scenario, self._env, _offline(pl_module))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Films when it is time."""
        due = self.every_n_updates and trainer.global_step % self.every_n_updates == 0
        if due and not is_trial(trainer) and stage_name(pl_module) in PLAYABLE:
            self._film(trainer, pl_module, f"update_{trainer.global_step}_")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Films."""
        if stage_name(pl_module) in PLAYABLE:
            self._film(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Films."""
        self._film(trainer, pl_module)

    def _film(self, trainer: Trainer, module: LightningModule, prefix: str = "") -> None:
        """One file per episode; a trial films one, whose file does not stay."""
        if not trainer.is_global_zero:
            return
        if is_trial(trainer):
            with tempfile.TemporaryDirectory() as directory:
                self._film_episode(module, self._first, Path(directory) / "episode.mp4")
            return
        paths, captions = [], []
        for episode in range(self.episodes):
            path = directory_of(trainer) / DIRECTORY / f"{prefix}episode_{episode + 1}.mp4"
            captions.append(self._film_episode(module, self._first + episode, path))
            paths.append(path)
            Console().print(f"{path}: {captions[-1]}", soft_wrap=True, highlight=False, markup=False)
        log_films(trainer, DIRECTORY, paths, captions)

    def _film_episode(self, module: LightningModule, seed: int, path: Path) -> str:
        """Plays one episode and writes its film; says what happened."""
        assert self._env is not None, "opened in setup"
        policy = _offline(module).for_environment(_offline(module).policy)
        with evaluating(module), written_whole(path) as unfinished, self._env.filmed(unfinished):
            result = play(policy, self._env, [seed], module.device)
        ending = ", won" if self._env.can_be_won and result.won[0] else ""
        return f"return {result.returns[0]:.2f}, {result.lengths[0]} steps{ending}"


class FilmedEnv(ParallelVectorEnv):
    """One copy of an environment, a ``VectorEnv``, which is drawn at the start and after each step while it is filmed.

    Args:
        scenario: One of ``environments.registry.SCENARIOS``, or the import path of a function that makes an environment
            of your own.

    Raises:
        ValueError: If there is no such scenario, or it cannot be drawn.
        ImportError: If its simulator is not installed.
    """

    def __init__(self, scenario: str) -> None:
        env = make_imported(scenario) if is_import_path(scenario) else make_env(scenario)
        if getattr(env, "render_mode", None) != "rgb_array":
            env.close()
            remedy = (
                "let the function make it with render_mode='rgb_array'"
                if is_import_path(scenario)
                else "leave callbacks.Videos and --callbacks.videos out"
            )
            raise ValueError(
                f"'{scenario}' cannot be filmed: expected an environment whose render_mode is 'rgb_array', got "
                f"{getattr(env, 'render_mode', None)!r}; {remedy}"
            )
        super().__init__(lambda: env, 1, scenario)
        metadata: dict[str, Any] = env.metadata
        self._rate = int(metadata.get("render_fps") or FRAMES_PER_SECOND)
        self._film: Film | None = None

    @contextmanager
    def filmed(self, path: Path) -> Iterator[None]:
        """Films the episode that is played in the block.

        Args:
            path: The MP4 file to write.
        """
        with Film(path, self._rate) as self._film:
            try:
                yield
            finally:
                self._film = None

    def reset(self, seeds: Sequence[int]) -> VectorStep:
        """Starts an episode, and shows it to the film."""
        step = super().reset(seeds)
        self._show_to_film()
        return step

    def step(self, actions: Array) -> VectorStep:
        """Goes one step on, and shows it to the film."""
        step = super().step(actions)
        self._show_to_film()
        return step

    def _show_to_film(self) -> None:
        if self._film is not None:
            self._film.add(self._envs[0].render())


class Film:
    """An MP4 file (H.264, yuv420p) in the making, to be used in a ``with`` block.

    Args:
        path: The file to write.
        frames_per_second: At which it is shown.

    Raises:
        ImportError: If PyAV is not installed.
    """

    def __init__(self, path: Path, frames_per_second: int) -> None:
        self._av = import_av()
        self._path = path
        # "faststart": browsers can show the beginning before they have the end
        self._container = self._av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=frames_per_second)
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": "20", "preset": "veryfast"}
        self._shape: tuple[int, ...] | None = None

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._shape is not None:
                self._container.mux(self._stream.encode(None))  # frames that the encoder still holds
        finally:
            self._container.close()

    def add(self, frame: Any) -> None:
        """The next frame.

        Args:
            frame: (H, W, 3) uint8, of one shape for the whole film. An odd height or width, which yuv420p does not
                allow, is made even by repeating the last row or column.

        Raises:
            ValueError: If it is something else.
        """
        picture: NDArray[np.uint8] = np.asarray(frame)
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(
                f"expected frames of shape (H, W, 3) and type uint8 for '{self._path.name}', got {picture.shape} of "
                f"{picture.dtype}; that is what render() has to return"
            )
        if self._shape is None:
            self._shape = picture.shape
            self._stream.height, self._stream.width = (side + side % 2 for side in picture.shape[:2])
        if picture.shape != self._shape:
            raise ValueError(
                f"expected all frames of '{self._path.name}' to be {self._shape}, got one of {picture.shape}; render() "
                "has to keep to one size"
            )
        height, width, _ = picture.shape
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._container.mux(self._stream.encode(self._av.VideoFrame.from_ndarray(even, format="rgb24")))


def import_av() -> Any:
    """Import PyAV, which holds the encoder.

    Returns:
        The package ``av``.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ImportError(
            f"films need PyAV ({error}): pip install '.[video]', or pip install av; or leave callbacks.Videos and "
            "--callbacks.videos out"
        ) from error


def _scenario_of_data(trainer: Trainer) -> str:
    try:
        return scenario_of(trainer.datamodule.dataset)  # type: ignore[attr-defined]
    except ValueError as error:
        raise ValueError(
            f"{error}; say what to film in trainer.callbacks, Videos.environment (a scenario, or "
            "'package.module:function' that makes your own), or leave callbacks.Videos and --callbacks.videos out"
        ) from None


def _offline(module: LightningModule) -> OfflineModule:
    if not isinstance(module, OfflineModule):
        raise TypeError(f"Videos needs an OfflineModule, which has a policy; got {type(module).__name__}")
    return module
