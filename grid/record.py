"""What a grid was run with: code, packages and machine."""

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    *("torch", "lightning", "numpy", "scipy", "jax", "jaxmarl", "mpe2", "pettingzoo", "gymnasium"),
    *("gymnasium-robotics", "mujoco", "rware", "flashbax", "wandb", "vgm2p"),
)
HERE = Path(__file__).parent


def versions() -> dict[str, str]:
    """Versions of Python and of those packages that decide numbers and are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def code_version() -> dict[str, Any]:
    """The commit that this code is at, and whether files differ from it; both None outside a git clone."""
    commit = _output("git", "rev-parse", "HEAD")
    changes = _output("git", "status", "--porcelain")
    return {"commit": commit, "changed_files": None if commit is None or changes is None else bool(changes)}


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


def _output(*command: str) -> str | None:
    """What a command prints; None if it does not exist or fails."""
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
