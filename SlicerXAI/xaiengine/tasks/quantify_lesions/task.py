"""Task: find and measure lesions with a classifier that never saw a lesion mask."""

from __future__ import annotations

from ..task import Context, Outcome, OutputSpec, Task, ValueSpec
from .options import QuantifyLesionsOptions


class QuantifyLesions(Task[QuantifyLesionsOptions]):
    """Demir et al. 2021 (arXiv 2104.02869) in physical units, see :mod:`xaiengine.lesions.pipeline`."""

    name = "quantify-lesions"
    title = "Quantify lesions"
    description = (
        "Locates lesions in a chest CT by what a slice classifier looks at (information bottleneck attribution), "
        "and measures them: volume and burden. For research, not for diagnosis."
    )
    Options = QuantifyLesionsOptions
    outputs = (
        OutputSpec("attribution", "volume", "Attribution map", "What each voxel tells the model, in bits."),
        OutputSpec("lesions", "segmentation", "Lesions", "The lesions found, largest first."),
        OutputSpec("lungs", "segmentation", "Lungs", "The lungs in which lesions were searched for."),
        OutputSpec("table", "table", "Lesion table", "One row for each lesion."),
        OutputSpec("burden", "table", "Burden table", "Lesion volume and burden for each lung or lobe."),
        OutputSpec("not_counted", "segmentation", "Not counted", "Places kept apart.", optional=True),
        OutputSpec("not_counted_table", "table", "Places not counted", "Each with its reason.", optional=True),
        OutputSpec("scan_likeness", "table", "Scan and training scans", "Is it like them?", optional=True),
        OutputSpec("explained", "segmentation", "Explained slices", "Where the model was asked.", optional=True),
        OutputSpec("picture", "image", "Picture", "Three planes through the largest lesion.", optional=True),
    )
    values = (
        ValueSpec("burden_percent", "Burden", "Lesion volume by lung volume.", unit="%"),
        ValueSpec("burden_ml", "Lesion volume", "Volume of all lesions.", unit="mL"),
        ValueSpec("lung_ml", "Lung volume", "Volume of the lungs.", unit="mL"),
        ValueSpec("severity", "Extent", "CT-0 to CT-4 of COVID-19, of models that ask for this grading.", "string"),
        ValueSpec("lesion_count", "Lesions", "How many lesions were found.", "integer"),
        ValueSpec("not_counted_ml", "Not counted", "Volume of the places that were kept apart.", unit="mL"),
        ValueSpec(
            "like_training_scans",
            "Like the training scans",
            "Whether the scan is like those that the model was trained on; if not, do not trust the burden.",
            "string",
        ),
        ValueSpec(
            "in_lesions_percent",
            "Map in lesions",
            "Part of the whole map that lies in the reported lesions.",
            unit="%",
        ),
    )

    def run(self, options: QuantifyLesionsOptions, context: Context) -> Outcome:
        from .report import quantify_and_write

        return quantify_and_write(options, context)
