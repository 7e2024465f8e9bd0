"""Which code made something: versions of the packages that decide numbers, and the commit."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

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


def _output(*command: str) -> str | None:
    """What a command prints; None if it does not exist or fails."""
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
