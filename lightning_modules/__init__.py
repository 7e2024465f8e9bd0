"""Offline multi-agent algorithms, one file each; the class path in a configuration names the algorithm."""

from lightning_modules.advantage_module import AdvantageModule
from lightning_modules.awac import AWAC
from lightning_modules.awr import AWR
from lightning_modules.base import OfflineModule
from lightning_modules.bc import BC
from lightning_modules.icq import ICQ
from lightning_modules.iql import IQL
from lightning_modules.omiga import OMIGA
from lightning_modules.vgm2p import VGM2P

__all__ = ["AWAC", "AWR", "BC", "ICQ", "IQL", "OMIGA", "VGM2P", "AdvantageModule", "OfflineModule"]
