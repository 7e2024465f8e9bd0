"""Who agrees without talking? Two one-step games with several best joint actions, own and shared noise side by side.

    python benchmarks/coordination.py --train                        # trains all generative algorithms, then compares
    python benchmarks/coordination.py --train vgm2p flow_bc          # these, by the names of their YAML files
    python benchmarks/coordination.py runs/coordination/xor/vgm2p    # compares what is trained: runs or checkpoints

``xor`` (embedded/matrix/xor, choices): two agents win if they choose differently; the data is uniformly random.
``landmarks`` (embedded/matrix/landmarks, continuous): three agents win if each of three landmarks has an agent within
reach; the data goes to landmarks, 30 % of the episodes to all three, otherwise where each agent likes.

In both, an agent's own part of a best joint action looks like any other: agents that draw for themselves win half of
the games, and 2 of 9. With *shared noise* all agents of a team start from the same draws, as they would from a common
seed. One training gives both rows, because sharing is an option of acting; ``vgm2p_paired`` is VGM2P trained for it.

Written: a table (<out>.md) and a picture of the joint actions that were drawn (<out>.png). Trainings run in processes
of their own, one after the other unless --jobs says more. The same command goes on after an interruption, and does not
repeat what is complete; delete a directory under --runs to repeat it. An algorithm that refuses a game has a row that
says so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.joint_actions import draw_choices, draw_points
from callbacks.evaluation_mode import evaluating
from callbacks.joint_actions import NOISES, Played, play_once, with_noises
from datamodules.catalogue import recorded_as
from environments.landmarks import REACH
from environments.registry import make_vector_env
from record_cli import load_module
from whole_files import written_whole

CONFIGS = Path(__file__).parent.parent / "configs"
GAMES = {"xor": "matrix/xor", "landmarks": "matrix/landmarks"}
UPDATES = {"xor": 2000, "landmarks": 8000}  # of the policy: where three agents meet in a plane takes longer to learn
ALONE = {"xor": 1 / 2, "landmarks": 2 / 9}  # share of won games if everybody draws for itself from what is best
CAPTION = (
    "Joint actions with own and with shared noise. xor: percent of each pair of choices, framed where it wins. "
    "landmarks: where the three agents (colours) jump; all three circles have to be met."
)

#: What is not at its default. Labels are of the team's success: an agent's own share in it is the same for all actions.
_CRITIC = {"critic_updates": 500, "credit": "joint", "label": "sign"}
_PAIRED = {"shared_noise": True, "one_step_share": 1.0, "guidance_maximum": 1.0, "guidance_scale": 1.0}
OPTIONS: dict[str, dict[str, Any]] = {"vgm2p": _CRITIC, "vgm2p_paired": _CRITIC | _PAIRED, "cfgrl": _CRITIC}
#: Where an observation leaves several places to go to, a one-step flow has to split the noise between them, and learns
#: that sooner with the output that stays where it is as t goes to 0. Where it leaves one, the clean action is easier.
_ONE_STEP = {"output": "velocity"}
BY_GAME = {"landmarks": {"vgm2p": _ONE_STEP, "vgm2p_paired": _ONE_STEP, "meanflow_bc": _ONE_STEP}}
FILES = {"vgm2p_paired": "vgm2p"}  # where the YAML file is called otherwise
METHODS = (
    *("vgm2p", "vgm2p_paired", "flow_bc", "meanflow_bc", "cfgrl", "diffusion_bc", "diffusion_ql", "fql", "mac_flow"),
    *("om2p", "madiff", "dof", "dof_policy"),
)


Results = dict[str, dict[str, dict[str, list[Played]] | str]]
"""By method and game: games by noise, one entry per training, or why there are none."""


def configuration(method: str, game: str, seed: int, directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Configs/matrix.yaml with another algorithm and dataset, without Weights & Biases and progress bar."""
    config: dict[str, Any] = yaml.safe_load((CONFIGS / "matrix.yaml").read_text())
    model = yaml.safe_load((CONFIGS / "model" / f"{FILES.get(method, method)}.yaml").read_text())
    own = OPTIONS.get(method, {}) | BY_GAME.get(game, {}).get(method, {})
    updates = options.updates or UPDATES[game]
    config["seed_everything"] = seed
    config["model"] = model | {"init_args": {**model.get("init_args", {}), "learning_rate": 1e-3, **own}}
    config["data"]["init_args"] |= {"dataset": f"embedded/{GAMES[game]}", "root": str(options.root.absolute())}
    logger = {"save_dir": str(directory.parent), "name": directory.name}
    kept = [call for call in config["trainer"]["callbacks"] if call["class_path"] in _CALLBACKS]
    for callback in kept:
        callback["init_args"] = _CALLBACKS[callback["class_path"]]
    config["trainer"] |= {
        "max_steps": updates + own.get("critic_updates", 0),
        "val_check_interval": updates,
        "logger": [{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": logger}],
        "callbacks": kept,
        "enable_progress_bar": False,
    }
    return config


_CALLBACKS: dict[str, dict[str, Any]] = {
    "callbacks.StageSwitch": {},
    "callbacks.RolloutEvaluation": {"episodes": 256, "every_n_updates": 0, "final_episodes": 256},
    "callbacks.LastCheckpoint": {"every_n_updates": 500},
}


def train(method: str, game: str, seed: int, options: argparse.Namespace) -> None:
    """Trains in another process, from its checkpoint if it was begun, unless that is done.

    A refusal is kept in refused.txt.
    """
    directory = options.runs.absolute() / game / method / f"seed_{seed}"
    if complete_run(directory) is not None or (directory / "refused.txt").is_file():
        return
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "asked.yaml"
    file.write_text(yaml.safe_dump(configuration(method, game, seed, directory, options)))
    print(f"training {method} on {game}, seed {seed}", flush=True)
    command = [sys.executable, "-m", "vgm2p_cli", "fit", "--config", str(file)]
    if any(directory.glob("version_*/checkpoints/last.ckpt")):
        command += ["--ckpt_path", "last"]
    done = subprocess.run(command, cwd=CONFIGS.parent, env=os.environ, capture_output=True, text=True)
    (directory / "log.txt").write_text(done.stdout + done.stderr)
    if done.returncode == 2 and "error: " in done.stderr:  # refused before anything was trained
        (directory / "refused.txt").write_text(done.stderr.rpartition("error: ")[2])
    elif done.returncode != 0:
        print(f"{method} on {game} failed ({done.returncode}), see {directory / 'log.txt'}", file=sys.stderr)


def complete_run(directory: Path) -> Path | None:
    """The newest complete run below a directory, or the directory itself if it is one."""
    runs = [directory, *directory.glob("version_*"), *directory.glob("*/version_*")]
    complete = [run for run in runs if (run / "evaluation.csv").is_file() and (run / "checkpoints/last.ckpt").is_file()]
    return max(complete, key=lambda run: run.stat().st_mtime, default=None)


def trained(options: argparse.Namespace) -> Results:
    """Trains what was asked for and plays it."""
    names = options.what or METHODS
    missing = [name for name in names if not (CONFIGS / "model" / f"{FILES.get(name, name)}.yaml").is_file()]
    for name in missing:
        print(f"left out: {name}, there is no configs/model/{FILES.get(name, name)}.yaml", file=sys.stderr)
    names = [name for name in names if name not in missing]
    tasks = [(name, game, seed) for name in names for game in options.games for seed in options.seeds]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda task: train(task[0], task[1], task[2], options), tasks))
    results: Results = {name: {} for name in names}
    for name, game, seed in tasks:
        directory = options.runs / game / name / f"seed_{seed}"
        run = complete_run(directory)
        if run is not None:
            add(results[name], game, play_checkpoint(run / "checkpoints/last.ckpt", game, options.episodes))
        elif (directory / "refused.txt").is_file():
            results[name][game] = refusal((directory / "refused.txt").read_text())
        else:
            results[name].setdefault(game, "failed")
    return results


