"""What happens around training: the switch of stages, rollouts, diagnostics, checkpoints, progress, records."""

from callbacks.checkpoints import LastCheckpoint
from callbacks.predictions import PredictionWriter
from callbacks.progress import UpdateProgressBar
from callbacks.rollout import RolloutEvaluation
from callbacks.run_metadata import RunMetadata
from callbacks.stages import StageSwitch
from callbacks.value_diagnostics import ValueDiagnostics
from callbacks.videos import Videos

__all__ = [
    "LastCheckpoint",
    "PredictionWriter",
    "RolloutEvaluation",
    "RunMetadata",
    "StageSwitch",
    "UpdateProgressBar",
    "ValueDiagnostics",
    "Videos",
]
