"""Options of the task dissect. Light to import."""

from __future__ import annotations

from typing import Literal

from ...core.options import TaskOptions, given, option


class DissectOptions(TaskOptions):
    images: str = given(
        "folder",
        "Images",
        "Folder of images or volumes; or a folder with the subfolders images and masks.",
    )
    model: str = given("model", "Model", "The model to be dissected: a MONAI bundle, or the name of a shipped model.")
    masks: str = given(
        "folder",
        "Masks",
        "Folder of concept masks with the images' names: .seg.nrrd, label maps, or a subfolder for each concept. "
        "The subfolder masks, or the images' own folder, if empty.",
        required=False,
        default="",
    )
    pairs: str = given(
        "file",
        "List of pairs",
        "CSV with the columns image, mask and, for masks of one concept, concept. Instead of equal names.",
        required=False,
        default="",
    )
    boxes: str = given(
        "file",
        "Boxes",
        "CSV with the columns image, concept, x0, y0, x1, y1 and, in volumes, z0, z1.",
        required=False,
        default="",
    )
    labels: str = given(
        "file",
        "Names of labels",
        "CSV with the columns value and name, for label maps. labels.csv beside the images, if empty.",
        required=False,
        default="",
    )
    second_model: str = given(
        "model",
        "Second model",
        "Another model or checkpoint to be compared. May be empty.",
        required=False,
        default="",
    )
    earlier: str = given(
        "file",
        "Earlier dissection",
        "A dissection (.safetensors) to compare with. May be empty.",
        required=False,
        default="",
    )
    layers: list[str] = option([], "Layers", "Layers by name; the last one with positions if empty.")
    second_layers: list[str] = option([], "Layers of the second model", "The same names if empty.", advanced=True)
    concepts: list[str] = option([], "Concepts", "Concepts by name or code; all that the masks hold if empty.")
    naming: Literal["name", "terminology"] = option(
        "name", "Concepts are named by", "The segment's name, or its terminology."
    )
    box_unit: Literal["pixels", "mm"] = option(
        "pixels",
        "Unit of boxes",
        "Both are counted from the image's first border; x along columns, y along rows.",
    )
    without_masks: Literal["leave out", "nothing there"] = option(
        "leave out", "Images without masks", "Left out, or taken as free of every concept."
    )
    quantile: float = option(0.99, "Quantile", "Of each unit's activations, above which it is on.", ge=0.5, le=0.9999)
    least_iou: float = option(0.04, "Minimum IoU", "Of a detector.", gt=0, lt=1)
    clusters: int = option(
        0,
        "Clusters",
        "Groups of units found without masks. 0 looks for 12, and only where there are no masks.",
        ge=0,
        le=200,
    )
    cluster_method: Literal["factorisation", "kmeans"] = option(
        "factorisation",
        "Clusters by",
        "Non-negative factorisation, or k-means of the units' profiles.",
        advanced=True,
    )
    draws: int = option(200, "Draws", "Of images, for the intervals; 0 for none.", ge=0, le=10000, advanced=True)
    rolls: int = option(
        20,
        "Circular shifts",
        "Of the masks, for what chance gives; 0 for none.",
        ge=0,
        le=1000,
        advanced=True,
    )
    most_slices: int = option(
        64, "Maximum slices", "Of each volume, for models of slices; 0 takes all.", ge=0, advanced=True
    )
    sheet_units: int = option(16, "Units in the picture", "Detectors shown with their images.", ge=0, le=64)
    keep: bool = option(True, "Keep", "Keep the dissection for explain-semantics with this model.", advanced=True)
