"""Task: what in a scan a classifier's or regressor's answer rests on."""

from __future__ import annotations

from ...attribution.registry import find_methods
from ...core.options import TaskOptions
from ..method_options import todays
from ..task import Context, Outcome, OutputSpec, Task, ValueSpec
from .options import ExplainPredictionOptions


class ExplainPrediction(Task[ExplainPredictionOptions]):
    """Attribution of classifiers and regressors, see :mod:`xaiengine.attribution`."""

    name = "explain-prediction"
    title = "Explain prediction"
    description = (
        "Shows what in a scan the answer of a classifier or regressor rests on, by one or several methods, and how "
        "much of it lies in each structure. For research, not for diagnosis."
    )
    outputs = (
        OutputSpec("attribution", "volume", "Attribution map", "The map of the first method."),
        OutputSpec("methods", "table", "Methods", "Sum, convergence and time of each method."),
        OutputSpec("prediction", "table", "Prediction", "What the model says of the scan or of each slice."),
        OutputSpec("regions", "table", "Regions", "How much of each map lies in each segment.", optional=True),
        OutputSpec("agreement", "table", "Agreement", "How alike the maps of several methods are.", optional=True),
        OutputSpec("consensus", "volume", "Consensus", "Mean rank of each voxel over the methods.", optional=True),
        OutputSpec("disagreement", "volume", "Disagreement", "SD of the ranks over the methods.", optional=True),
        OutputSpec("picture", "image", "Picture", "Maps over the scan."),
        OutputSpec("uncertainty", "volume", "Uncertainty", "SD of the first map over the runs.", optional=True),
    )
    values = (
        ValueSpec("explained_target", "Target", "What was explained.", "string"),
        ValueSpec("target_value", "Value", "Its highest value in the explained samples."),
        ValueSpec("explained_samples", "Explained samples", "Slices or volumes that were explained.", "integer"),
        ValueSpec("map_sum", "Sum of the map", "Over the whole scan, in the map's unit times voxels."),
        ValueSpec("peak", "Peak", "RAS position of the strongest voxel.", "string", "mm"),
        ValueSpec("total_bits", "Total bits", "Of the bottlenecks: mean over the explained samples.", unit="bits"),
        ValueSpec("completeness_error", "Completeness error", "Of the methods that should add up."),
        ValueSpec("stable_percent", "Stable", "Part of the map where the SD is at most half of the mean.", unit="%"),
        ValueSpec("target_sd", "SD of the value", "Over the runs of the uncertainty."),
    )

    def __init__(self) -> None:
        self.Options = todays(ExplainPredictionOptions)

    def check(self, options: TaskOptions) -> None:
        find_methods(getattr(options, "methods", []))

    def run(self, options: ExplainPredictionOptions, context: Context) -> Outcome:
        from ...core.cancellation import interruptibly
        from ...inference.patches import PatchView
        from ...inference.scan_reading import read_for_model
        from ...inference.scan_view import view_scan
        from ...lesions.lungs.lungs_alone import lungs_alone
        from ...models.provenance import model_provenance
        from .explaining import explain, patches_of
        from .writing import write_explained

        context.progress.stage("Preparing")
        model = context.session.model(options.model, context.device, context.trust_model)
        check = context.progress.check
        scan = interruptibly(check, read_for_model, model, options.volume, options.channels, options.series)
        if options.at != "whole":
            view = patches_of(scan, model, options, check)
        else:
            view = view_scan(scan, model, check, shown_part=lungs_alone)
        found = explain(
            view, options, seed=context.seed, progress=context.progress, warn=context.warn, expect=context.expect
        )
        context.progress.stage("Writing", len(found.explanations) + 1)
        values = write_explained(found, context, extra_maps=options.extra_maps)
        return Outcome(
            values=values,
            provenance={
                **({"patches": view.cut} if isinstance(view, PatchView) else {}),
                "model": model_provenance(model),
                "target": found.target.name,
                "explained_samples": [int(row) for row in found.rows],
                "layers": list(found.case.layers),
                "bottleneck_layers": list(found.case.bottleneck_layers),
                "methods": {item.method: dict(item.convergence) for item in found.explanations},
                "seconds_by_method": {item.method: item.provenance["seconds"] for item in found.explanations},
            },
        )