def refusal(message: str) -> str:
    """What a row says of an algorithm that does not fit a game."""
    return "not for choices" if "choices" in message else f"refused: {message.partition(chr(10))[0][:60]}"


def compared(options: argparse.Namespace) -> Results:
    """Plays runs and checkpoints that were named; each is played in the game that it fits."""
    results: Results = {}
    for path in options.what:
        named = Path(path)
        run = complete_run(named)
        checkpoint = named if named.is_file() else run / "checkpoints/last.ckpt" if run else None
        if checkpoint is None:
            raise SystemExit(
                f"expected a checkpoint, or a directory with a finished run of lightning fit, got '{path}'"
            )
        module, _ = load_module(checkpoint)
        for game, scenario in GAMES.items():
            env = make_vector_env(scenario, 1)
            sizes = ("n_agents", "obs_dim", "action_dim", "discrete")
            if all(getattr(env, size) == getattr(module.shape, size) for size in sizes):
                name = run_name(checkpoint) or type(module).__name__
                add(results.setdefault(name, {}), game, play_checkpoint(checkpoint, game, options.episodes))
                break
        else:
            raise SystemExit(f"expected a policy of one of the games {', '.join(GAMES.values())}, got '{path}'")
    return results


def run_name(checkpoint: Path) -> str:
    """The method of a run of this script, <runs>/<game>/<method>/seed_<k>/version_<v>/checkpoints/<file>."""
    parts = checkpoint.absolute().parts
    return parts[-5] if len(parts) > 5 and parts[-4].startswith("seed_") and parts[-6] in GAMES else ""


