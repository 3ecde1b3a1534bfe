"""Task: which findings the units of a network detect."""

from __future__ import annotations

from ..task import Context, Outcome, OutputSpec, Task, ValueSpec
from .options import DissectOptions


class Dissect(Task[DissectOptions]):
    """Network dissection of classifiers, regressors and segmentation models, see :mod:`xaiengine.semantics`."""

    name = "dissect"
    title = "Dissect"
    description = (
        "Finds out which findings or structures the units of a network detect, over a folder of images with masks; "
        "compares two models. Without masks units are grouped by what they respond to. For research, not for "
        "diagnosis."
    )
    Options = DissectOptions
    outputs = (
        OutputSpec("concepts", "table", "Concepts", "Units, IoU and chance of each concept, with intervals."),
        OutputSpec("units", "table", "Units", "Each unit with its concept, IoU and strongest images."),
        OutputSpec("images", "table", "Images", "The images, and those that could not be used, with the reason."),
        OutputSpec("comparison", "table", "Comparison", "Concepts of two models.", optional=True),
        OutputSpec("dissection", "data", "Dissection", "For explain-semantics, with the .json beside it."),
        OutputSpec("picture", "image", "Picture", "Units per concept."),
        OutputSpec("sheet", "image", "Sheet of units", "Images to which units respond most.", optional=True),
    )
    values = (
        ValueSpec("images_used", "Images", "Images that were used.", "integer"),
        ValueSpec("images_skipped", "Images left out", "Images that could not be used.", "integer"),
        ValueSpec("layer", "Layer", "The first dissected layer.", "string"),
        ValueSpec("units", "Units", "Of this layer.", "integer"),
        ValueSpec("detectors", "Detectors", "Units that detect a concept.", "integer"),
        ValueSpec("concepts_found", "Concepts found", "Concepts with a detector.", "integer"),
        ValueSpec("dead_units", "Dead units", "Units that never change.", "integer"),
        ValueSpec("rank_error", "Error of rank", "Bound of the error of the quantile.", unit="%"),
    )

    def run(self, options: DissectOptions, context: Context) -> Outcome:
        from .report import dissect_and_write

        return dissect_and_write(options, context)
