"""Films, read back frame by frame."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from callbacks import videos
from callbacks.rollout import RolloutEvaluation
from callbacks.videos import Film, FilmedEnv, Videos
from datamodules import OfflineDataModule
from environments.recording import record
from environments.registry import make_env
from lightning_modules import BC

av = pytest.importorskip("av")


def frames_of(path: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def test_a_film_is_read_back(tmp_path: Path):
    colors = [(0, 114, 178), (213, 94, 0), (250, 250, 247)]
    with Film(tmp_path / "film.mp4", 5) as film:
        for color in colors:
            film.add(np.full((31, 47, 3), color, np.uint8))
    frames = frames_of(tmp_path / "film.mp4")
    assert len(frames) == 3
    for frame, color in zip(frames, colors, strict=True):
        assert frame.shape == (32, 48, 3), "yuv420p wants even numbers"
        assert np.abs(frame.astype(int) - color).max() <= 12
    with av.open(str(tmp_path / "film.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 5
    whole = (tmp_path / "film.mp4").read_bytes()
    assert whole.index(b"moov") < whole.index(b"mdat"), "a browser can begin before it has the end"


def test_frames_have_one_shape(tmp_path: Path):
    with (
        Film(tmp_path / "film.mp4", 5) as film,
        pytest.raises(
            ValueError, match=r"expected frames of shape \(H, W, 3\) and type uint8 for 'film.mp4', got \(2,"
        ),
    ):
        film.add(np.zeros((2, 2), np.uint8))
    with Film(tmp_path / "film.mp4", 5) as film:
        film.add(np.zeros((16, 16, 3), np.uint8))
        with pytest.raises(
            ValueError, match=r"expected all frames of 'film.mp4' to be \(16, 16, 3\), got one of \(16, 8"
        ):
            film.add(np.zeros((16, 8, 3), np.uint8))


class Undrawn:
    """Somebody's environment that was made without a render mode."""

    possible_agents = ()
    render_mode = None

    def reset(self, seed: int | None = None) -> None: ...
    def step(self, actions: Any) -> None: ...
    def action_space(self, agent: str) -> None: ...
    def close(self) -> None: ...


def test_what_cannot_be_drawn_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        ValueError, match=r"test_videos:Undrawn' cannot be filmed: .* got None; let the function make it"
    ):
        FilmedEnv("tests.callbacks.test_videos:Undrawn")

    def undrawn(scenario: str) -> Any:
        env = make_env(scenario)
        env.render_mode = None
        return env

    monkeypatch.setattr(videos, "make_env", undrawn)
    with pytest.raises(ValueError, match=r"'matrix/xor' cannot be filmed: .* leave callbacks.Videos and --callbacks"):
        FilmedEnv("matrix/xor")


@pytest.mark.parametrize("options", [{"episodes": 0}, {"every_n_updates": -1}, {"seed": -1}], ids=str)
def test_impossible_numbers_are_refused(options: dict[str, int]):
    name = next(iter(options))
    with pytest.raises(ValueError, match=rf"Videos.{name} must be at least \d, got {options[name]}"):
        Videos(**options)


def test_without_pyav(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"films need PyAV .*pip install '\.\[video\]', or pip install av"):
        videos.import_av()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> OfflineDataModule:
    root = tmp_path_factory.mktemp("vaults")
    record("embedded/mpe/simple_spread", "Mixed", root, episodes=8, progress=False)
    return OfflineDataModule("embedded/mpe/simple_spread", root=root, batch_size=8, window=2)


def fit(data: OfflineDataModule, directory: Path, callbacks: list[Any], **options: Any) -> tuple[BC, Trainer]:
    torch.manual_seed(0)
    module = BC(3, 18, 54, 5, False, hidden_dims=[8])
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=directory,
        max_steps=5,
        max_epochs=-1,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, **options},
    )
    trainer.fit(module, data)
    return module, trainer


