"""Look through a vault: what it holds, what is wrong with it, and whether it is what was published."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.catalogue import PublishedDataset
from datamodules.episodes import episode_bounds, episode_lengths, episode_returns
from datamodules.vaults import OutOfRange, Vault

MOST_PROBLEMS = 20  # told in full; the rest is counted
RETURN_TOLERANCE = 0.01  # of the published spread of returns: sums in float32 differ that much by their order


@dataclass
class Report:
    """What was found in a vault.

    Attributes:
        directory: The vault.
        problems: Sentences about what is wrong; training refuses such a vault. At most some of each leaf.
        left_out: Number of problems beyond those.
        differences: Sentences about what is not as published.
        notes: Sentences about what is unusual but usable.
        shapes: Shape of every leaf, by name; empty if the vault cannot be opened.
        n_agents: Number of agents.
        obs_dim: Observation size.
        state_dim: State size.
        action_dim: Number of choices, or length of an action.
        discrete: Whether actions are choices.
        returns: Return of each episode, (E,).
        lengths: Steps of each episode, (E,).
    """

    directory: Path
    problems: list[str] = field(default_factory=list)
    left_out: int = 0
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    n_agents: int = 0
    obs_dim: int = 0
    state_dim: int = 0
    action_dim: int = 0
    discrete: bool = True
    returns: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def good(self) -> bool:
        """Whether the vault can be trained on and is what was published."""
        return not self.problems and not self.differences


def inspect_vault(
    directory: Path, out_of_range: OutOfRange = "error", published: PublishedDataset | None = None
) -> Report:
    """Read a whole vault, piece by piece, and collect everything that is wrong with it rather than stop.

    Args:
        directory: The vault.
        out_of_range: What training will do with continuous actions outside [-1, 1].
        published: The card that the vault is compared with; None compares nothing.

    Returns:
        The report.
    """
    report = Report(Path(directory).absolute())
    try:
        vault = Vault(directory, out_of_range)
        _describe(vault, report)
        _read(vault, report)
        if published is not None:
            report.differences += differences(vault, published)
    except (ValueError, FileNotFoundError) as error:
        report.problems.append(str(error))
    return report


def differences(vault: Vault, published: PublishedDataset) -> list[str]:
    """Compare a vault with its card.

    A card counts the episodes that end in the first copy, and sums the first agent's rewards; so does this. Whether a
    truncation ends an episode differs between the sources, so both are tried.

    Args:
        vault: The opened vault.
        published: Its card.

    Returns:
        A sentence for each difference.
    """
    wrong = [
        f"expected '{name}' of shape {shape}, found {vault.shapes.get(name, 'none')}"
        for name, shape in published.leaf_shapes.items()
        if vault.shapes.get(name) != shape
    ]
    counted = [_return_differences(first_returns(vault, truncated), published) for truncated in (True, False)]
    return wrong + min(counted, key=len)


def first_returns(vault: Vault, truncated: bool = True) -> NDArray[np.float64]:
    """Sums of the first agent's rewards over the episodes that end in the first copy, (E,).

    Args:
        vault: The opened vault.
        truncated: Whether a truncation ends an episode, or only a terminal does.
    """
    rewards, ends = [], []
    names = ["terminals", "truncations"] if truncated else ["terminals"]
    for first in range(0, vault.steps, vault.piece):
        steps = min(first + vault.piece, vault.steps) - first
        leaves = vault.read(0, first, first + steps, ["rewards", *names])
        ends.append(np.any([leaves[name].reshape(steps, -1).astype(bool).any(axis=1) for name in names], axis=0))
        rewards.append(leaves["rewards"].reshape(steps, -1)[:, 0])
    finished = np.flatnonzero(np.concatenate(ends))
    if not len(finished):
        return np.zeros(0)
    whole = slice(finished[-1] + 1)  # an unfinished episode at the end does not count
    bounds = episode_bounds(np.concatenate(ends)[whole])
    return episode_returns(np.concatenate(rewards)[whole].astype(np.float32), bounds)


def _return_differences(returns: NDArray[np.float64], published: PublishedDataset) -> list[str]:
    wrong = []
    if len(returns) != published.episodes:
        wrong.append(f"expected {published.episodes} episodes in the first copy, found {len(returns)}")
    tolerance = RETURN_TOLERANCE * published.return_std + 1e-6
    for name in ("mean", "std", "min", "max"):
        expected = getattr(published, f"return_{name}")
        value = float(getattr(np, name)(returns)) if len(returns) else np.nan
        if not abs(value - expected) <= tolerance:
            wrong.append(f"expected returns with a {name} of {expected:.4g}, found {value:.4g}")
    return wrong


def _describe(vault: Vault, report: Report) -> None:
    report.shapes = vault.shapes
    report.n_agents, report.obs_dim = vault.shapes["observations"][2:]
    report.state_dim, report.action_dim, report.discrete = vault.state_dim, vault.action_dim, vault.discrete


def _read(vault: Vault, report: Report) -> None:
    """Collect problems, and episodes."""

    def found(problem: str) -> None:
        if len(report.problems) < MOST_PROBLEMS:
            report.problems.append(problem)
        else:
            report.left_out += 1

    rewards, ends = [], []
    for piece in vault.pieces(found, report.notes.append):
        rewards.append(piece["rewards"])
        ends.append(piece["terminals"] | piece["truncations"])
    bounds = episode_bounds(np.concatenate(ends))
    report.returns = episode_returns(np.concatenate(rewards), bounds)
    report.lengths = episode_lengths(bounds)
