"""Task: whether a map tells the truth about the model that it explains."""

from __future__ import annotations

from ...core.options import TaskOptions
from ...evaluation.check_names import checked_names
from ..task import Context, Outcome, OutputSpec, Task, ValueSpec
from .options import EvaluateExplanationOptions


class EvaluateExplanation(Task[EvaluateExplanationOptions]):
    """Faithfulness, stability and sanity of one map, see :mod:`xaiengine.evaluation`."""

    name = "evaluate-explanation"
    title = "Evaluate explanation"
    description = (
        "Checks whether a map tells the truth about the model: does the prediction follow the voxels that it marks, "
        "is it stable, does it vanish with the model's knowledge? Each measure comes with its error and with what a "
        "random map and an edge filter reach."
    )
    Options = EvaluateExplanationOptions
    outputs = (
        OutputSpec("checks", "table", "Checks", "Each measure with error, controls, threshold and result."),
        OutputSpec("curves", "table", "Curves", "Insertion, deletion and tiles.", optional=True),
        OutputSpec("randomization", "table", "Randomization", "Similarity after each stage.", optional=True),
        OutputSpec("verdict", "text", "Verdict", "One line for readers."),
        OutputSpec("picture", "image", "Picture", "The curves."),
    )
    values = (
        ValueSpec("verdict", "Verdict", "One line for readers.", "string"),
        ValueSpec("checks_passed", "Checks passed", "How many.", "integer"),
        ValueSpec("checks_done", "Checks done", "How many.", "integer"),
    )

    def check(self, options: TaskOptions) -> None:
        checked_names(options.checks)

    def run(self, options: EvaluateExplanationOptions, context: Context) -> Outcome:
        from .report import evaluate_and_write

        return evaluate_and_write(options, context)
