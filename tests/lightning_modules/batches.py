"""Batches and modules for the tests of this directory: small, random, and different in every dimension."""

from contextlib import contextmanager

import torch

from datamodules.batch import TeamBatch
from lightning_modules import (
    AWAC,
    AWR,
    BC,
    CFCQL,
    CFGRL,
    FQL,
    ICQ,
    IQL,
    MABCQ,
    MACQL,
    MATD3BC,
    OM2P,
    OMAR,
    OMIGA,
    VGM2P,
    DiffusionBC,
    DiffusionQL,
    DoFPolicy,
    DoFTrajectory,
    FlowBC,
    MACFlow,
    MADiff,
    MeanFlowBC,
)
from lightning_modules.networks.targets import polyak_update
from lightning_modules.networks.team_shape import TeamShape

N_AGENTS, OBS_DIM, STATE_DIM, ACTION_DIM = 3, 5, 7, 4
DIMS = {"n_agents": N_AGENTS, "obs_dim": OBS_DIM, "state_dim": STATE_DIM, "action_dim": ACTION_DIM}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def random_legal_actions(*shape, seed=0):
    """Bool (*shape): a random mask that leaves every agent at least one action, about half of all."""
    scores = torch.rand(*shape, generator=generator(seed))
    return (scores < 0.5) | (scores == scores.amin(dim=-1, keepdim=True))


