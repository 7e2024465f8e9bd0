"""Joint actions of a team in a game of one step: what it drew, and what it got for it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from environments.vector import VectorEnv, VectorStep
from lightning_modules.networks.policies import Policy

FIRST_SEED = 1_000_000  # of the games played; away from those recorded
NOISES = ("own", "shared")


@dataclass(frozen=True)
class Played:
    """Games of one policy.

    Attributes:
        calls: Network calls of a decision.
        state: What the games looked like, (E, S).
        actions: What the team did, (E, N) or (E, N, A).
        rewards: What it received, (E,).
        won: Which games it won, (E,).
    """

    calls: int
    state: NDArray[np.float32]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    won: NDArray[np.bool_]


def play_once(policy: Policy, env: VectorEnv, seed: int = FIRST_SEED) -> Played:
    """One game in every copy of an environment whose games have one step.

    Args:
        policy: As ``OfflineModule.for_environment`` gives it.
        env: Copies of a matrix game.
        seed: Start of the first copy, the others follow; also of the draws. The same seed draws the same actions.

    Raises:
        ValueError: If a game goes on after its first step.
    """
    shown: VectorStep = env.reset(range(seed, seed + env.n_envs)).copied()
    obs, legal = torch.from_numpy(shown.obs), torch.from_numpy(shown.legal_actions)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        actions, _ = policy.act(obs, legal, policy.initial_state(env.n_envs), generator)
    after = env.step(actions.numpy())
    if not np.asarray(after.terminals).all():
        raise ValueError("expected games of one step, such as matrix/xor or matrix/landmarks, got one that goes on")
    return Played(policy.network_calls, shown.state, actions.numpy(), np.array(after.rewards), np.array(after.won))


def with_noises(policy: Policy) -> Mapping[str, Policy]:
    """A policy with own and with shared noise, by these names; where it knows no such option, as it is.

    Args:
        policy: Any policy.
    """
    if is_dataclass(policy) and any(field.name == "shared_noise" for field in fields(policy)):
        return {noise: replace(policy, shared_noise=noise == "shared") for noise in NOISES}
    return {"own": policy}