def add(of_method: dict[str, Any], game: str, played: dict[str, Played]) -> None:
    """One more training of a method."""
    for noise, games in played.items():
        of_method.setdefault(game, {}).setdefault(noise, []).append(games)


def play_checkpoint(checkpoint: Path, game: str, episodes: int) -> dict[str, Played]:
    """The policy of a checkpoint with every kind of noise that it can have."""
    module, _ = load_module(checkpoint)
    env = make_vector_env(GAMES[game], episodes)
    with evaluating(module):
        return {
            noise: play_once(module.for_environment(policy), env)
            for noise, policy in with_noises(module.policy).items()
        }


def spread(values: Iterable[float]) -> str:
    """Mean over trainings, and the smallest and largest if there are several."""
    some = list(values)
    return f"{np.mean(some):.2f}" + (f" [{min(some):.2f}, {max(some):.2f}]" if len(some) > 1 else "")


def table(results: Results, games: Sequence[str]) -> str:
    """Markdown: one row per method and noise."""
    won, paid = [f"{game}: won" for game in games], [f"{game}: reward" for game in games]
    rows = [["method", "noise", "network calls", *won, *paid], ["---", "---", *["--:"] * (1 + 2 * len(games))]]
    cards = [card for game in games if (card := recorded_as(f"embedded/{GAMES[game]}", "Mixed")) is not None]
    rows.append(["the data", "", "", *(f"{card.won:.2f}" for card in cards), *(f"{c.return_mean:.2f}" for c in cards)])
    rows.append(["independent draws, exact", "", "", *(f"{ALONE[game]:.2f}" for game in games), *[""] * len(games)])
    for method, of_method in results.items():
        for noise in NOISES:
            found = [played_with(of_method.get(game), noise) for game in games]
            if noise != "own" and not any(isinstance(each, list) for each in found):
                continue
            calls = {str(played.calls) for each in found if isinstance(each, list) for played in each}
            won = [each if isinstance(each, str) else spread(p.won.mean() for p in each) for each in found]
            paid = ["" if isinstance(each, str) else spread(p.rewards.mean() for p in each) for each in found]
            rows.append([method, noise, "/".join(sorted(calls)), *won, *paid])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def played_with(of_game: dict[str, list[Played]] | str | None, noise: str) -> list[Played] | str:
    """Games with one kind of noise, or why there are none."""
    if of_game is None or isinstance(of_game, str):
        return of_game or ""
    return of_game.get(noise, "")


