"""Offline multi-agent algorithms, one file each; the class path in a configuration names the algorithm."""

from lightning_modules.advantage_module import AdvantageModule
from lightning_modules.awac import AWAC
from lightning_modules.awr import AWR
from lightning_modules.base import OfflineModule
from lightning_modules.bc import BC
from lightning_modules.cfcql import CFCQL
from lightning_modules.icq import ICQ
from lightning_modules.iql import IQL
from lightning_modules.ma_bcq import MABCQ
from lightning_modules.ma_cql import MACQL
from lightning_modules.ma_td3_bc import MATD3BC
from lightning_modules.omar import OMAR
from lightning_modules.omiga import OMIGA
from lightning_modules.vgm2p import VGM2P

__all__ = [
    "AWAC",
    "AWR",
    "BC",
    "CFCQL",
    "ICQ",
    "IQL",
    "MABCQ",
    "MACQL",
    "MATD3BC",
    "OMAR",
    "OMIGA",
    "VGM2P",
    "AdvantageModule",
    "OfflineModule",
]
