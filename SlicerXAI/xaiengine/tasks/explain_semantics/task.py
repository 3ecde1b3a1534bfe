"""Task: which findings a prediction rests on, in the reader's words."""

from __future__ import annotations

from ..task import Context, Outcome, OutputSpec, Task, ValueSpec
from .options import ExplainSemanticsOptions


class ExplainSemantics(Task[ExplainSemanticsOptions]):
    """Semantic attribution of one prediction, see :mod:`xaiengine.semantics`."""

    name = "explain-semantics"
    title = "Explain semantics"
    description = (
        "Says which findings spoke for and against a prediction, and how much, through the units that detect them "
        "(task dissect). For research, not for diagnosis."
    )
    Options = ExplainSemanticsOptions
    outputs = (
        OutputSpec("findings", "table", "Findings", "Contribution, share and units of each concept, by each method."),
        OutputSpec("units", "table", "Units", "The units that contribute most."),
        OutputSpec("methods", "table", "Methods", "What the bars add up to, and what they miss."),
        OutputSpec("sentence", "text", "Sentence", "What spoke for and against, in words."),
        OutputSpec("map", "volume", "Map of the strongest finding", "Where it contributed.", optional=True),
        OutputSpec("picture", "image", "Picture", "Signed bars."),
        OutputSpec("maps_picture", "image", "Picture of the maps", "Maps over the scan.", optional=True),
    )
    values = (
        ValueSpec("explained_target", "Target", "What was explained.", "string"),
        ValueSpec("sentence", "Sentence", "What spoke for and against.", "string"),
        ValueSpec("strongest_for", "Strongest for", "The concept that spoke most for it.", "string"),
        ValueSpec("strongest_against", "Strongest against", "The concept that spoke most against it.", "string"),
        ValueSpec("target_value", "Value", "Mean over the explained samples."),
        ValueSpec(
            "unlabeled_share",
            "Unlabeled",
            "Share of units without a concept in all contributions.",
            unit="%",
        ),
        ValueSpec("completeness_gap", "Gap", "Missed part of the change of the prediction.", unit="%"),
        ValueSpec("explained_samples", "Explained samples", "Slices or volumes that were explained.", "integer"),
    )

    def run(self, options: ExplainSemanticsOptions, context: Context) -> Outcome:
        from .report import explain_and_write

        return explain_and_write(options, context)
