"""Options of the task explain-semantics. Light to import."""

from __future__ import annotations

from typing import Literal

from ...core.options import TaskOptions, given, option
from ..prediction_options import MODEL_TEXT, ExplainedOutputOptions, baseline_value, channels_option, series_option

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
    channels: list[str] = channels_option()
    series: str = series_option()
    methods: list[str] = option(
        ["conductance", "gradient_x_activation", "ablation"],
        "Methods",
        f"One or more of: {SEMANTIC_METHODS}. The first is the one that is drawn and worded.",
    )


class ExplainSemanticsOptions(ExplainedOutputOptions, SemanticInputs):
    most_slices: int = option(16, "Maximum slices", "Confident slices explained at most.", ge=1, advanced=True)
    layer: str = option("", "Layer", "Layer of the dissection, where there are several.", advanced=True)
    baseline: Literal["blurred", "mean", "zero", "constant", "cohort"] = option(
        "blurred",
        "Baseline",
        "What conductance starts from: an image without detail, or (cohort) each unit's mean over the cohort.",
        group="Baseline",
    )
    baseline_value: float = baseline_value()
    steps: int = option(0, "Steps", "Of conductance; 0 takes as many as it needs.", ge=0, advanced=True)
    max_steps: int = option(256, "Maximum steps", "Of conductance.", ge=2, advanced=True)
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