@pytest.mark.filterwarnings("ignore")
def test_films_of_a_run(data: OfflineDataModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    module, trainer = fit(data, tmp_path / "filmed", [Videos(episodes=2, every_n_updates=3, seed=7)])
    unfilmed, _ = fit(data, tmp_path / "not", [])
    for name, weights in module.state_dict().items():
        assert torch.equal(weights, unfilmed.state_dict()[name]), "filming does not change what is trained"
    directory = tmp_path / "filmed/videos"
    names = ["episode_1.mp4", "episode_2.mp4", "update_3_episode_1.mp4", "update_3_episode_2.mp4"]
    assert sorted(path.name for path in directory.iterdir()) == names, "and no temporary files"
    frames = frames_of(directory / "episode_2.mp4")
    assert len(frames) == 26 and frames[0].shape == (512, 480, 3), "25 steps and the start"
    env = make_env("mpe/simple_spread")
    env.reset(seed=8)
    assert np.abs(frames[0].astype(int) - env.render()).mean() < 3, "the second start"
    assert np.abs(frames[0].astype(int) - frames[25])[32:].mean() > 1, "somebody moved"
    assert f"{directory / 'episode_2.mp4'}: return -" in capsys.readouterr().out
    (directory / "episode_1.mp4").unlink()
    trainer.test(module, data, verbose=False)
    assert (directory / "episode_1.mp4").is_file()


@pytest.mark.filterwarnings("ignore")
def test_films_go_to_weights_and_biases(data: OfflineDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(WandbLogger, "log_video", lambda self, *args, **options: sent.append((*args, options)))
    logger = WandbLogger(save_dir=tmp_path, project="test")
    fit(data, tmp_path, [Videos(episodes=2)], logger=logger)
    ((key, paths, options),) = sent
    assert key == "videos" and [Path(path).name for path in paths] == ["episode_1.mp4", "episode_2.mp4"]
    assert all(Path(path).is_file() for path in paths)
    assert options["step"] == 4 and [caption.endswith("25 steps") for caption in options["caption"]] == [True, True]


@pytest.mark.filterwarnings("ignore")
def test_a_trial_films_and_leaves_nothing(data: OfflineDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    added = []
    monkeypatch.setattr(Film, "add", lambda self, frame: added.append(frame.shape))
    fit(data, tmp_path, [Videos(episodes=3, every_n_updates=1)], fast_dev_run=True)
    assert added == [(512, 480, 3)] * 26, "one episode"
    assert list(tmp_path.rglob("*.mp4")) == []


@pytest.mark.filterwarnings("ignore")
def test_starts_and_environment_are_those_of_the_evaluation(data: OfflineDataModule, tmp_path: Path):
    films = Videos(episodes=1)
    evaluation = RolloutEvaluation(episodes=2, every_n_updates=0, final_episodes=2, seed=11)
    fit(data, tmp_path, [films, evaluation], fast_dev_run=True)
    assert films._first == 11
    alone = Videos(episodes=1)
    fit(data, tmp_path, [alone], fast_dev_run=True)
    assert alone._first == RolloutEvaluation().seed
    with pytest.raises(ValueError, match="has n_agents = 2 but the model expects 3"):
        fit(data, tmp_path, [Videos(environment="matrix/bridge")], fast_dev_run=True)


def test_data_without_an_environment(monkeypatch: pytest.MonkeyPatch):
    class Nameless:
        dataset = "my/game/map"

    trainer = Trainer(logger=False, enable_progress_bar=False)
    trainer.datamodule = Nameless()  # type: ignore[attr-defined]
    with pytest.raises(
        ValueError, match=r"say what to film in trainer.callbacks, Videos.environment .* --callbacks.vi"
    ):
        Videos().setup(trainer, BC(2, 1, 1, 2, True), "fit")
    with pytest.raises(TypeError, match="Videos needs an OfflineModule"):
        Videos(environment="matrix/xor").setup(trainer, torch.nn.Linear(1, 1), "fit")  # type: ignore[arg-type]
