"""Options of the task fit-reference. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from ...core.options import TaskOptions, given, option


class FitReferenceOptions(TaskOptions):
    scans: str = given(
        "folder",
        "Scans",
        "Folder of reference scans or pictures (.nrrd, .nii.gz, .mha, .png, .jpg) or of DICOM series folders; files "
        "that end in _0000, _0001 and so on are channels of one scan.",
    )
    model: str = given("model", "Model", "Any model: a file or folder, or the name of a shipped model.")
    layers: list[str] = option([], "Layers", "Layers of the bottleneck; those that the methods use if empty.")
    statistics: Literal["auto", "channel", "position"] = option(
        "auto",
        "Statistics",
        "channel: one mean and SD for each channel, for scans of any size; position: for each cell too, for scans "
        "that show the same anatomy at the same place; auto: position for five or more scans that the model sees as "
        "one image of one size each.",
    )
    after_relu: bool = option(
        False,
        "After a ReLU",
        "Noise of mean 0, with the deviation of the non-zero activations and never below zero (Demir 2021).",
    )
    maximum_samples: int = option(
        10000,
        "Maximum samples",
        "Slices or windows used at most, spread evenly over the scans and within each.",
        ge=2,
        advanced=True,
    )
    examples: int = option(
        8,
        "Examples",
        "Reference scans that are kept themselves, for Shapley values against healthy scans; 0 keeps none. None are "
        "kept beside a model, which is passed on, and none of models of slices and windows.",
        ge=0,
        le=64,
        advanced=True,
    )
    keep: Literal["cache", "model"] = option(
        "cache",
        "Keep",
        "Where later runs find the result: in the user's cache, or in a folder beside the model's own files.",
        advanced=True,
    )

    former_names: ClassVar[Mapping[str, str]] = {"layer": "layers", "maximum_slices": "maximum_samples"}

    @field_validator("layers", mode="before")
    @classmethod
    def _one_layer(cls, value: Any) -> Any:
        """A single layer, as earlier versions took it."""
        return [name for name in [value] if name] if isinstance(value, str) else value
