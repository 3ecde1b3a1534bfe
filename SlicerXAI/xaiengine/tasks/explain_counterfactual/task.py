"""Task: what a scan would look like if the model had said otherwise."""

from __future__ import annotations

from ..task import Context, Outcome, OutputSpec, Task, ValueSpec
from .options import ExplainCounterfactualOptions


class ExplainCounterfactual(Task[ExplainCounterfactualOptions]):
    """Counterfactual images as in Schutte et al. 2021 (arXiv 2101.07563), see :mod:`xaiengine.counterfactual`."""

    name = "explain-counterfactual"
    title = "Counterfactual images"
    description = (
        "Shows what a scan would look like if the model had said otherwise: a series of images made by a generator, "
        "each with the model's prediction, and what had to change. For research, not for diagnosis."
    )
    Options = ExplainCounterfactualOptions
    outputs = (
        OutputSpec("series", "sequence", "Series", "One image per prediction."),
        OutputSpec("difference", "volume", "Difference", "What the counterfactual changed, on the scan's grid."),
        OutputSpec("counterfactual", "volume", "Counterfactual", "A copy of the scan with the changed slice in it."),
        OutputSpec("frames", "table", "Frames", "Shift, prediction and change of each image."),
        OutputSpec("figures", "table", "Figures", "What the series shows, in numbers."),
        OutputSpec("film_strip", "image", "Film strip", "The series as a picture."),
        OutputSpec("animation", "image", "Animation", "The series as an animated GIF."),
        OutputSpec("verdict", "text", "Verdict", "Whether the counterfactual is valid for this scan, in words."),
    )
    values = (
        ValueSpec("explained_target", "Target", "What was explained.", "string"),
        ValueSpec("prediction", "Prediction", "The model's answer to the scan."),
        ValueSpec("reconstructed_prediction", "Prediction, rebuilt", "Its answer to the reconstruction."),
        ValueSpec("gap", "Gap", "Between the two."),
        ValueSpec("speaks", "Reconstruction valid", "yes or no: whether the gap is within its bound.", "string"),
        ValueSpec("flip_shift", "Flip shift", "Smallest shift that turns the answer over.", unit="SD"),
        ValueSpec("flip_change", "Flip change", "Mean absolute change of the image at the flip, in the scan's unit."),
        ValueSpec("counterfactual_prediction", "Prediction, changed", "The model's answer to the changed image."),
        ValueSpec("spearman", "Spearman", "Rank correlation of shift and answer."),
        ValueSpec("domain_score", "Domain score", "How unlike the generator's domain the scan is; 1 is typical."),
    )

    def run(self, options: ExplainCounterfactualOptions, context: Context) -> Outcome:
        from .run import explain_and_write

        return explain_and_write(options, context)
