"""A policy plays whole episodes in many copies of an environment at once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from environments.vector import VectorEnv
from lightning_modules.base import OfflineModule
from lightning_modules.networks.policies import Policy


@dataclass(frozen=True)
class Episodes:
    """Finished episodes of one policy; those that were lost to a failure of the simulator are only counted.

    Attributes:
        returns: Sum of the team's rewards per episode, (E,).
        won: Whether the episode was won; never in environments without a notion of winning, (E,).
        lengths: Steps per episode, (E,).
        milliseconds: Median duration of one call of ``policy.act``, which decides for all agents of all copies.
        network_calls: Forward passes of the network per such call.
        lost: Number of episodes that were lost.
    """

    returns: NDArray[np.float64]
    won: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    milliseconds: float
    network_calls: int
    lost: int = 0

    @property
    def return_error(self) -> float:
        """Standard error of the mean return."""
        return float(self.returns.std(ddof=1) / np.sqrt(len(self.returns))) if len(self.returns) > 1 else float("nan")


class _Round(NamedTuple):
    """Up to E episodes, one entry for each, and the duration of each decision in seconds."""

    returns: NDArray[np.float64]
    won: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    lost: NDArray[np.bool_]
    seconds: NDArray[np.float64]


def play(policy: Policy, env: VectorEnv, seeds: Sequence[int], device: torch.device) -> Episodes:
    """Plays one episode per seed, as many at a time as the environment has copies, one decision for all at once.

    Args:
        policy: Who acts.
        env: Copies of the environment.
        seeds: Start of each episode; equal seeds give equal starts.
        device: Where the policy's network is.

    Returns:
        The episodes in the order of the seeds, without those that were lost. The policy's randomness comes from a
        generator seeded by the first seed of each round, so the result depends on nothing but policy, environment and
        seeds.

    Raises:
        RuntimeError: If all episodes were lost.
    """
    rounds = [_play_round(policy, env, seeds[i : i + env.n_envs], device) for i in range(0, len(seeds), env.n_envs)]
    returns, won, lengths, lost, seconds = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
    if lost.all():
        raise RuntimeError(
            f"'{env.name}' lost all {len(seeds)} episodes of a rollout to failures of its simulator, so there is "
            "nothing to evaluate; the messages above say why. Mend the simulator, or take RolloutEvaluation out of "
            "trainer.callbacks"
        )
    kept = ~lost
    milliseconds = 1e3 * float(np.median(seconds))
    return Episodes(returns[kept], won[kept], lengths[kept], milliseconds, policy.network_calls, int(lost.sum()))


def _play_round(policy: Policy, env: VectorEnv, seeds: Sequence[int], device: torch.device) -> _Round:
    """Up to E episodes at the same time."""
    wanted = len(seeds)
    step = env.reset([*seeds, *[seeds[-1]] * (env.n_envs - wanted)])  # surplus copies repeat the last start
    generator = torch.Generator(device).manual_seed(seeds[0])
    memory = policy.initial_state(env.n_envs)
    returns, lengths = np.zeros(env.n_envs), np.zeros(env.n_envs, dtype=np.int64)
    seconds = []
    while not step.finished[:wanted].all():
        obs = torch.from_numpy(step.obs).to(device)
        legal = torch.from_numpy(step.legal_actions).to(device)
        began = time.perf_counter()
        actions, memory = policy.act(obs, legal, memory, generator)
        chosen = actions.cpu().numpy()  # waits for the device
        seconds.append(time.perf_counter() - began)
        lengths += ~step.finished
        step = env.step(chosen)
        returns += step.rewards  # 0 from finished copies
    won, lost = (np.broadcast_to(flags, env.n_envs)[:wanted] for flags in (step.won, step.lost))
    return _Round(returns[:wanted], won, lengths[:wanted], lost, np.array(seconds))


def check_fits(scenario: str, env: VectorEnv, module: OfflineModule) -> None:
    """Compares an environment with the module that shall play it.

    Args:
        scenario: Name of the environment, for the message.
        env: The environment.
        module: The module.

    Raises:
        ValueError: If agents, observations or actions differ.
    """
    for name in ("n_agents", "obs_dim", "action_dim", "discrete"):
        got, expected = getattr(env, name), getattr(module.shape, name)
        if got != expected:
            raise ValueError(
                f"environment '{scenario}' has {name} = {got} but the model expects {expected}; "
                "was the data, or the checkpoint, made in another environment?"
            )
