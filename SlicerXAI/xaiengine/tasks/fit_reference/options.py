"""Options of the task fit-reference. Light to import."""

from __future__ import annotations

from typing import Literal

from ...core.options import TaskOptions, given, option


class FitReferenceOptions(TaskOptions):
    scans: str = given("folder", "Scans", "Folder of scans (.nrrd, .nii.gz, .mha) or of DICOM series folders.")
    model: str = given("model", "Model", "A MONAI bundle, or the name of a shipped model.")
    layer: str = option("", "Layer", "Layer of the bottleneck; the model's own if empty.")
    statistics: Literal["channel", "position"] = option(
        "channel",
        "Statistics",
        "channel: one mean and SD for each channel, for scans of any size; position: for each cell too.",
    )
    after_relu: bool = option(
        False,
        "After a ReLU",
        "Noise of mean 0, with the deviation of the non-zero activations and never below zero (Demir 2021).",
    )
    maximum_slices: int = option(
        10000, "Maximum samples", "Slices used at most, spread evenly over the scans.", ge=2, advanced=True
    )
