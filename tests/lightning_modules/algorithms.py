"""Every algorithm, small, with the options that change a network: what the contract suite runs over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_modules.advantage_module import Stage
from lightning_modules.base import OfflineModule
from tests.lightning_modules.batches import (
    make_awac,
    make_awr,
    make_bc,
    make_cfcql,
    make_cfgrl,
    make_diffusion_bc,
    make_diffusion_ql,
    make_dof_policy,
    make_dof_trajectory,
    make_flow_bc,
    make_fql,
    make_icq,
    make_iql,
    make_mabcq,
    make_mac_flow,
    make_macql,
    make_madiff,
    make_matd3bc,
    make_meanflow_bc,
    make_om2p,
    make_omar,
    make_omiga,
    make_vgm2p,
)

Moves = Mapping[Stage, Mapping[str, set[str]]]

BOTH = (True, False)
CRITIC_MOVES = {"q": {"global_critic.q", "global_critic.mixer"}, "value": {"global_critic.value"}}
CREDIT_MOVES = {
    "credit_baseline": {"local_credit.baseline"},
    "credit": {"local_credit.action_value"},
    "credit_behaviour": {"local_credit.behaviour"},
}
HEAD_MOVES = {"policy": {"head.encoder", "head.mlp", "head.log_std"}}
IN_SAMPLE_MOVES = {**HEAD_MOVES, "q": {"critic.q", "critic.mixer"}, "value": {"critic.value"}}
AWAC_MOVES = {**HEAD_MOVES, "q": {"q.members"}}
CONSERVATIVE_MOVES = {
    "q": {"learner.q", "learner.critic"},
    "policy": {"learner.actor"},
    "behaviour": {"behaviour.encoder", "behaviour.mlp", "behaviour.log_std"},
}
ACTOR_MOVES = {"q": {"critic.members"}, "policy": {"head.encoder", "head.mlp"}}
CONSTRAINED_MOVES = {
    "q": {"learner.q", "learner.critic", "learner.mixer"},
    "behaviour": {"head.encoder", "head.mlp", "learner.vae"},
    "policy": {"learner.perturbation"},
}
ICQ_MOVES = {**HEAD_MOVES, "q": {"q.encoder", "q.mlp", "mixer.weight"}}
DISTILLED_MOVES = {
    "q": {"values.critic"},
    "teacher": {"distillation.teacher"},
    "policy": {"distillation.actor"},
}
PLANNING_MOVES = {"trajectory": {"model.denoiser"}, "inverse": {"model.inverse"}}
MEAN_FLOW_MOVES = {"q": {"values.critic"}, "policy": {"actor.velocity"}}
FLOW_MOVES = {"policy": {"velocity.encoder", "velocity.mlp"}}
DENOISER_MOVES = {"policy": {"denoiser.encoder", "denoiser.mlp"}}


@dataclass(frozen=True)
class Case:
    """One algorithm under test.

    Attributes:
        build: Makes it: ``build(discrete, **options)``.
        moves: By stage and loss, the submodules (two names deep) that the loss may move; algorithms of one stage have
            ``Stage.POLICY`` only.
        options: Options of the constructor.
        kinds: Values of ``discrete`` that it supports.
        refused: Part of the message with which the others are refused.
    """

    build: Callable[..., OfflineModule]
    moves: Moves
    options: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[bool, ...] = BOTH
    refused: str = ""

    def make(self, discrete: bool) -> OfflineModule:
        """A new one."""
        return self.build(discrete, **self.options)


def in_stages(build: Callable[..., OfflineModule], policy: Mapping[str, set[str]], **options: Any) -> Case:
    """An algorithm that starts from the global critic."""
    return Case(build, {Stage.CRITIC: CRITIC_MOVES, Stage.CREDIT: CREDIT_MOVES, Stage.POLICY: policy}, options)


def weighted(build: Callable[..., OfflineModule], moves: Mapping[str, set[str]], **options: Any) -> Case:
    """An algorithm that trains its critic and a weighted clone together."""
    return Case(build, {Stage.POLICY: moves}, options)


def awr(**options: Any) -> Case:
    """AWR with options."""
    return in_stages(make_awr, HEAD_MOVES, **options)


def cloned(build: Callable[..., OfflineModule], **options: Any) -> Case:
    """FlowBC or MeanFlowBC with options."""
    return Case(build, {Stage.POLICY: FLOW_MOVES}, options)


def cfgrl(**options: Any) -> Case:
    """CFGRL with options."""
    return in_stages(make_cfgrl, FLOW_MOVES, **options)


def vgm2p(**options: Any) -> Case:
    """VGM2P with options."""
    return in_stages(make_vgm2p, FLOW_MOVES, **options)


def conservative(build: Callable[..., OfflineModule], kinds: tuple[bool, ...] = BOTH, **options: Any) -> Case:
    """MACQL or CFCQL with options; some make sense for choices only."""
    refused = "penalty must be 'joint' for continuous actions"
    return Case(build, {Stage.POLICY: CONSERVATIVE_MOVES}, options, kinds, refused)


def actors(build: Callable[..., OfflineModule], kinds: tuple[bool, ...] = BOTH, **options: Any) -> Case:
    """MATD3BC or OMAR with options."""
    return Case(build, {Stage.POLICY: ACTOR_MOVES}, options, kinds, "OMAR searches continuous actions")


def mabcq(**options: Any) -> Case:
    """MABCQ with options."""
    return Case(make_mabcq, {Stage.POLICY: CONSTRAINED_MOVES}, options)


def distilled(build: Callable[..., OfflineModule], **options: Any) -> Case:
    """FQL or MACFlow with options."""
    return Case(build, {Stage.POLICY: DISTILLED_MOVES}, options)


def planner(build: Callable[..., OfflineModule], **options: Any) -> Case:
    """MADiff or DoFTrajectory with options."""
    return Case(build, {Stage.POLICY: PLANNING_MOVES}, options)


def dof_policy(**options: Any) -> Case:
    """DoFPolicy with options."""
    moves = {"policy": {*DENOISER_MOVES["policy"], "denoiser.factors"}, "q": {"values.critic"}}
    return Case(make_dof_policy, {Stage.POLICY: moves}, options)


def om2p(kinds: tuple[bool, ...] = BOTH, **options: Any) -> Case:
    """OM2P with options; its published form is for continuous actions."""
    return Case(make_om2p, {Stage.POLICY: MEAN_FLOW_MOVES}, options, kinds, "OM2P as published")


def diffusion_bc(**options: Any) -> Case:
    """DiffusionBC with options."""
    return Case(make_diffusion_bc, {Stage.POLICY: DENOISER_MOVES}, options)


def diffusion_ql(**options: Any) -> Case:
    """DiffusionQL with options."""
    return Case(make_diffusion_ql, {Stage.POLICY: {**DENOISER_MOVES, "q": {"values.critic"}}}, options)


ALGORITHMS: dict[str, Case] = {
    "BC": Case(make_bc, {Stage.POLICY: HEAD_MOVES}),
    "BC, gru": Case(make_bc, {Stage.POLICY: HEAD_MOVES}, {"encoder": "gru", "memory_dim": 6}),
    "AWR": awr(),
    "AWR, local": awr(credit="local"),
    "AWR, expectile": awr(critic="expectile"),
    "AWR, omiga": awr(critic="omiga"),
    "AWR, gru": awr(credit="local", encoder="gru", memory_dim=6),
    "IQL": weighted(make_iql, IN_SAMPLE_MOVES),
    "IQL, vdn": weighted(make_iql, IN_SAMPLE_MOVES, mixer="vdn"),
    "IQL, qmix": weighted(make_iql, IN_SAMPLE_MOVES, mixer="qmix", n_critics=1),
    "IQL, gru": weighted(make_iql, IN_SAMPLE_MOVES, encoder="gru", memory_dim=6),
    "AWAC": weighted(make_awac, AWAC_MOVES),
    "AWAC, vdn": weighted(make_awac, AWAC_MOVES, mixer="vdn", scale_advantages=False),
    "AWAC, qmix": weighted(make_awac, AWAC_MOVES, mixer="qmix", n_critics=1),
    "AWAC, gru": weighted(make_awac, AWAC_MOVES, mixer="vdn", encoder="gru", memory_dim=6),
    "OMIGA": weighted(make_omiga, IN_SAMPLE_MOVES),
    "OMIGA, gru": weighted(make_omiga, IN_SAMPLE_MOVES, encoder="gru", memory_dim=6),
    "ICQ": weighted(make_icq, ICQ_MOVES),
    "ICQ, gru": weighted(make_icq, ICQ_MOVES, encoder="gru", memory_dim=6),
    "MACQL": conservative(make_macql),
    "MACQL, vdn": conservative(make_macql, mixer="vdn", others="policies", penalty_steps=5),
    "MACQL, qtran": conservative(make_macql, mixer="qtran"),
    "MACQL, local": conservative(make_macql, (True,), mixer="qmix", penalty="local"),
    "MACQL, alone": conservative(make_macql, (True,), mixer="none", penalty="local"),
    "MACQL, gru": conservative(make_macql, encoder="gru", memory_dim=6),
    "MACQL, gru, qtran": conservative(make_macql, mixer="qtran", encoder="gru", memory_dim=6),
    "CFCQL": conservative(make_cfcql),
    "CFCQL, vdn": conservative(make_cfcql, mixer="vdn", weight_temperature=0.0, others="policies"),
    "CFCQL, one agent": conservative(make_cfcql, weight_temperature=float("inf"), penalty_steps=5),
    "CFCQL, gru": conservative(make_cfcql, encoder="gru", memory_dim=6),
    "MATD3BC": actors(make_matd3bc),
    "MATD3BC, policies": actors(make_matd3bc, others="policies", target_noise=0.0, gumbel_temperature=0.5),
    "MATD3BC, local": actors(make_matd3bc, critic="local", trace_decay=0.5),
    "MATD3BC, gru": actors(make_matd3bc, encoder="gru", memory_dim=6),
    "MATD3BC, gru, local": actors(make_matd3bc, critic="local", encoder="gru", memory_dim=6),
    "MABCQ": mabcq(),
    "MABCQ, vdn": mabcq(mixer="vdn", constrain_acting=False),
    "MABCQ, none": mabcq(mixer="none", trace_decay=0.5, windows_per_update=16),
    "MABCQ, gru": mabcq(encoder="gru", memory_dim=6),
    "OMAR": actors(make_omar, (False,)),
    "OMAR, elites": actors(make_omar, (False,), search_elites=2, proposal_steps=None, trace_decay=0.5),
    "OMAR, gru": actors(make_omar, (False,), encoder="gru", memory_dim=6),
    "FQL": distilled(make_fql),
    "FQL, straight through": distilled(make_fql, discrete_q="straight_through", aggregate="min", shared_noise=True),
    "FQL, gru": distilled(make_fql, encoder="gru", memory_dim=6),
    "MACFlow": distilled(make_mac_flow),
    "MACFlow, local": distilled(make_mac_flow, teacher="local", discrete_q="original", noise="zero"),
    "MACFlow, gru": distilled(make_mac_flow, encoder="gru", memory_dim=6, shared_noise=True),
    "OM2P": om2p(),
    "OM2P, published": om2p((False,), identity="published", search_weight=0.5),
    "OM2P, endpoint": om2p(output="endpoint", shared_noise=True, time_distribution="logit_normal"),
    "OM2P, gru": om2p(encoder="gru", memory_dim=6, discrete_q="straight_through", derivative="zero"),
    "FlowBC": cloned(make_flow_bc),
    "FlowBC, velocity": cloned(make_flow_bc, output="velocity", shared_noise=True),
    "FlowBC, gru": cloned(make_flow_bc, encoder="gru", memory_dim=6),
    "MeanFlowBC": cloned(make_meanflow_bc),
    "MeanFlowBC, velocity": cloned(make_meanflow_bc, output="velocity", objective="meanflow", shared_noise=True),
    "MeanFlowBC, gru": cloned(make_meanflow_bc, encoder="gru", memory_dim=6, sampling_steps=2),
    "CFGRL": cfgrl(),
    "CFGRL, local": cfgrl(credit="local", output="velocity", label="continuous", shared_noise=True),
    "CFGRL, gru": cfgrl(credit="local", critic="expectile", encoder="gru", memory_dim=6),
    "DiffusionBC": diffusion_bc(),
    "DiffusionBC, ddim": diffusion_bc(sampler="ddim", eta=0.5, sampling_steps=2, schedule="linear", levels=40),
    "DiffusionBC, gru": diffusion_bc(encoder="gru", memory_dim=6, sampler="dpm_solver", shared_noise=True),
    "DiffusionQL": diffusion_ql(),
    "DiffusionQL, one candidate": diffusion_ql(acting_candidates=1, target_candidates=2, trace_decay=0.5, noise="zero"),
    "DiffusionQL, gru": diffusion_ql(encoder="gru", memory_dim=6, shared_noise=True),
    "EDP": diffusion_ql(action_approximation=True, sampler="dpm_solver", levels=6, sampling_steps=3),
    "MADiff": planner(make_madiff),
    "MADiff, centralised": planner(make_madiff, execution="centralised", history=1, horizon=2, guidance_scale=0.0),
    "MADiff, shared": planner(make_madiff, shared_noise=True, history=1, horizon=4, schedule="vp", bound=None),
    "DoFTrajectory": planner(make_dof_trajectory),
    "DoFTrajectory, concat": planner(make_dof_trajectory, noise="concat", shared_noise=True, guidance_scale=1.0),
    "DoFPolicy": dof_policy(),
    "DoFPolicy, w_concat": dof_policy(noise="w_concat", q_gradient=False, acting_candidates=3, sampling_steps=2),
    "DoFPolicy, gru": dof_policy(encoder="gru", memory_dim=6, shared_noise=True),
    "VGM2P": vgm2p(),
    "VGM2P, local": vgm2p(credit="local"),
    "VGM2P, vdn": vgm2p(critic="expectile", mixer="vdn", advantage_estimate="q"),
    "VGM2P, qmix": vgm2p(critic="expectile", mixer="qmix", n_critics=1),
    "VGM2P, qtran": vgm2p(critic="expectile", mixer="qtran"),
    "VGM2P, omiga": vgm2p(critic="omiga", credit="local", advantage_estimate="q"),
    "VGM2P, velocity": vgm2p(output="velocity", objective="meanflow", adaptive_exponent=1.0),
    "VGM2P, train": vgm2p(guidance_placement="train", label="continuous"),
    "VGM2P, test": vgm2p(guidance_placement="test", label="quantile", sampling_steps=2),
    "VGM2P, shared": vgm2p(shared_noise=True, time_distribution="logit_normal"),
    "VGM2P, zero": vgm2p(noise="zero", flow_ratio=1.0),
    "VGM2P, gru": vgm2p(credit="local", encoder="gru", memory_dim=6),
    "VGM2P, gru, omiga": vgm2p(critic="omiga", credit="local", encoder="gru", memory_dim=6),
    "VGM2P, gru, centralised": vgm2p(critic="expectile", advantage_estimate="q", encoder="gru", memory_dim=6),
}

#: One row per algorithm and kind of action that it supports, for ``pytest.mark.parametrize(("name", "discrete"), …)``.
SUPPORTED = [(name, discrete) for name, case in ALGORITHMS.items() for discrete in case.kinds]
REFUSED = [(name, discrete) for name, case in ALGORITHMS.items() for discrete in BOTH if discrete not in case.kinds]
