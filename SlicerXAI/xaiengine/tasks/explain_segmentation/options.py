"""Options of the task explain-segmentation. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from ...core.options import TaskOptions, given, option
from ..method_options import MethodOptions, methods_option
from ..prediction_options import baseline_value, channels_option, series_option
from ..uncertainty_options import UncertaintyOptions

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


class SegmentationInputs(TaskOptions):
    """What is explained, in lengths of mm and positions in RAS."""

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
    channels: list[str] = channels_option()
    series: str = series_option()
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
    methods: list[str] = methods_option(["integrated_gradients", "hirescam"], "segmentation")


class ExplainSegmentationOptions(UncertaintyOptions, MethodOptions, SegmentationInputs):  # type: ignore[valid-type,misc]
    """Lengths in mm, positions in RAS."""

    former_names: ClassVar[Mapping[str, str]] = {
        "mend": "correct",
        "block": "occlusion_mm",
        "stride": "occlusion_stride_mm",
        "batch": "batch_size",
        "constant": "baseline_value",
    }

    layers: list[str] = option(
        [], "Layers", "For methods at a layer; chosen by the engine if empty.", group="Method options"
    )
    baseline: Literal["blurred", "mean", "zero", "constant", "scan"] = option(
        "blurred", "Baseline", "What the scan is compared with where it is hidden.", group="Method options"
    )
    baseline_value: float = baseline_value()
    overlap: float | None = option(
        None, "Overlap", "Of the windows; the model's own if not given.", ge=0, lt=1, advanced=True
    )
    batch_size: int = option(
        0, "Windows per pass", "Windows in one pass; 0 takes the model's own number.", ge=0, le=64, advanced=True
    )
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
