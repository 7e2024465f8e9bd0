"""Every algorithm, small, with the options that change a network: what the contract suite runs over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_modules.advantage_module import Stage
from lightning_modules.base import OfflineModule
from tests.lightning_modules.batches import make_awac, make_awr, make_bc, make_icq, make_iql, make_omiga, make_vgm2p

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
ICQ_MOVES = {**HEAD_MOVES, "q": {"q.encoder", "q.mlp", "mixer.weight"}}
FLOW_MOVES = {"policy": {"velocity.encoder", "velocity.mlp"}}


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


def vgm2p(**options: Any) -> Case:
    """VGM2P with options."""
    return in_stages(make_vgm2p, FLOW_MOVES, **options)


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
    "VGM2P": vgm2p(),
    "VGM2P, local": vgm2p(credit="local"),
    "VGM2P, vdn": vgm2p(critic="expectile", mixer="vdn", advantage_estimate="q"),
    "VGM2P, qmix": vgm2p(critic="expectile", mixer="qmix", n_critics=1),
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
