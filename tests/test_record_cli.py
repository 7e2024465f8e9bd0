"""``lightning data record`` for recordings of one's own: trained policies, own environments, own behaviours."""

import contextlib
import json
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import record_cli
from datamodules.vaults import Stream, read_vault
from datamodules.verification import inspect_vault
from environments.recording import record
from lightning_modules import VGM2P
from tests.test_cli import CONFIG, write_small
from vgm2p_cli import main

pytest.importorskip("flashbax")
pytestmark = pytest.mark.filterwarnings("ignore")

GAMES = '''
"""Two players on a line: a user's module. No state(), and no masks where actions are continuous."""
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Line(ParallelEnv):
    metadata = {"name": "line"}
    possible_agents = ["left", "right"]

    def __init__(self, discrete):
        self.discrete = discrete

    def observation_space(self, agent):
        return spaces.Box(-9, 9, (2,) if agent == "right" else (1,))

    def action_space(self, agent):
        return spaces.Discrete(3) if self.discrete else spaces.Box(-1, 1, (1,))

    def reset(self, seed=None, options=None):
        self.agents, self.steps = list(self.possible_agents), 0
        self.place = np.random.default_rng(seed).uniform(-1, 1, 2)
        return self._shown()

    def step(self, actions):
        moves = [actions[agent] - 1 if self.discrete else actions[agent][0] for agent in self.agents]
        self.place = self.place + moves
        self.steps += 1
        acting, over = self.agents, self.steps == 5
        obs, infos = self._shown()
        self.agents = [] if over else acting
        reward = -abs(self.place[0] - self.place[1])
        done, cut = dict.fromkeys(acting, False), dict.fromkeys(acting, over)
        return obs, dict.fromkeys(acting, reward), done, cut, infos

    def _shown(self):
        obs = {"left": self.place[:1], "right": np.array([self.place[1], self.steps])}
        mask = {"action_mask": np.array([1, 1, 0])} if self.discrete else {}
        return {agent: value.astype(np.float32) for agent, value in obs.items()}, {agent: mask for agent in obs}


def line():
    return Line(discrete=False)


def masked():
    return Line(discrete=True)


class Homing:
    """Everybody goes to the middle, at a speed that it has to remember."""

    def reset(self, n_envs):
        self.speed = np.full(n_envs, 0.5)

    def __call__(self, obs, legal_actions, generator):
        self.speed *= 0.9
        noise = generator.normal(0, 0.1, (*obs.shape[:2], 1))
        actions = np.clip(-self.speed[:, None, None] * obs[..., :1] + noise, -1, 1)
        obs[:] = 0  # its own copy: the recording must not change
        return actions


def homing():
    return Homing()


def flat():
    return lambda obs, legal_actions, generator: np.zeros(obs.shape[:2])


def wild():
    return lambda obs, legal_actions, generator: np.full((*obs.shape[:2], 1), 1.5)


def cheat():
    return lambda obs, legal_actions, generator: np.full(obs.shape[:2], 2)


def seven():
    return 7


not_a_function = 7
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's directory with a module, which is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_games.py").write_text(GAMES)
    yield tmp_path
    sys.modules.pop("own_games", None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of VGM2P in the XOR game."""
    directory = tmp_path_factory.mktemp("trained")
    record("embedded/matrix/xor", "Mixed", directory / "vaults", episodes=300, progress=False)
    small = write_small(directory, directory / "vaults")
    with contextlib.chdir(directory), warnings.catch_warnings(action="ignore"):
        main(["fit", "--config", str(small), "--model.init_args.guidance_scale", "3"])
    return directory / "runs/matrix/version_0/checkpoints/last.ckpt"


def run(words: str) -> None:
    main(["data", "record", *words.split()])


def refused(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        run(words)
    assert left.value.code == 2
    message = capsys.readouterr().err.rpartition("error: ")[2]
    assert len(message.splitlines()) <= 3
    return message


def described(directory: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((directory / "recording.json").read_text())
    return told


def read_by_flashbax(directory: Path) -> dict[str, Any]:
    """The calls that OG-MARL makes: the whole vault, and a sample of windows as its learners see them."""
    import flashbax
    import jax
    from flashbax.vault import Vault

    vault = Vault(vault_name=directory.parent.name, vault_uid=directory.name, rel_dir=str(directory.parent.parent))
    state = vault.read()
    buffer = flashbax.make_trajectory_buffer(
        add_batch_size=1,
        sample_batch_size=4,
        sample_sequence_length=2,
        period=1,
        min_length_time_axis=1,
        max_size=2,
    )
    sampled: dict[str, Any] = jax.jit(buffer.sample)(state, jax.random.PRNGKey(0)).experience
    return {name: np.asarray(leaf) for name, leaf in sampled.items() if name != "infos"} | {
        f"infos.{name}": np.asarray(leaf) for name, leaf in sampled["infos"].items()
    }


def same(left: Stream, right: Stream) -> bool:
    fields = ("obs", "state", "actions", "rewards", "terminals", "truncations", "legal_actions")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in fields)


def test_a_trained_policy_is_recorded_and_trained_on(
    here: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"my/matrix/xor Trained --policy {trained} --episodes 30 --seed 3 --root"
    run(f"{words} vaults")
    printed = capsys.readouterr()
    directory = here / "vaults/my/matrix/xor.vlt/Trained"
    assert printed.out.strip() == str(directory)
    assert "recording matrix/xor: 100%" in printed.err

    told = described(directory)
    assert (told["dataset"], told["quality"], told["scenario"]) == ("my/matrix/xor", "Trained", "matrix/xor")
    assert (told["seed"], told["episodes"], told["transitions"]) == (3, 30, 30)
    assert told["checkpoint"] == "version_0/checkpoints/last.ckpt"  # not where it lies on this machine
    assert str(trained.parent) not in (directory / "recording.json").read_text()
    player = told["played_by"]
    assert (player["algorithm"], player["update"], player["guidance_scale"]) == ("VGM2P", 22, 3.0)
    assert player["shared_noise"] is True
    assert told["versions"]["torch"] and told["behaviour_names"] == ["trained"]

    leaves = read_by_flashbax(directory)
    assert leaves["observations"].shape == (4, 2, 2, 1) and leaves["infos.legals"].shape == (4, 2, 2, 2)
    np.testing.assert_array_equal(leaves["rewards"][..., 0], leaves["actions"][..., 0] != leaves["actions"][..., 1])
    assert inspect_vault(directory).good

    run(f"{words} again")
    assert same(read_vault(directory), read_vault(here / "again/my/matrix/xor.vlt/Trained"))

    data = ["--data.init_args.dataset", "my/matrix/xor", "--data.init_args.quality", "Trained"]
    capsys.readouterr()
    short = ["--model.init_args.critic_updates", "1", "--trainer.fast_dev_run", "4", "--data.init_args.batch_size", "4"]
    main(["fit", "--config", str(CONFIG), *data, *short])
    assert "the data" in capsys.readouterr().out


def test_the_recorded_policy_is_the_checkpoints(here: Path, trained: Path) -> None:
    run(f"my/matrix/xor Trained --policy {trained} --episodes 5 --seed 1")
    stream = read_vault(here / "vaults/my/matrix/xor.vlt/Trained")
    draws = np.random.default_rng(1)
    draws.permutation(np.zeros(5)), draws.integers(2**32, size=5)  # what the recorder draws before
    generator = torch.Generator().manual_seed(int(draws.integers(2**63)))
    module = VGM2P.load_from_checkpoint(trained, weights_only=True).eval()
    expected, _ = module.policy.act(
        torch.from_numpy(stream.obs), torch.from_numpy(stream.legal_actions), None, generator
    )
    np.testing.assert_array_equal(stream.actions, expected.numpy())


def test_an_own_behaviour_in_an_own_environment(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("my/games/line Homing --environment own_games:line --behaviour own_games:homing --episodes 40 --seed 2")
    directory = here / "vaults/my/games/line.vlt/Homing"
    told = described(directory)
    assert told["scenario"] == "own_games:line"
    assert told["played_by"] == {"behaviour": "own_games:homing"}
    assert told["win_rate"] is None and told["transitions"] == 200
    leaves = read_by_flashbax(directory)
    assert leaves["observations"].shape == (4, 2, 2, 2)  # padded to the longest
    assert leaves["actions"].shape == (4, 2, 2, 1) and leaves["infos.state"].shape == (4, 2, 4)
    assert "infos.legals" not in leaves
    stream = read_vault(directory)
    assert stream.truncations.reshape(40, 5).tolist() == [[False] * 4 + [True]] * 40
    assert not stream.terminals.any()
    np.testing.assert_array_equal(stream.state, stream.obs.reshape(200, 4))  # observations in a row
    # Replayed by hand: the next place is the place plus the action, the reward minus the distance of the two.
    places = stream.obs[..., 0] + stream.actions[..., 0]
    np.testing.assert_allclose(stream.rewards, -np.abs(places[:, 0] - places[:, 1]), atol=1e-5)
    within = np.arange(200) % 5 != 4
    np.testing.assert_allclose(stream.obs[1:, :, 0][within[:-1]], places[:-1][within[:-1]], atol=1e-5)
    for root, seed in (("vaults", 2), ("again", 2), ("other", 3)):
        words = f"--episodes 40 --seed {seed} --root {root}"
        run(f"my/games/line Homing --environment own_games:line --behaviour own_games:homing {words}")
    again, other = (read_vault(here / root / "my/games/line.vlt/Homing") for root in ("again", "other"))
    assert same(stream, again) and not same(stream, other)
    with pytest.raises(SystemExit):
        run("my/games/line Homing --environment own_games:line --behaviour uniform --episodes 40 --seed 2")
    assert "expected a recording with played_by={'behaviour': 'uniform'}" in capsys.readouterr().err


def test_masks_are_recorded_and_obeyed(here: Path) -> None:
    run("my/games/masked Random --environment own_games:masked --behaviour uniform --episodes 20")
    stream = read_vault(here / "vaults/my/games/masked.vlt/Random")
    assert stream.legal_actions[..., :2].all() and not stream.legal_actions[..., 2].any()
    assert set(stream.actions.reshape(-1)) == {0, 1}


def test_rollouts_are_played_in_an_own_environment(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("my/games/line Homing --environment own_games:line --behaviour own_games:homing --episodes 20")
    small = write_small(here, here / "vaults")
    words = ["fit", "--config", str(small), "--model", "BC", "--trainer.fast_dev_run", "2"]
    data = ["--data.init_args.dataset", "my/games/line", "--data.init_args.quality", "Homing"]
    with pytest.raises(SystemExit):
        main([*words, *data])
    assert "unknown scenario 'games/line'" in (told := capsys.readouterr().err) and "RolloutEvaluation" in told
    small.write_text(small.read_text().replace("episodes: 8", "episodes: 8\n      environment: own_games:line", 1))
    main([*words, *data])
    assert "the data" in capsys.readouterr().out


def test_a_script_of_ours_under_an_own_name(here: Path) -> None:
    run("my/mpe/simple_spread Good --behaviour good --episodes 4")
    told = described(here / "vaults/my/mpe/simple_spread.vlt/Good")
    assert told["played_by"] == {"behaviour": "good"} and told["statistics"]["return_mean"] > -12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("my/matrix/xor Own", "expected either --policy or --behaviour.* got neither"),
        ("my/matrix/xor Own --policy x --behaviour uniform", "expected either --policy or --behaviour.* got both"),
        ("my/xor Own --behaviour uniform", "expected a dataset named <source>/<environment>/<scenario>, got 'my/xor'"),
        ("og_marl/smac_v1/3m Own --behaviour uniform", "a source of your own, .*: 'og_marl' is published"),
        ("embedded/matrix/xor Mixed --behaviour uniform", "a source of your own, .* 'embedded' is for what our own"),
        ("my/matrix/xr Own --behaviour uniform", "did you mean matrix/xor.*name the environment: --environment"),
        ("my/matrix/xor Own --behaviour unifrm", "unknown behaviour 'unifrm' for 'matrix/xor'; choose one of: uniform"),
        ("my/games/x Own --environment own_games:line --behaviour good", "which is no script for environments of your"),
        ("my/matrix/xor Own --policy none.ckpt", "expected a checkpoint of lightning fit, found no file 'none.ckpt'"),
        ("my/matrix/xor Own --policy own_games.py", "'own_games.py' is none or is damaged"),
        ("my/matrix/xor Own --behaviour uniform --episodes 0", "expected at least one episode.* got episodes=0"),
        ("my/games/x Own --behaviour uniform --environment no_games:line", "could not import 'no_games'.*PYTHONPATH"),
        (
            "my/games/x Own --behaviour uniform --environment own_games:lne",
            "expected a function 'lne' in .*line, masked",
        ),
        ("my/games/x Own --behaviour uniform --environment own_games:", "expected an import path 'package.module:func"),
        ("my/games/x Own --behaviour uniform --environment own_games:seven", "expected a PettingZoo ParallelEnv from"),
        (
            "my/games/x Own --environment own_games:line --behaviour own_games:seven",
            "to return a callable .* got a int",
        ),
        (
            "my/games/x Own --environment own_games:line --behaviour own_games:not_a_function",
            "expected a function 'not_a",
        ),
        (
            "my/games/x Own --environment own_games:line --behaviour own_games:flat",
            r"behaviour 'own_games:flat': .*:line' expects actions of shape \(32, 2, 1\).* got shape \(32, 2\)",
        ),
        (
            "my/games/x Own --environment own_games:line --behaviour own_games:wild",
            r"behaviour 'own_games:wild': .* expects actions in \[-1.0, 1.0\], got values from 1.5",
        ),
        (
            "my/games/x Own --environment own_games:masked --behaviour own_games:cheat",
            r"'own_games:cheat': .* one of the legal actions \[0, 1\] of agent 0, got 2",
        ),
    ],
)
def test_mistakes(here: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(words, capsys)
    assert re.search(message, " ".join(told.split())), told
    assert not [path for path in here.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]


def test_a_checkpoint_has_to_fit(
    here: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(f"my/matrix/bridge Own --policy {trained}", capsys)
    assert "environment 'matrix/bridge' has obs_dim = 5 but the model expects 1" in message
    foreign = torch.load(trained, weights_only=True)
    del foreign["hyper_parameters"]["_class_path"]
    torch.save(foreign, here / "foreign.ckpt")
    assert "'foreign.ckpt' is none or is damaged (KeyError: '_class_path')" in refused(
        "my/matrix/xor Own --policy foreign.ckpt", capsys
    )
    monkeypatch.setattr(record_cli, "stage_name", lambda module: "critic")
    message = refused(f"my/matrix/xor Own --policy {trained}", capsys)
    assert "expected a checkpoint with a trained policy" in message and "the critic's stage" in message
    assert not (here / "vaults").exists() or not [path for path in (here / "vaults").rglob("*") if path.is_file()]


def test_an_interruption_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from environments import recording

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recording, "_play", interrupted)
    with pytest.raises(SystemExit) as left:
        run("my/games/line Homing --environment own_games:line --behaviour own_games:homing")
    assert left.value.code == 130
    assert [path for path in (here / "vaults").rglob("*") if path.is_file()] == []
