"""The machine that a grid was run on."""

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch


@cache
def hardware() -> dict[str, Any]:
    """The machine."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "torch_threads": torch.get_num_threads(),
        "gpus": gpus,
        "system": platform.platform(),
    }


def usable_cores() -> int:
    """How many cores this process may use; ``taskset`` and Slurm lower the number."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
