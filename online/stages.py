"""Picks the stages of a training that record datasets: ``python -m online.stages smax/3m``.

    good       the checkpoint with the highest mean return
    medium     the one nearest to the middle between the untrained team's return and good's
    poor       the one nearest to a fifth of that way
    replay-k   for k = 1 ... 5 the one nearest to (k - 1) / 4 of the way to good, in steps of the environment, in the
               same training: the first is untrained, the last is good

They are copied to ``environments/weights`` as ``<family>-<scenario>-<stage>.safetensors``, with all that the
checkpoints say about themselves.
"""

from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import auto_cli

from environments.learned import STAGES, TeamNetwork, read_team, weights_file, write_team

MEDIUM, POOR = 0.5, 0.2  # of the way from the untrained team's mean return to that of the best


class Checkpoint(NamedTuple):
    """One file of a training.

    Attributes:
        steps: Steps of the environment until then.
        return_mean: Mean return of its evaluation.
        path: Where it lies.
    """

    steps: int
    return_mean: float
    path: Path


def pick(checkpoints: list[Checkpoint], scripted: float | None = None) -> dict[str, Checkpoint]:
    """The checkpoint of every stage.

    Args:
        checkpoints: Of one or several trainings, each in a directory of its own; of that which has the best one, the
            one with the fewest steps counts as untrained.
        scripted: Mean return of a script that plays better than the best checkpoint; medium and poor are then measured
            by it, and there is no good stage.

    Returns:
        Checkpoints by stage.

    Raises:
        ValueError: If there are fewer than two.
    """
    if len(checkpoints) < 2:
        raise ValueError(f"expected at least two checkpoints of a training, got {len(checkpoints)}")
    good = max(checkpoints, key=lambda some: some.return_mean)
    training = [some for some in checkpoints if some.path.parent == good.path.parent]
    best = good.return_mean if scripted is None else scripted
    untrained = min(training, key=lambda some: some.steps)

    def nearest_return(way: float) -> Checkpoint:
        wanted = untrained.return_mean + way * (best - untrained.return_mean)
        return min(checkpoints, key=lambda some: abs(some.return_mean - wanted))

    def nearest_steps(way: float) -> Checkpoint:
        return min(training, key=lambda some: abs(some.steps - way * good.steps))

    replay = [nearest_steps(k / 4) for k in range(5)]
    stages = dict(zip(STAGES, (good, nearest_return(MEDIUM), nearest_return(POOR), *replay), strict=True))
    return stages if scripted is None else {stage: some for stage, some in stages.items() if stage != "good"}


def ship(scenario: str, directories: tuple[Path, ...] = (), scripted: float | None = None) -> None:
    """Picks stages of a training, or of several, and copies them to environments/weights.

    Args:
        scenario: What was trained, such as smax/3m.
        directories: Of each training's checkpoints; by default runs/online/<scenario>.
        scripted: Mean return of a script that plays better than all checkpoints, where there is one.

    Raises:
        ValueError: If there are fewer than two checkpoints, or they are of another scenario.
    """
    found: dict[Path, tuple[TeamNetwork, dict[str, Any]]] = {}
    directories = directories or (Path("runs/online") / scenario,)
    for path in (path for directory in directories for path in sorted(directory.glob("*.safetensors"))):
        found[path] = read_team(path)
        if found[path][0].scenario != scenario:
            raise ValueError(f"expected checkpoints of '{scenario}', '{path}' is of '{found[path][0].scenario}'")
    checkpoints = [
        Checkpoint(facts["environment_steps"], facts["evaluation"]["return_mean"], path)
        for path, (_, facts) in found.items()
    ]
    for stage, checkpoint in pick(checkpoints, scripted).items():
        target = weights_file(scenario, stage)
        write_team(target, *found[checkpoint.path])
        print(f"{target.name}: {checkpoint.path}, mean return {checkpoint.return_mean:.4g}")


if __name__ == "__main__":
    auto_cli(ship, as_positional=True)
