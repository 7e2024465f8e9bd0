"""Offline multi-agent algorithms, one file each; the class path in a configuration names the algorithm."""

from lightning_modules.advantage_module import AdvantageModule
from lightning_modules.awac import AWAC
from lightning_modules.awr import AWR
from lightning_modules.base import OfflineModule
from lightning_modules.bc import BC
from lightning_modules.cfcql import CFCQL
from lightning_modules.cfgrl import CFGRL
from lightning_modules.diffusion_bc import DiffusionBC
from lightning_modules.diffusion_ql import DiffusionQL
from lightning_modules.dof import DoFPolicy, DoFTrajectory
from lightning_modules.flow_bc import FlowBC
from lightning_modules.fql import FQL
from lightning_modules.icq import ICQ
from lightning_modules.iql import IQL
from lightning_modules.ma_bcq import MABCQ
from lightning_modules.ma_cql import MACQL
from lightning_modules.ma_td3_bc import MATD3BC
from lightning_modules.mac_flow import MACFlow
from lightning_modules.madiff import MADiff
from lightning_modules.meanflow_bc import MeanFlowBC
from lightning_modules.om2p import OM2P
from lightning_modules.omar import OMAR
from lightning_modules.omiga import OMIGA
from lightning_modules.vgm2p import VGM2P

__all__ = [
    "AWAC",
    "AWR",
    "BC",
    "CFCQL",
    "CFGRL",
    "FQL",
    "ICQ",
    "IQL",
    "MABCQ",
    "MACQL",
    "MATD3BC",
    "OM2P",
    "OMAR",
    "OMIGA",
    "VGM2P",
    "AdvantageModule",
    "DiffusionBC",
    "DiffusionQL",
    "DoFPolicy",
    "DoFTrajectory",
    "FlowBC",
    "MACFlow",
    "MADiff",
    "MeanFlowBC",
    "OfflineModule",
]
