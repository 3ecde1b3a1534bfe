"""Options of the task explain-segmentation. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from ...attribution.segmentation.method_list import MARKED, METHODS
from ...core.options import TaskOptions, given, option

TargetKind = Literal[
    "class",
    "segment",
    "component",
    "voxel",
    "boundary",
    "volume",
    "difference",
    "false-positives",
    "false-negatives",
    "errors",
    "dice",
]


class ExplainSegmentationOptions(TaskOptions):
    """Lengths in mm, positions in RAS."""

    former_names: ClassVar[Mapping[str, str]] = {"mend": "correct"}

    volume: str = given("volume", "Scan", "CT or MR: .nrrd, .nii.gz, .mha or a DICOM folder.")
    model: str = given(
        "model",
        "Model",
        "Segmentation model: a MONAI bundle, TorchScript, or the name of a shipped model.",
        required=False,
        default="vessel_segmentation",
    )
    segmentation: str = given(
        "segmentation",
        "Structures",
        "Segments whose share in the explanation is given, and the region for the target segment. May be empty.",
        required=False,
        default="",
    )
    reference: str = given(
        "segmentation",
        "Reference",
        "The true segmentation, for the targets errors, false-positives, false-negatives and dice. May be empty.",
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
        "volume", "Baseline scan", "Another scan of the region, for the baseline scan.", required=False, default=""
    )
    channels: list[str] = option(
        [], "Additional channels", "Files of the model's further input channels (MR sequences), in its order."
    )
    target: TargetKind = option(
        "class",
        "Target",
        "What is explained: the class over its predicted mask; inside a segment; the component or voxel at a point; "
        "the band along its surface; its volume; one class against another; where it differs from the reference.",
    )
    classes: list[str] = option(
        [],
        "Classes",
        "Which of the model's classes, by name or number; several share the passes. The model's own if empty.",
    )
    against: str = option("", "Against", "The second class of the target difference.")
    segment: str = option("", "Segment", "Name of the segment that limits the target; all segments if empty.")
    reference_segment: str = option("", "Reference segment", "Name of the true segment; all segments if empty.")
    point: str = option(
        "", "Point", "For the targets component and voxel: R,A,S in mm, or a markups file (.mrk.json, .fcsv)."
    )
    boundary: float = option(
        3.0, "Half width of the band", "For the target boundary: distance from the surface.", unit="mm", gt=0, le=50
    )
    score: Literal["auto", "logit", "log-odds", "probability"] = option(
        "auto", "Score", "What is added up over voxels. auto: log-odds of two classes, else the logit.", advanced=True
    )
    methods: list[str] = option(
        ["integrated-gradients", "hires-cam"],
        "Methods",
        "One or several: integrated-gradients, saliency, input-x-gradient, smoothgrad, smoothgrad-squared, vargrad, "
        "gradient-shap, deeplift, deeplift-shap, guided-backpropagation, deconvolution, occlusion, rise, "
        "feature-ablation, shapley-sampling, kernel-shap, lime, grad-cam, grad-cam++, hires-cam, layer-cam, "
        "xgrad-cam, score-cam, layer-activation, gradient-x-activation, layer-conductance, internal-influence, "
        "layer-integrated-gradients, layer-gradient-shap, layer-deeplift, iba, inverse-iba. Not to be relied on "
        f"alone, their maps barely depend on what the model has learned: {', '.join(MARKED)}.",
        choices=tuple(METHODS),
    )
    layers: list[str] = option(
        [], "Layers", "For methods at a layer; chosen by the engine if empty.", group="Method options"
    )
    baseline: Literal["blurred", "mean", "zero", "constant", "scan"] = option(
        "blurred", "Baseline", "What the scan is compared with where it is hidden.", group="Method options"
    )
    constant: float = option(0.0, "Constant", "Value of the constant baseline, in network input units.", advanced=True)
    steps: int | None = option(
        None,
        "Steps",
        "Of path integrals; grown until they are complete (at most 64) if not given.",
        ge=2,
        le=1024,
        group="Method options",
    )
    samples: int = option(16, "Samples", "Noisy copies or random baselines.", ge=2, le=1024, group="Method options")
    noise: float = option(0.1, "Noise", "SD of SmoothGrad's noise, as a part of the range.", gt=0, le=1, advanced=True)
    block: float = option(
        12.0, "Block", "Edge of the occluded blocks.", unit="mm", gt=0, le=500, group="Method options"
    )
    stride: float | None = option(
        None, "Stride", "Between blocks; their size if not given.", unit="mm", gt=0, le=500, advanced=True
    )
    coarse_to_fine: float = option(
        0.0,
        "Coarse to fine",
        "Refine only this part of four times larger blocks; 0 tries all.",
        ge=0,
        le=1,
        advanced=True,
    )
    regions: int = option(
        60,
        "Supervoxels",
        "For the methods that hide regions, where no structures are given.",
        ge=2,
        le=5000,
        advanced=True,
    )
    coalitions: int = option(128, "Coalitions", "Samples of KernelShap, LIME, Shapley.", ge=8, le=20000, advanced=True)
    masks: int = option(200, "Masks", "Random masks of RISE.", ge=16, le=20000, advanced=True)
    schedule: Literal["converged", "reference"] = option(
        "converged", "Schedule", "Of the bottleneck: until the map rests, or the ten published steps.", advanced=True
    )
    beta: float | None = option(
        None, "Beta", "Weight of the information term in the bottleneck's loss.", gt=0, advanced=True
    )
    overlap: float | None = option(
        None, "Overlap", "Of the windows; the model's own if not given.", ge=0, lt=1, advanced=True
    )
    batch: int | None = option(None, "Windows per pass", "The model's own if not given.", ge=1, le=64, advanced=True)
    matrix: bool = option(
        False, "Structure matrix", "Explain every predicted class, and show which structures each relies on."
    )
    receptive_field: bool = option(
        True, "Receptive field", "Measure how far the center of the target looks.", advanced=True
    )
    correct: bool = option(
        True,
        "Correct errors",
        "For errors: seek the smallest change of the scan that corrects them.",
        group="Method options",
    )
