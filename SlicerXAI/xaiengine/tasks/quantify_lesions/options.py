"""Options of the task quantify-lesions. Light to import."""

from __future__ import annotations

from typing import Literal

from ...core.options import TaskOptions, given, option
from ..prediction_options import series_option

Method = Literal["model", "iba", "inverse-iba", "grad-cam", "grad-cam++"]


class QuantifyLesionsOptions(TaskOptions):
    """Options left at None are the model's own (its ``configs/explanation.json``)."""

    volume: str = given("volume", "CT", "Chest CT in Hounsfield units: .nrrd, .nii.gz, .mha or a DICOM folder.")
    series: str = series_option()
    model: str = given(
        "model",
        "Model",
        "Slice classifier: a MONAI bundle (folder or .zip) or the name of a shipped model.",
        required=False,
        default="lung_lesion_slice_classifier",
    )
    lungs: str = given(
        "segmentation",
        "Lungs or lobes",
        "Segmentation of the lungs or of their lobes, by which the burden is given. Found in the CT if empty.",
        required=False,
        default="",
    )
    reference: str = given(
        "segmentation",
        "Reference lesions",
        "Known lesions with which the found ones are compared. May be empty.",
        required=False,
        default="",
    )
    target: str = option("", "Target", "Output of the model that means lesion; the model's own if empty.")
    method: Method = option(
        "model",
        "Method",
        "How lesions are located: as the model's settings say (model), by the information bottleneck (iba), "
        "by its inverse, or by Grad-CAM for comparison.",
    )
    layer: str = option("", "Layer", "Layer of the bottleneck; the model's own if empty.", advanced=True)
    schedule: Literal["converged", "reference"] = option(
        "converged",
        "Schedule",
        "converged: until the map stops changing; reference: the ten steps of the published method.",
        advanced=True,
    )
    minimum_probability: float | None = option(
        None, "Minimum probability", "Slices that the model calls lesion with less than this stay empty.", ge=0, le=1
    )
    sure_probability: float | None = option(
        None,
        "Sure probability",
        "A run of neighboring slices is explained if its best slice reaches this.",
        ge=0,
        le=1,
        advanced=True,
    )
    minimum_extent: float | None = option(
        None, "Minimum extent", "Runs of slices that are thinner than this stay empty.", unit="mm", ge=0, advanced=True
    )
    threshold_method: Literal["calibrated", "otsu", "absolute"] = option(
        "calibrated",
        "Threshold",
        "calibrated: what healthy lung hardly ever reaches; otsu: by the map's histogram; absolute: as given.",
    )
    threshold: float | None = option(
        None, "Absolute threshold", "Used with the absolute threshold only.", unit="bits/voxel", gt=0
    )
    healthy_fraction: float | None = option(
        None,
        "Healthy fraction",
        "Share of healthy lung that may exceed the calibrated threshold.",
        gt=0,
        lt=0.5,
        advanced=True,
    )
    minimum_volume: float | None = option(
        None, "Minimum volume", "Smaller components are not lesions.", unit="mL", ge=0
    )
    relative_peak: float | None = option(
        None,
        "Relative peak",
        "Parts whose strongest voxel stays below this share of the strongest in the scan are no lesions.",
        ge=0,
        le=1,
        advanced=True,
    )
    denser_than: float | None = option(
        None,
        "Denser than",
        "Limit lesions to tissue denser than this; -1024 switches the limit off.",
        unit="HU",
        ge=-1024,
        le=300,
    )
    repeats: int = option(1, "Repeats", "Runs with other seeds, for the spread of the burden.", ge=1, le=20)
    beta: float | None = option(
        None, "Beta", "Weight of the information term in the bottleneck's loss.", gt=0, advanced=True
    )
    memory: float = option(4.0, "Memory", "What the run may use at most.", unit="GB", gt=0.5, advanced=True)
