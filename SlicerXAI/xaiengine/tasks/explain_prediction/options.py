"""Options of the task explain-prediction. Light to import."""

from __future__ import annotations

import re
from typing import Literal

from ...core.options import TaskOptions, given, option
from ..prediction_options import MODEL_TEXT, ExplainedOutputOptions, Score, baseline_value

METHOD_NAMES = (
    "iba, inverse_iba, multilayer_iba, input_iba; saliency, input_x_gradient, integrated_gradients, smoothgrad, "
    "smoothgrad_squared, vargrad, gradient_shap, deep_lift, deep_lift_shap, guided_backpropagation, deconvolution; "
    "cam, gradcam, gradcam++, hirescam, layercam, xgradcam, scorecam; layer_activation, "
    "layer_gradient_x_activation, layer_conductance, internal_influence, layer_integrated_gradients, "
    "layer_gradient_shap, layer_deep_lift; occlusion, feature_ablation, shapley_sampling, kernel_shap, lime, rise"
)


MARKED_NAMES = "smoothgrad_squared, vargrad, guided_backpropagation, deconvolution, layer_activation"
"""Methods whose maps stay partly the same when the model's weights are random."""


class PredictionInputs(TaskOptions):
    volume: str = given("volume", "Scan", "The scan or image: .nrrd, .nii.gz, .mha or a DICOM folder.")
    model: str = given("model", "Model", MODEL_TEXT)
    segments: str = given(
        "segmentation",
        "Segments",
        "Structures for which the table of regions says how much of the explanation lies in each. May be empty.",
        required=False,
        default="",
    )
    roi: str = given(
        "segmentation",
        "Region of interest",
        "Occlusion is limited to blocks that touch this region. May be empty.",
        required=False,
        default="",
    )
    baseline_scan: str = given(
        "volume",
        "Baseline scan",
        "Another scan of the same region, for the baseline 'scan'. May be empty.",
        required=False,
        default="",
    )
    methods: list[str] = option(
        ["iba"],
        "Methods",
        f"One or more of: {METHOD_NAMES}. Not to be relied on alone, their maps barely depends on what the model has "
        f"learned: {MARKED_NAMES}.",
        choices=re.split("[,;] ", METHOD_NAMES),
    )


class ExplainPredictionOptions(ExplainedOutputOptions, PredictionInputs):
    score: Score = option(
        "logit", "Score", "What of a class is explained by methods other than the bottlenecks.", advanced=True
    )
    layers: list[str] = option([], "Layers", "Layers by name; chosen automatically if empty.", advanced=True)
    baseline: Literal["blurred", "mean", "zero", "constant", "scan"] = option(
        "blurred", "Baseline", "What stands for no information.", group="Baseline"
    )
    baseline_value: float = baseline_value()
    occlusion_mm: float = option(
        0.0, "Block size", "Of occlusion; 0 takes an eighth of the image.", unit="mm", ge=0, group="Occlusion"
    )
    occlusion_stride_mm: float = option(
        0.0, "Stride", "Between blocks; 0 takes the block size.", unit="mm", ge=0, group="Occlusion"
    )
    coarse_to_fine: float = option(
        0.0,
        "Coarse to fine",
        "Part of the coarser blocks that is refined (0.25 is a good one); 0 tries every fine block.",
        ge=0,
        le=1,
        group="Occlusion",
    )
    regions_from: Literal["supervoxels", "segments"] = option(
        "supervoxels", "Regions", "Regions of ablation, Shapley, KernelShap and LIME.", group="Regions"
    )
    regions: int = option(64, "Number of supervoxels", "About as many are made.", ge=4, le=2000, group="Regions")
    coalitions: int = option(
        256, "Coalitions", "Samples of KernelShap and LIME.", ge=16, advanced=True, group="Regions"
    )
    permutations: int = option(8, "Permutations", "Orders of Shapley sampling.", ge=2, advanced=True)
    masks: int = option(400, "Masks", "Random masks of RISE.", ge=10, advanced=True)
    steps: int = option(
        0, "Steps", "Of integrated gradients; 0 takes as many as completeness needs.", ge=0, advanced=True
    )
    max_steps: int = option(256, "Maximum steps", "Of integrated gradients.", ge=2, advanced=True)
    samples: int = option(32, "Samples", "Noisy copies of SmoothGrad and GradientShap.", ge=2, advanced=True)
    noise: float = option(
        0.1, "Noise", "SD of SmoothGrad's noise as a part of the image's range.", gt=0, le=2, advanced=True
    )
    schedule: Literal["converged", "reference"] = option(
        "converged",
        "Schedule",
        "Of bottlenecks; converged: until the map rests, reference: the ten published steps.",
        advanced=True,
    )
    beta: float | None = option(
        None,
        "Beta",
        "Weight of the information term; 10 if empty (30 for the inverse of a class).",
        gt=0,
        advanced=True,
    )
    gate: Literal["energy", "quantile"] = option(
        "energy", "Gate", "What the deeper layers of the multi-layer map let through.", advanced=True
    )
    gate_part: float = option(
        0.9, "Gate part", "Share of the bits (energy), or the quantile.", gt=0, lt=1, advanced=True
    )
    regression_loss: Literal["keep", "label", "maximise"] = option(
        "keep", "Regression loss", "Of bottlenecks on regression models.", advanced=True
    )
    regression_label: float | None = option(
        None, "Regression label", "True value, for the regression loss 'label'.", advanced=True
    )
    extra_maps: bool = option(
        False, "Additional maps", "Also write variance maps, standard errors and the maps of other layers."
    )
    batch_size: int = option(0, "Batch size", "Inputs per pass; 0 takes what memory allows.", ge=0, advanced=True)
