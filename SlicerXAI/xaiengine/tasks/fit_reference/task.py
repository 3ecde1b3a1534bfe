"""Task: fit a model's reference statistics, which the bottleneck's noise is drawn from, over a folder of scans."""

from __future__ import annotations

from ..task import Context, Outcome, OutputSpec, Task, ValueSpec
from .options import FitReferenceOptions


class FitReference(Task[FitReferenceOptions]):
    """Statistics of layers' activations, kept where later runs find them."""

    name = "fit-reference"
    title = "Fit reference statistics"
    description = (
        "Runs a model over a folder of scans and keeps mean and spread of its layers' activations, from which the "
        "information bottleneck draws its noise."
    )
    Options = FitReferenceOptions
    estimates = False
    outputs = (
        OutputSpec("reference", "data", "Reference statistics", "Of the first layer, safetensors."),
        OutputSpec("scans", "table", "Scans", "The scans used, and those that could not be read, with the reason."),
    )
    values = (
        ValueSpec("samples", "Samples", "Slices, windows or volumes that the statistics rest on.", "integer"),
        ValueSpec("scans_read", "Scans read", "Scans that could be used, the independent samples.", "integer"),
        ValueSpec("examples_kept", "Examples kept", "Scans kept whole, for methods of replacement.", "integer"),
        ValueSpec("fitted_layers", "Fitted layers", "Layers that statistics were fitted of.", "string"),
    )

    def run(self, options: FitReferenceOptions, context: Context) -> Outcome:
        from .reference_fit import fit_and_write

        return fit_and_write(options, context)
