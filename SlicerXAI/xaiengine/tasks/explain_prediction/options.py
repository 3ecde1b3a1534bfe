"""Options of the task explain-prediction. Light to import."""

from __future__ import annotations

from typing import Literal

from ...core.options import TaskOptions, given, option
from ..method_options import MethodOptions, methods_option
from ..prediction_options import (
    MODEL_TEXT,
    ExplainedOutputOptions,
    Score,
    baseline_value,
    channels_option,
    series_option,
)
from ..uncertainty_options import UncertaintyOptions


class PredictionInputs(TaskOptions):
    volume: str = given(
        "volume",
        "Scan",
        "The scan or picture: .nrrd, .nii.gz, .mha, .png, .jpg, a DICOM X-ray or folder.",
    )
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
    channels: list[str] = channels_option()
    series: str = series_option()
    at: Literal["whole", "point", "box", "segment", "sliding"] = option(
        "whole",
        "Patch at",
        "For models of 3D patches: where patches are cut from the scan; whole gives the model the scan itself.",
        group="Patches",
    )
    where: str = option(
        "",
        "Where",
        "Point R,A,S in mm or a markups file; box R,A,S,R,A,S; the name of a segment (all segments if empty).",
        group="Patches",
    )
    patch_size: list[int] = option(
        [], "Patch size", "Of patches, three numbers of voxels; the model's own if empty.", group="Patches"
    )
    methods: list[str] = methods_option(["iba"], "classification")


class ExplainPredictionOptions(UncertaintyOptions, MethodOptions, ExplainedOutputOptions, PredictionInputs):  # type: ignore[valid-type,misc]
    score: Score = option(
        "logit", "Score", "What of a class is explained by methods other than the bottlenecks.", advanced=True
    )
    layers: list[str] = option([], "Layers", "Layers by name; chosen automatically if empty.", advanced=True)
    baseline: Literal["auto", "blurred", "mean", "minimum", "zero", "constant", "scan"] = option(
        "auto",
        "Baseline",
        "What stands for no information; auto takes the first of blurred, mean and minimum (air) that takes the "
        "prediction away.",
        group="Baseline",
    )
    baseline_value: float = baseline_value()
    regions_from: Literal["supervoxels", "segments"] = option(
        "supervoxels", "Regions", "Regions of ablation, Shapley, KernelShap and LIME.", group="Regions"
    )
    extra_maps: bool = option(
        False, "Additional maps", "Also write variance maps, standard errors and the maps of other layers."
    )
    batch_size: int = option(0, "Batch size", "Inputs per pass; 0 takes what memory allows.", ge=0, advanced=True)
