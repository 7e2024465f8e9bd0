"""A few frames of a film, or of an episode of a recorded behaviour, side by side as a PNG for a page of text.

python benchmarks/film_strip.py runs/smac/version_0/videos/episode_1.mp4 --out docs/video_smax.png
python benchmarks/film_strip.py mamujoco/2halfcheetah:learned-good --steps 40 43 46 49 --out docs/video_mamujoco.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from environments.behaviours import make_behaviour
from environments.registry import make_env
from environments.vector import ParallelVectorEnv


def frames_of_film(path: Path) -> list[Image.Image]:
    """All frames of an MP4 file."""
    import av

    with av.open(str(path)) as film:
        return [frame.to_image() for frame in film.decode(video=0)]


def frames_of_behaviour(scenario: str, name: str, seed: int, last: int | None) -> list[Image.Image]:
    """Frames of one episode, up to a step."""
    env = make_env(scenario)
    copy = ParallelVectorEnv(lambda: env, 1, scenario)
    behaviour, generator = make_behaviour(scenario, name), np.random.default_rng(seed)
    behaviour.reset(1)
    shown = copy.reset([seed])
    frames = [Image.fromarray(env.render())]
    while not shown.finished.all() and (last is None or len(frames) <= last):
        shown = copy.step(behaviour.act(shown, generator))
        frames.append(Image.fromarray(env.render()))
    return frames


def main() -> None:
    """Finds the frames that were asked for, scales them, writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="an MP4 file that callbacks.Videos wrote, or <scenario>:<behaviour>")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--steps", type=int, nargs="+", help="steps to show; by default four, evenly spread")
    parser.add_argument("--seed", type=int, default=1_000_000, help="start of a behaviour's episode")
    parser.add_argument("--width", type=int, default=320, help="of each frame in the picture, in pixels")
    parser.add_argument("--columns", type=int, default=4, help="frames side by side")
    arguments = parser.parse_args()
    scenario, _, behaviour = arguments.source.partition(":")
    if behaviour:
        last = max(arguments.steps) if arguments.steps else None
        frames = frames_of_behaviour(scenario, behaviour, arguments.seed, last)
    else:
        frames = frames_of_film(Path(arguments.source))
    steps = arguments.steps or [round(k * (len(frames) - 1) / 3) for k in range(4)]
    width, columns, gap = arguments.width, min(arguments.columns, len(steps)), 6
    height = round(width * frames[0].height / frames[0].width)
    rows = -(-len(steps) // columns)
    strip = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for place, step in enumerate(steps):
        frame = frames[step].resize((width, height), Image.Resampling.LANCZOS)
        strip.paste(frame, (place % columns * (width + gap), place // columns * (height + gap)))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    strip.quantize(128, dither=Image.Dither.NONE).save(arguments.out, optimize=True)
    print(f"{arguments.out}: steps {steps}, {arguments.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
