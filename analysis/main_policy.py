"""Which row of an evaluation stands for a model."""

from collections.abc import Mapping, Sequence
from typing import Any

#: Rows of an evaluation that act without chance.
WITHOUT_CHANCE = ("policy, mode", "policy, zero noise")


def main_policy(names: Sequence[str], options: Mapping[str, Any], asked: str | None = None) -> str | None:
    """Which row of an evaluation is the policy as the model acts unless asked otherwise.

    Args:
        names: Names of the rows, as in evaluation.csv.
        options: The model's options; they say how it acts.
        asked: A row that counts if there is one of that name.

    Returns:
        ``asked``, else ``policy``, else the row of the configured guidance scale or kind of noise, else the first one
        whose name begins with ``policy``; None if there is none.
    """
    scale = options.get("guidance_scale")
    wanted = [asked, "policy"]
    wanted += [f"policy, w = {scale:g}"] if isinstance(scale, int | float) else []
    wanted += ["policy, shared noise"] if options.get("shared_noise") else []
    wanted += ["policy, zero noise"] if options.get("noise") == "zero" else []
    wanted += [name for name in names if name.startswith("policy")]
    return next((name for name in wanted if name in names), None)
