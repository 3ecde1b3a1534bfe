"""Task: what a segmentation model looks at, in the scan, for a structure, a place or an error."""

from __future__ import annotations

from ...attribution.registry import find_methods
from ...core.options import TaskOptions
from ..method_options import todays
from ..task import Context, Outcome, OutputSpec, Task, ValueSpec
from .options import ExplainSegmentationOptions


class ExplainSegmentation(Task[ExplainSegmentationOptions]):
    """Methods of TorchEsegeta's list (arXiv 2110.08429) and the bottleneck, exact through sliding windows."""

    name = "explain-segmentation"
    title = "Explain segmentation"
    description = (
        "Shows what a segmentation model looks at for a structure, a place or an error: maps in the scan's geometry, "
        "how far from the structure it looks, and which other structures it relies on. For research, not for "
        "diagnosis."
    )
    outputs = (
        OutputSpec("attribution", "volume", "Attribution map", "The first map: what speaks for and against."),
        OutputSpec("magnitude", "volume", "Magnitude map", "Absolute value of the first map.", optional=True),
        OutputSpec("target", "segmentation", "Explained target", "The structure and the voxels that are explained."),
        OutputSpec("distance", "table", "Distance table", "Attribution against the distance from the target."),
        OutputSpec("regions", "table", "Region table", "Attribution in each structure.", optional=True),
        OutputSpec("summary", "table", "Summary table", "One row for each target and method."),
        OutputSpec("picture", "image", "Picture", "Three planes through the target.", optional=True),
        OutputSpec("uncertainty", "volume", "Uncertainty", "SD of the first map over the runs.", optional=True),
        OutputSpec(
            "prediction_uncertainty", "volume", "Prediction's uncertainty", "SD of the probability.", optional=True
        ),
    )
    values = (
        ValueSpec("radius_50_mm", "Radius of half", "Distance from the target that holds 50 %.", unit="mm"),
        ValueSpec("radius_90_mm", "Radius of 90 %", "Distance from the target that holds 90 %.", unit="mm"),
        ValueSpec("outside_percent", "Outside", "Share of the attribution outside the target.", unit="%"),
        ValueSpec("target_value", "Value", "The explained number."),
        ValueSpec("target_ml", "Target volume", "Volume of the explained structure.", unit="mL"),
        ValueSpec("stable_percent", "Stable", "Part of the map where the SD is at most half of the mean.", unit="%"),
        ValueSpec("target_sd", "SD of the value", "Over the runs of the uncertainty."),
        ValueSpec("windows", "Windows", "Windows that the target touches.", "integer"),
    )

    def __init__(self) -> None:
        self.Options = todays(ExplainSegmentationOptions)

    def check(self, options: TaskOptions) -> None:
        find_methods(getattr(options, "methods", []))

    def run(self, options: ExplainSegmentationOptions, context: Context) -> Outcome:
        from .report import explain_and_write

        return explain_and_write(options, context)
