"""Task: which findings a prediction rests on, in the reader's words."""

from __future__ import annotations

from typing import Literal

from ..options import TaskOptions, given, option
from ..prediction_maps.options import MODEL_TEXT, ExplainedOutputOptions, baseline_value
from .task import Context, Outcome, OutputSpec, Task, ValueSpec

SEMANTIC_METHODS = "conductance, ablation, gradient_x_activation"


class SemanticInputs(TaskOptions):
    volume: str = given("volume", "Scan", "The scan or image.")
    model: str = given("model", "Model", MODEL_TEXT)
    dissection: str = given(
        "file",
        "Dissection",
        "Of this model, by the task dissect (.safetensors); the latest one if empty.",
        required=False,
        default="",
    )
    methods: list[str] = option(
        ["conductance", "gradient_x_activation", "ablation"],
        "Methods",
        f"One or more of: {SEMANTIC_METHODS}. The first is the one that is drawn and worded.",
    )


class ExplainSemanticsOptions(ExplainedOutputOptions, SemanticInputs):
    most_slices: int = option(16, "Most slices", "Confident slices explained at most.", ge=1, advanced=True)
    layer: str = option("", "Layer", "Layer of the dissection, where there are several.", advanced=True)
    baseline: Literal["blurred", "mean", "zero", "constant", "cohort"] = option(
        "blurred",
        "Baseline",
        "What conductance starts from: an image without detail, or (cohort) each unit's mean over the cohort.",
        group="Baseline",
    )
    baseline_value: float = baseline_value()
    steps: int = option(0, "Steps", "Of conductance; 0 takes as many as it needs.", ge=0, advanced=True)
    max_steps: int = option(256, "Most steps", "Of conductance.", ge=2, advanced=True)
    clusters: int = option(
        8,
        "Clusters",
        "Groups of units where there is no dissection: found in this scan.",
        ge=2,
        le=100,
        advanced=True,
    )
    cluster_method: Literal["factorisation", "kmeans"] = option(
        "factorisation", "Clusters by", "Non-negative factorisation, or k-means.", advanced=True
    )
    most_maps: int = option(6, "Maps", "Concepts with a map, the strongest first.", ge=0, le=50)
    batch_size: int = option(16, "Batch size", "Activations per pass.", ge=1, advanced=True)


class ExplainSemantics(Task):
    """Semantic attribution of one prediction, see :mod:`xaiengine.semantics`."""

    name = "explain-semantics"
    title = "Explain semantics"
    description = (
        "Says which findings spoke for and against a prediction, and how much, through the units that detect them "
        "(task dissect). For research, not for diagnosis."
    )
    Options = ExplainSemanticsOptions
    outputs = (
        OutputSpec(
            "findings", "table", "Findings", "Contribution, share and units of each concept, by each method."
        ),
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
        ValueSpec(
            "strongest_against", "Strongest against", "The concept that spoke most against it.", "string"
        ),
        ValueSpec("target_value", "Value", "Mean over the explained samples."),
        ValueSpec(
            "unlabelled_share",
            "Unlabelled",
            "Share of units without a concept in all contributions.",
            unit="%",
        ),
        ValueSpec("completeness_gap", "Gap", "Missed part of the change of the prediction.", unit="%"),
        ValueSpec(
            "explained_samples", "Explained samples", "Slices or volumes that were explained.", "integer"
        ),
    )

    def run(self, options: ExplainSemanticsOptions, context: Context) -> Outcome:
        from ..semantics.explain_report import explain_and_write

        return explain_and_write(options, context)
