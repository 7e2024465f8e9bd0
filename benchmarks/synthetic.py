"""Random recordings and labelled modules in the shapes of two SMAX maps: nothing has to be recorded to be timed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from datamodules.batch import TeamBatch
from datamodules.vaults import Stream
from datamodules.window_dataset import WindowDataset
from lightning_modules import VGM2P


class Shape(NamedTuple):
    """Sizes of a scenario.

    Attributes:
        name: Name of the map.
        n_agents: Number of agents N.
        obs_dim: Observation size O.
        state_dim: State size S.
        n_actions: Number of choices A.
        length: Steps of an episode.
    """

    name: str
    n_agents: int
    obs_dim: int
    state_dim: int
    n_actions: int
    length: int


SHAPES = (Shape("3m", 3, 75, 72, 8, 13), Shape("2s3z", 5, 127, 120, 10, 58))


def random_stream(shape: Shape, episodes: int) -> Stream:
    """Episodes of equal length with random entries; about half of the actions are legal, the recorded ones always."""
    generator = np.random.default_rng(0)
    steps = episodes * shape.length
    actions = generator.integers(0, shape.n_actions, (steps, shape.n_agents))
    legal = generator.random((steps, shape.n_agents, shape.n_actions)) < 0.5
    np.put_along_axis(legal, actions[..., None], True, axis=-1)
    return Stream(
        obs=generator.standard_normal((steps, shape.n_agents, shape.obs_dim), dtype=np.float32),
        state=generator.standard_normal((steps, shape.state_dim), dtype=np.float32),
        actions=actions,
        rewards=generator.standard_normal(steps, dtype=np.float32),
        terminals=np.arange(1, steps + 1) % shape.length == 0,
        truncations=np.zeros(steps, dtype=bool),
        legal_actions=legal,
    )


def labelled_windows(shape: Shape, window: int, episodes: int = 400) -> WindowDataset:
    """A random recording with normally distributed advantages and credits."""
    dataset = WindowDataset(random_stream(shape, episodes), window)
    generator = torch.Generator().manual_seed(1)
    dataset.set_advantages(torch.randn(len(dataset), generator=generator))
    dataset.set_credits(torch.randn((len(dataset), shape.n_agents), generator=generator))
    return dataset


def random_batch(dataset: WindowDataset, windows: int) -> TeamBatch:
    """Windows from random places of a recording."""
    return dataset[torch.randperm(len(dataset), generator=torch.Generator().manual_seed(2))[:windows]]


def policy_stage(shape: Shape, dataset: WindowDataset, **options: Any) -> VGM2P:
    """A module at the beginning of the policy's stage, all options but the given ones at their defaults."""
    torch.manual_seed(0)
    module = VGM2P(
        n_agents=shape.n_agents,
        obs_dim=shape.obs_dim,
        state_dim=shape.state_dim,
        action_dim=shape.n_actions,
        discrete=True,
        **options,
    )
    module.start_policy(dataset.credits.flatten())
    return module
