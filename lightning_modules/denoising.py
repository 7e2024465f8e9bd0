"""Learning to take the noise out of recorded actions: what the diffusion policies share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.flows.diffusion import add_noise
from lightning_modules.flows.noise_schedules import draw_levels
from lightning_modules.joint_steps import JointSteps
from lightning_modules.losses.cloning import choice_cloning_error, squared_cloning_error
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.denoiser import Denoiser
from lightning_modules.networks.noise import standard_normal
from lightning_modules.networks.one_step import counted_entries


class Denoised(NamedTuple):
    """What a network makes of recorded actions to which noise was added.

    Attributes:
        loss: Its error, a scalar.
        endpoint: The actions x̂ that it found, (M, N, A); those of choices are 2 p - 1.
    """

    loss: Tensor
    endpoint: Tensor


def denoised_actions(network: Denoiser, steps: JointSteps, features: Tensor, generator: torch.Generator) -> Denoised:
    """Adds noise to what was done, each agent's own at a level of its own, and asks the network for it.

        L = E |a_i - x̂(z_k, k | o_i, i)|² / A  or  E |ε - ε̂(z_k, k | o_i, i)|² / A  for continuous actions, as the
        network's ``output`` says,    L = -E log p(a_i | z_k, k, o_i, i)  for choices,
        z_k = √ᾱ_k a_i + √(1 - ᾱ_k) ε,   k uniform on 1..K

    (Ho et al., arXiv:2006.11239, Eq. 14, which is that of the noise; for choices Dieleman et al., arXiv:2211.15089. All
    have the minimiser x̂ = E[a | z_k].)

    Args:
        network: What is trained.
        steps: M recorded joint steps.
        features: From the network's encoder, (M, N, F).
        generator: Source of levels and noise.
    """
    legal = steps.legal_actions
    actions = encode_actions(steps.actions, network.action_dim, network.discrete)
    level = draw_levels(legal.shape[:-1], network.levels, generator, legal.device)
    noise = standard_normal(legal.shape, features, generator)
    z = add_noise(actions, noise, network.kept[level])
    answer = network(z, level, features, legal)
    if network.discrete:
        error = choice_cloning_error(answer, steps.actions, legal)
    else:
        wanted = actions if network.output == "endpoint" else noise
        error = squared_cloning_error(answer, wanted, counted_entries(legal, network.discrete))
    return Denoised(error.mean(), network.endpoint(z, level, answer, legal))
