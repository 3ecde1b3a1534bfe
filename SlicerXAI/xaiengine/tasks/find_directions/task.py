"""Task: along which directions of a generator's latents the explained model's answer changes."""

from __future__ import annotations

from ..task import Context, Outcome, OutputSpec, Task, ValueSpec
from .options import FindDirectionsOptions


class FindDirections(Task[FindDirectionsOptions]):
    """See :mod:`xaiengine.tasks.find_directions.finding`; the file is given to explain-counterfactual."""

    name = "find-directions"
    title = "Find directions"
    description = (
        "Finds out along which directions of a generator's latents a classifier's or regression model's answer "
        "changes, and says how well each does on held-out latents. For research, not for diagnosis."
    )
    Options = FindDirectionsOptions
    outputs = (
        OutputSpec("directions", "data", "Directions", "The directions, for explain-counterfactual (.safetensors)."),
        OutputSpec("table", "table", "Figures", "How each direction does on held-out latents."),
    )
    values = (
        ValueSpec("explained_target", "Target", "What was explained.", "string"),
        ValueSpec("auc", "AUC", "Of the first direction's surrogate on held-out latents; classes only."),
        ValueSpec("r2", "R²", "Of the same surrogate."),
        ValueSpec(
            "flip_rate",
            "Flip rate",
            "Part of the judged images whose prediction the first direction takes across the decision threshold.",
        ),
        ValueSpec("spearman", "Spearman", "Mean rank correlation of shift and answer along the first direction."),
    )

    def run(self, options: FindDirectionsOptions, context: Context) -> Outcome:
        from .finding import find_and_write

        return find_and_write(options, context)
