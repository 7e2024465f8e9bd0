"""Offline multi-agent algorithms, one file each; the class path in a configuration names the algorithm."""

from lightning_modules.advantage_module import AdvantageModule
from lightning_modules.awr import AWR
from lightning_modules.base import OfflineModule
from lightning_modules.bc import BC
from lightning_modules.vgm2p import VGM2P

__all__ = ["AWR", "BC", "VGM2P", "AdvantageModule", "OfflineModule"]
