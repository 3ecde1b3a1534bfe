"""The options by which a task measures what the model does not know. Light to import."""

from __future__ import annotations

from typing import Literal

from ..core.options import TaskOptions, option


class UncertaintyOptions(TaskOptions):
    """Over which runs maps and predictions are compared."""

    uncertainty: Literal["none", "flips", "dropout", "folds", "seeds"] = option(
        "none",
        "Uncertainty",
        "Explain again and map where the results differ: over flips of the scan, over Monte-Carlo dropout, over the "
        "folds of an nnU-Net training, or over random seeds of the method. The time that it takes is estimated first.",
        group="Uncertainty",
    )
    uncertainty_runs: int = option(
        4,
        "Maximum runs",
        "Of the uncertainty: how many more times the scan is explained; each takes as long as the explanation.",
        ge=2,
        le=64,
        group="Uncertainty",
    )