def picture(results: Results, games: Sequence[str]) -> Figure:
    """Joint actions that were drawn: a row per method, own noise next to shared; the first training of each."""
    blocks = 2 if len(results) > 4 else 1
    rows, width = -(-len(results) // blocks), 2 * len(games)
    figure = Figure(figsize=(1.35 * width * blocks + 0.3, 1.62 * rows + 0.5), layout="constrained")
    columns = figure.subfigures(1, blocks, squeeze=False)[0]
    methods = list(results)
    for block, column in enumerate(columns):
        axes = column.subplots(rows, width, squeeze=False)
        for row in range(rows):
            number = block * rows + row
            for place, (game, noise) in enumerate((game, noise) for game in games for noise in NOISES):
                panel: Axes = axes[row, place]
                panel.set(xticks=[], yticks=[])
                if number >= len(methods):
                    panel.set_axis_off()
                    continue
                if place == 0:
                    panel.set_ylabel(methods[number], fontsize=8)
                games_played = played_with(results[methods[number]].get(game), noise)
                draw(panel, game, noise, games_played)
    figure.suptitle(textwrap.fill(CAPTION, int(17 * figure.get_figwidth())), fontsize=8)
    return figure


def draw(panel: Axes, game: str, noise: str, games: list[Played] | str) -> None:
    """One panel: the joint actions of one method in one game with one kind of noise."""
    if isinstance(games, str):
        panel.text(0.5, 0.5, games or "–", ha="center", va="center", fontsize=6, transform=panel.transAxes, wrap=True)
        panel.set_frame_on(False)
        return
    panel.set_title(f"{noise}: won {100 * games[0].won.mean():.0f} %", fontsize=7, pad=2)
    played = games[0]
    if game == "xor":
        draw_choices(panel, played.actions)
    else:
        draw_points(panel, played.state.reshape(-1, 3, 2), played.actions, REACH)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="with --train: names in configs/model; otherwise runs or checkpoints")
    parser.add_argument("--train", action="store_true", help="train first what is not trained yet")
    parser.add_argument("--games", nargs="+", choices=list(GAMES), default=list(GAMES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one training each")
    usual = ", ".join(f"{number} on {game}" for game, number in UPDATES.items())
    parser.add_argument("--updates", type=int, help=f"of the policy, beside the 500 of a critic's stage ({usual})")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--runs", type=Path, default=Path("runs/coordination"), help="directory of the trainings")
    parser.add_argument("--root", type=Path, default=Path("vaults"), help="directory of all vaults")
    parser.add_argument("--episodes", type=int, default=2000, help="games that each policy plays")
    parser.add_argument(
        "--out", type=Path, default=Path("results/coordination"), help="table and picture, without ending"
    )
    options = parser.parse_args()
    if not options.train and not options.what:
        parser.error("expected --train, or runs or checkpoints to compare")
    return options


def main() -> None:
    """Trains if asked to, plays, writes table and picture."""
    options = arguments()
    results = trained(options) if options.train else compared(options)
    games = [game for game in options.games if any(game in of_method for of_method in results.values())]
    text = table(results, games)
    with written_whole(options.out.with_suffix(".md")) as unfinished:
        unfinished.write_text(text)
    with written_whole(options.out.with_suffix(".png")) as unfinished:
        picture(results, games).savefig(unfinished, dpi=100)
    print(f"{text}\n{options.out.with_suffix('.md')} and {options.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
