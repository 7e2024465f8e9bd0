"""Pictures of joint actions: who chose what together, and who went where."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

COLOURS = ("#0072B2", "#E69F00", "#009E73")  # of the agents


def joint_shares(actions: NDArray[np.int64], n_choices: int) -> NDArray[np.float64]:
    """How often two agents chose each pair.

    Args:
        actions: Choices of two agents, (E, 2), from 0 to ``n_choices`` - 1.
        n_choices: Choices of each agent.

    Returns:
        Shares of the games, (n_choices, n_choices): row of the first agent, column of the second; they sum to 1.

    Raises:
        ValueError: If there are no games, or not two agents with such choices.
    """
    if actions.ndim != 2 or actions.shape[1] != 2 or not len(actions):
        raise ValueError(f"expected choices of two agents in at least one game, (E, 2), got shape {actions.shape}")
    if actions.min() < 0 or actions.max() >= n_choices:
        raise ValueError(f"expected choices from 0 to {n_choices - 1}, got {actions.min()} to {actions.max()}")
    pairs = np.bincount(actions @ [n_choices, 1], minlength=n_choices**2)
    return pairs.reshape(n_choices, n_choices) / len(actions)


def draw_choices(axes: Axes, actions: NDArray[np.int64], n_choices: int = 2) -> None:
    """Draws in how many percent of the games each pair was chosen; frames mark different choices, which win XOR.

    Args:
        axes: Where.
        actions: As for :func:`joint_shares`.
        n_choices: Choices of each agent.
    """
    shares = joint_shares(actions, n_choices)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for first, second in np.ndindex(*shares.shape):
        colour = "white" if shares[first, second] > 0.5 else "black"
        words = f"{100 * shares[first, second]:.0f}"
        axes.text(second, first, words, ha="center", va="center", color=colour, fontsize=8)
        if first != second:
            frame = Rectangle((second - 0.47, first - 0.47), 0.94, 0.94, fill=False, color="tab:green", lw=1.5)
            axes.add_patch(frame)


def draw_points(
    axes: Axes, landmarks: NDArray[np.float32], points: NDArray[np.float32], reach: float, shown: int = 250
) -> None:
    """Draws where the agents of each game went, every game turned so that its first landmark is at the top.

    Args:
        axes: Where.
        landmarks: Their places in each game, (E, K, 2), on a circle around 0.
        points: Where the agents went, (E, N, 2); a colour for each of at most three agents.
        reach: How near is near enough: the radius of the rings.
        shown: Games in the picture, the first ones.
    """
    places = landmarks[:shown].astype(np.float64) @ [1, 1j]  # points as complex numbers
    turn = 1j / (places[:, :1] / np.abs(places[:, :1]))
    turned = turn * (points[:shown].astype(np.float64) @ [1, 1j])
    for place in (turn * places)[0]:
        axes.add_patch(Circle((place.real, place.imag), reach, fill=False, color="0.6", lw=0.8))
    for agent, colour in zip(range(turned.shape[1]), COLOURS, strict=False):
        axes.scatter(turned[:, agent].real, turned[:, agent].imag, s=2, color=colour, alpha=0.35, linewidths=0)
    axes.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal", xticks=[], yticks=[])
