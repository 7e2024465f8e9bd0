"""Who may import whom: the table of CONTRIBUTING.md, compared with the imports of every file."""

import ast
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "datamodules",
    "environments",
    "lightning_modules",
    "callbacks",
    "analysis",
    "grid",
    "online",
    "whole_files",
    "data_cli",
    "record_cli",
    "benchmark_cli",
    "report_cli",
    "vgm2p_cli",
)
MODULES = sorted(
    path for package in PACKAGES for path in [*ROOT.glob(f"{package}.py"), *ROOT.glob(f"{package}/**/*.py")]
)

FOUNDATION = (
    "base",
    "advantage_module",
    "global_critic",
    "local_credit",
    "joint_steps",
    "q_learning",
    "actor_critic",
    "candidate_learning",
    "local_value_learning",
    "flow_distillation",
    "one_step_module",
    "distilling_module",
    "flow_regression",
    "flow_cloning",
    "conditional_cloning",
    "trajectory_diffusion",
    "planning_module",
    "climbing_diffusion",
    "climbing_module",
    "denoising",
)
# Module (the first pattern that fits) -> what of ours it may import.
OURS: dict[str, tuple[str, ...]] = {
    "whole_files": (),
    "datamodules.batch": (),
    "datamodules.finding": ("datamodules*", "environments.recording"),
    "datamodules*": ("datamodules*", "whole_files"),
    "environments*": ("environments*",),
    "lightning_modules.flows*": ("lightning_modules.flows*",),
    "lightning_modules.losses*": ("lightning_modules.losses*",),
    "lightning_modules.networks.*_policies": ("lightning_modules.networks*", "lightning_modules.flows*"),
    "lightning_modules.networks.denoiser": ("lightning_modules.networks*", "lightning_modules.flows*"),
    "lightning_modules.networks*": ("lightning_modules.networks*",),
    "lightning_modules": ("lightning_modules.*",),
    "lightning_modules.*": (
        "datamodules.batch",
        *(f"lightning_modules.{part}" for part in (*FOUNDATION, "flows*", "losses*", "networks*")),
    ),
    "callbacks*": (
        "callbacks*",
        "whole_files",
        "environments*",
        "analysis.main_policy",
        *(f"datamodules.{part}" for part in ("batch", "advantages", "offline")),
        *(f"lightning_modules.{part}" for part in (*FOUNDATION, "losses*", "networks.policies")),
    ),
    "analysis*": ("analysis*", "whole_files"),
    "grid*": (
        "grid*",
        "whole_files",
        "analysis.main_policy",
        *(f"callbacks.{part}" for part in ("run_directory", "code_version", "grid_cell")),
        "datamodules.catalogue",
        "datamodules.vaults",
    ),
    "online.figures": ("online*", "environments*", "datamodules*", "whole_files"),
    "online*": ("online*", "environments*"),
    "data_cli": ("*",),
    "record_cli": ("*",),
    "benchmark_cli": ("*",),
    "report_cli": ("*",),
    "vgm2p_cli": ("*",),
}
# Package of somebody else -> the only modules of ours that may import it.
THEIRS: dict[str, tuple[str, ...]] = {
    "torch": ("lightning_modules*", "datamodules*", "callbacks*", "grid*", "online*", "record_cli", "vgm2p_cli"),
    "lightning": ("lightning_modules.*", "datamodules*", "callbacks*", "vgm2p_cli"),
    "jax": ("environments*",),
    "jaxmarl": ("environments*",),
    "mpe2": ("environments*",),
    "pettingzoo": ("environments*",),
    "flashbax": ("environments.vault_writer",),
    "tensorstore": ("datamodules.vaults",),
    "huggingface_hub": ("datamodules.download",),
    "safetensors": ("environments.learned",),
    "torchmetrics": ("callbacks*",),
    "wandb": ("callbacks*", "analysis.wandb_runs", "analysis.wandb_dashboard"),
    "wandb_workspaces": ("analysis.wandb_panels",),
    "PIL": ("environments.drawing",),
    "av": ("callbacks.videos",),
    "pandas": ("analysis*",),
    "matplotlib": ("analysis*",),
    "jinja2": ("analysis.report.pages",),
    "pytorch_lightning": (),
}
TORCH_ONLY = ("lightning_modules.flows*", "lightning_modules.losses*", "lightning_modules.networks*")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports anywhere; ``from package import module`` counts as the module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in names if is_module(name)}
            found |= modules if modules == names else modules | {str(node.module)}
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_its_layer(path: Path):
    name, imports = name_of(path), imports_of(path)
    allowed = next(patterns for pattern, patterns in OURS.items() if fnmatchcase(name, pattern))
    ours = {other for other in imports if other.partition(".")[0] in PACKAGES}
    assert not {other for other in ours if not fits(other, allowed)}, f"{name} may import {allowed} of ours"
    outside = {other.partition(".")[0] for other in imports - ours}
    assert not {other for other in outside if other in THEIRS and not fits(name, THEIRS[other])}
    assert "tests" not in outside and "notebooks" not in outside
    assert not any("TYPE_CHECKING" in imported for imported in names_imported(path)), "a cycle hides behind it"


@pytest.mark.parametrize("path", [path for path in MODULES if fits(name_of(path), TORCH_ONLY)], ids=name_of)
def test_the_mathematics_need_torch_only(path: Path):
    outside = {name.partition(".")[0] for name in imports_of(path)} - set(PACKAGES)
    allowed = {"torch", "scipy"} if path.name == "coupling.py" else {"torch"}  # scipy solves the assignment problem
    assert outside - set(sys.stdlib_module_names) <= allowed


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=name_of)
def test_init_files_only_re_export(path: Path):
    kinds = {type(node) for node in ast.parse(path.read_text()).body}
    assert kinds <= {ast.Import, ast.ImportFrom, ast.Assign, ast.Expr}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_is_named_for_nothing(path: Path):
    assert path.stem not in {"utils", "helpers", "common", "misc"}


def test_every_test_directory_is_a_package():
    assert not [
        path for path in (ROOT / "tests").rglob("*") if path.is_dir() and has_tests(path) and not is_package(path)
    ]


def has_tests(path: Path) -> bool:
    return any(path.glob("*.py"))


def is_package(path: Path) -> bool:
    return (path / "__init__.py").is_file()


def names_imported(path: Path) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in nodes for alias in node.names}
