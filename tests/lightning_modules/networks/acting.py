"""What tests of policies share: strong preferences, observations, one decision, and what the network was asked."""

import torch
from torch import nn

from lightning_modules.networks.flow_policies import FlowPolicy
from lightning_modules.networks.velocity import VelocityNetwork
from tests.lightning_modules.batches import generator, normal, team_shape

ENVS, N_AGENTS, OBS_DIM, ACTION_DIM = 11, 3, 4, 5
FREE = torch.ones(ENVS, N_AGENTS, ACTION_DIM, dtype=torch.bool)


def acting_shape(discrete=True, **options):
    sizes = {"n_agents": N_AGENTS, "obs_dim": OBS_DIM, "action_dim": ACTION_DIM}
    return team_shape(discrete, **{**sizes, **options})


def decided(network):
    """Strong preferences that depend on all inputs."""
    with torch.no_grad():
        network.mlp.head.weight.mul_(20)
        network.mlp.head.bias.zero_()
    return network.double()


def flow_policy(discrete=True, output="endpoint", **options):
    torch.manual_seed(0)
    network = VelocityNetwork(acting_shape(discrete), (16, 16), output)
    return FlowPolicy(network=decided(network), **options)


def observations(seed=0, envs=ENVS):
    return 2 * normal(envs, N_AGENTS, OBS_DIM, seed=seed)


def act(policy, obs=None, legal=None, seed=0):
    obs = observations() if obs is None else obs
    legal = torch.ones(*obs.shape[:-1], ACTION_DIM, dtype=torch.bool) if legal is None else legal
    with torch.no_grad():
        return policy.act(obs, legal, policy.initial_state(len(obs)), generator(seed))[0]


def calls_of(network: nn.Module):
    """A list that fills with what a network is called with."""
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    return seen
