"""Task: fit a model's reference statistics, which the bottleneck's noise is drawn from, over a folder of scans."""

from __future__ import annotations

from typing import Literal

from ..options import TaskOptions, given, option
from .task import Context, Outcome, OutputSpec, Task, ValueSpec


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
        10000, "Most samples", "Slices used at most, spread evenly over the scans.", ge=2, advanced=True
    )


class FitReference(Task):
    """Welford statistics of one layer's activations; the file is put beside the model by its user."""

    name = "fit-reference"
    title = "Fit reference statistics"
    description = (
        "Runs a model over a folder of scans and keeps mean and spread of one layer's activations, "
        "from which the information bottleneck draws its noise."
    )
    Options = FitReferenceOptions
    foretells = False
    outputs = (
        OutputSpec("reference", "data", "Reference statistics", "safetensors file for the model's folder."),
        OutputSpec("scans", "table", "Scans", "The scans used, and those that could not be read, with the reason."),
    )
    values = (
        ValueSpec("samples", "Samples", "Slices that the statistics rest on.", "integer"),
        ValueSpec("scans_read", "Scans read", "Scans that could be used.", "integer"),
    )

    def run(self, options: FitReferenceOptions, context: Context) -> Outcome:
        from ..attribution.reference_fit import fit_and_write

        return fit_and_write(options, context)
