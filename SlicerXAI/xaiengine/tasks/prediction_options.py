"""Options that the tasks about a prediction share: what of the model's output is explained, and in which slices.

A task's own options follow those of its base classes, the last base first: its inputs, then these, then the rest.
"""

from __future__ import annotations

from typing import Any, Literal

from ..core.options import TaskOptions, option

Score = Literal["logit", "probability", "log_probability"]
MODEL_TEXT = "A classifier or regressor: a MONAI bundle, or the name of a shipped model."


SERIES_TEXT = "Which series of a DICOM folder, by its series instance UID. Needed only where a folder holds several."
CHANNELS_TEXT = "Files of the model's further input channels (MR sequences, PET), in its order."


class ExplainedOutputOptions(TaskOptions):
    """Which number of the model's output is explained, and for which slices of a scan."""

    target: str = option(
        "", "Target", "Output to explain, by name or number; the model's own or the predicted one if empty."
    )
    against: str = option("", "Against", "Explain the difference to this output. May be empty.")
    top_k: int = option(1, "Top k", "Explain the sum of the k highest classes.", ge=1, le=50, advanced=True)
    score: Score = option("logit", "Score", "What of a class is explained.", advanced=True)
    slices: str = option(
        "confident",
        "Slices",
        "For models of slices: confident (those called the target), highest (one), all, or a slice number.",
    )
    most_slices: int = option(32, "Maximum slices", "Confident slices explained at most.", ge=1, advanced=True)


def series_option() -> Any:
    """Which DICOM series is read, wherever a DICOM folder is taken."""
    return option("", "Series", SERIES_TEXT, advanced=True)


def channels_option() -> Any:
    """The files of further input channels."""
    return option([], "Additional channels", CHANNELS_TEXT)


def baseline_value() -> float:
    """The option beside a choice of baselines that holds a constant one."""
    text = "Of the constant baseline, in the network's input values."
    return option(0.0, "Baseline value", text, group="Baseline")