def random_batch(discrete=True, batch=24, window=3, seed=0, dtype=None):
    """A batch with every kind of window: inside an episode, terminal, truncated, padded, at each position."""
    dtype = dtype or torch.get_default_dtype()
    source, shape = generator(seed), (batch, window)
    legal = random_legal_actions(*shape, N_AGENTS, ACTION_DIM, seed=seed + 1)
    if discrete:
        scores = torch.rand(*shape, N_AGENTS, ACTION_DIM, generator=source)
        actions = scores.masked_fill(~legal, -1.0).argmax(dim=-1)
    else:
        legal = torch.ones_like(legal)
        actions = 2 * torch.rand(*shape, N_AGENTS, ACTION_DIM, generator=source).to(dtype) - 1
    # Steps recorded in each window: 1 to window, or more than fit into it; every other window ends in a terminal.
    recorded = (torch.arange(batch) % (window + 1) + 1).unsqueeze(1)
    position = torch.arange(window)
    valid = position < recorded
    last = position == recorded - 1
    ends_well = (torch.arange(batch) // (window + 1) % 2 == 0).unsqueeze(1)
    fields = {
        "obs": torch.randn(*shape, N_AGENTS, OBS_DIM, generator=source),
        "state": torch.randn(*shape, STATE_DIM, generator=source),
        "rewards": torch.randn(*shape, generator=source),
        "returns": torch.randn(batch, 1, generator=generator(seed + 2)).expand(shape),
        "advantages": torch.randn(*shape, generator=source),
        "credits": torch.randn(*shape, N_AGENTS, generator=source),
    }
    return TeamBatch(
        **{name: value.to(dtype) for name, value in fields.items()},
        actions=actions,
        terminals=last & ends_well,
        truncations=last & ~ends_well,
        legal_actions=legal,
        valid=valid,
    )


def team_shape(discrete=True, **options):
    """What networks for these batches are built from, unless other sizes are asked for."""
    return TeamShape(**{**DIMS, "discrete": discrete, **options})


def one_step_games(joint_actions, counts, advantages, n_actions=2):
    """Single-step episodes of a team without observations, (sum of counts) windows of length 2.

    Each joint action is there as often as counted, with its advantage; agents' credits are the advantage.
    """
    counts = torch.tensor(counts)
    actions = torch.tensor(joint_actions).repeat_interleave(counts, dim=0).unsqueeze(1).repeat(1, 2, 1)
    values = torch.tensor(advantages).repeat_interleave(counts).unsqueeze(1).repeat(1, 2)
    batch, window, n_agents = actions.shape
    first = torch.tensor([True, False]).expand(batch, window)
    return TeamBatch(
        obs=torch.zeros(batch, window, n_agents, 1),
        state=torch.zeros(batch, window, 1),
        actions=actions,
        rewards=values,
        returns=values,
        terminals=first,
        truncations=torch.zeros_like(first),
        legal_actions=torch.ones(batch, window, n_agents, n_actions, dtype=torch.bool),
        advantages=values,
        credits=values.unsqueeze(-1).expand(batch, window, n_agents),
        valid=first,
    )


def make_bc(discrete=True, **options):
    return BC(**{**DIMS, "discrete": discrete, "hidden_dims": (8, 8), "learning_rate": 1e-2, **options})


def make_awr(discrete=True, **options):
    return AWR(**{**_staged(discrete), **options})


def make_iql(discrete=True, **options):
    return IQL(**{**_together(discrete), "trace_decay": 0.5, **options})


def make_awac(discrete=True, **options):
    return AWAC(**{**_together(discrete), **options})


def make_omiga(discrete=True, **options):
    return OMIGA(**{**_together(discrete), "temperature": 2.0, "trace_decay": 0.5, **options})


def make_icq(discrete=True, **options):
    return ICQ(**{**_together(discrete), "temperature": 0.5, "target_temperature": 2.0, **options})


def make_macql(discrete=True, **options):
    return MACQL(**{**_conservative(discrete), **options})


def make_cfcql(discrete=True, **options):
    return CFCQL(**{**_conservative(discrete), **options})


def make_matd3bc(discrete=True, **options):
    return MATD3BC(**{**_actors(discrete), **options})


def make_mabcq(discrete=True, **options):
    few = {"target_candidates": 3, "acting_candidates": 4, "perturbation_bound": 0.2}
    return MABCQ(**{**_actors(discrete), **few, **options})


def make_omar(discrete=False, **options):
    few = {"n_proposals": 2, "proposal_steps": 8, "search_samples": 4, "search_iterations": 2}
    return OMAR(**{**_actors(discrete), **few, **options})


def make_fql(discrete=True, **options):
    return FQL(**{**_one_step(discrete), "flow_steps": 2, **options})


def make_mac_flow(discrete=True, **options):
    return MACFlow(**{**_one_step(discrete), "flow_steps": 2, **options})


def make_om2p(discrete=True, **options):
    return OM2P(**{**_one_step(discrete), **options})


def make_diffusion_bc(discrete=True, **options):
    few = {"levels": 4, "sampling_steps": None, "steps_per_update": None, "hidden_dims": (8, 8), "learning_rate": 1e-2}
    return DiffusionBC(**{**DIMS, "discrete": discrete, **few, "ema_rate": 0.1, **options})


def make_diffusion_ql(discrete=True, **options):
    few = {"levels": 2, "acting_candidates": 3, "windows_per_update": None, "steps_per_update": None, "ema_rate": 0.1}
    return DiffusionQL(**{**_actors(discrete), **few, **options})


def make_flow_bc(discrete=True, **options):
    return FlowBC(**{**_cloning(discrete), "sampling_steps": 2, **options})


def make_meanflow_bc(discrete=True, **options):
    return MeanFlowBC(**{**_cloning(discrete), **options})


def make_cfgrl(discrete=True, **options):
    few = {"label": "sign", "sampling_steps": 2, "condition_dropout": 0.25, "ema_rate": 0.1}
    return CFGRL(**{**_staged(discrete), **few, **options})


def make_madiff(discrete=True, **options):
    return MADiff(**{**_planning(discrete), **options})


def make_dof_trajectory(discrete=True, **options):
    return DoFTrajectory(**{**_planning(discrete), **options})


def make_dof_policy(discrete=True, **options):
    few = {"levels": 3, "steps_per_update": None, "windows_per_update": None, "ema_rate": 0.1}
    return DoFPolicy(**{**_actors(discrete), **few, **options})


def make_vgm2p(discrete=True, **options):
    defaults = {
        "label": "sign",
        "label_threshold": 0.0,
        "guidance_scale": 2.0,
        "guidance_maximum": 4.0,
        "guidance_mix": 0.25,
        "condition_dropout": 0.25,
        "flow_ratio": 0.5,
        "min_time": 0.05,
        "adaptive_exponent": 0.0,
        "ema_rate": 0.1,
    }
    return VGM2P(**{**_staged(discrete), **defaults, **options})


def _conservative(discrete):
    return {
        **DIMS,
        "discrete": discrete,
        "hidden_dims": (8, 8),
        "n_proposals": 3,
        "penalty_steps": None,
        "discount": 0.9,
        "trace_decay": 0.5,
        "target_rate": 0.1,
        "critic_learning_rate": 1e-2,
        "learning_rate": 1e-2,
    }


def _staged(discrete):
    return {
        **DIMS,
        "discrete": discrete,
        "credit": "joint",
        "credit_updates": 3,
        "credit_hidden_dims": (8,),
        "critic_updates": 2,
        "critic": "value",
        "discount": 0.9,
        "trace_decay": 0.5,
        "critic_hidden_dims": (8,),
        "critic_learning_rate": 1e-2,
        "critic_target_rate": 0.1,
        "steps_per_update": None,
        "hidden_dims": (8, 8),
        "learning_rate": 1e-2,
    }


def _cloning(discrete):
    """Small sizes for flows that clone and nothing else."""
    small = {"hidden_dims": (8, 8), "learning_rate": 1e-2, "ema_rate": 0.1, "steps_per_update": None}
    return {**DIMS, "discrete": discrete, **small}


def _together(discrete):
    """Small sizes for algorithms that train critic and policy together."""
    return {
        **DIMS,
        "discrete": discrete,
        "discount": 0.9,
        "critic_hidden_dims": (8,),
        "critic_learning_rate": 1e-2,
        "critic_target_rate": 0.1,
        "hidden_dims": (8, 8),
        "learning_rate": 1e-2,
    }


def _planning(discrete):
    """Small sizes for algorithms that act by imagining."""
    return {
        **DIMS,
        "discrete": discrete,
        "standardise": False,
        "return_range": (-2.0, 3.0),
        "change_scale": 0.5,
        "horizon": 3,
        "levels": 12,
        "sampling_steps": 3,
        "windows_per_update": None,
        "width": 16,
        "n_blocks": 1,
        "hidden_dims": (8,),
        "ema_rate": 0.1,
        "learning_rate": 1e-2,
    }


def _one_step(discrete):
    """Small sizes for one-step actors that climb critics of their own."""
    return {**_actors(discrete), "steps_per_update": None, "normalise_q": False}


def _actors(discrete):
    """Small sizes for algorithms whose actors follow a critic."""
    return {
        **DIMS,
        "discrete": discrete,
        "discount": 0.9,
        "critic_hidden_dims": (8,),
        "critic_learning_rate": 1e-2,
        "target_rate": 0.1,
        "hidden_dims": (8, 8),
        "learning_rate": 1e-2,
    }


def start_policy(module, batch=None):
    """Puts an algorithm into its policy's stage, with the statistics of a batch."""
    batch = random_batch(module.discrete) if batch is None else batch
    signal = batch.credits if module.local_credit is not None else batch.advantages
    module.finish_critic(batch.advantages)
    module.start_policy(signal[batch.valid])
    return module


def train(module, batch, updates, learning_rate=None, seed=0):
    """Full-batch training without Lightning: optimiser, lagged copies, and a step size that falls to 5 %."""
    optimizer = module.configure_optimizers()
    rates = [learning_rate or group["lr"] for group in optimizer.param_groups]
    for update in range(updates):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - 0.95 * update / updates)
        loss = sum(module.losses(batch, generator(seed + update)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for source, target, rate in module.target_pairs():
            polyak_update(source, target, rate)
    return module


def randomise(module, seed=0):
    """Standard normal weights everywhere, gains and biases included: large answers, and no term hides behind a zero."""
    source = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=parameter.dtype))
    return module


def randomise_parts(module, *names):
    """The module with networks that all differ: each of the named ones has standard normal weights of its own."""
    for seed, name in enumerate(names):
        randomise(module.get_submodule(name), seed)
    return module


def moved_by(loss, module):
    """Names of the parameters that the gradient of a loss would change."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, retain_graph=True)
    pairs = zip(named, gradients, strict=True)
    return {name for (name, _), gradient in pairs if gradient is not None and bool((gradient != 0).any())}


def parts_moved_by(loss, module, depth=1):
    """Names of the submodules that the gradient of a loss would change, cut after some dots."""
    return {".".join(name.split(".")[:depth]) for name in moved_by(loss, module)}
