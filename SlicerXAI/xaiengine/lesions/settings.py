"""How lesions are located and cut out: a model's own settings, changed by what the user asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import ModelError, OptionError
from ..core.job import explain
from ..core.options import TaskOptions

if TYPE_CHECKING:
    from ..models.explained_model import ExplainedModel

TASK = "quantify-lesions"
METHODS = ("iba", "inverse-iba", "grad-cam", "grad-cam++")


class MethodSettings(BaseModel):
    """What belongs to one method of locating lesions.

    ``healthy`` maps a share of healthy lung to the density that only this share exceeds: bits per cm² of slice for
    the bottlenecks, the maps' own unit for CAMs. It comes from lesion-free scans.
    """

    model_config = ConfigDict(extra="forbid")

    layer: str = ""
    healthy: dict[float, float] = Field(default_factory=dict)
    healthy_fraction: float = Field(0.01, gt=0, lt=1)

    def threshold(self, fraction: float) -> float:
        """Density that a share of healthy lung exceeds, by log-linear interpolation.

        Raises OptionError outside the calibrated range.
        """
        shares = np.array(sorted(self.healthy))
        if not len(shares):
            raise OptionError(
                "The model brings no calibration on healthy scans for this method.",
                "Use the threshold method otsu or absolute.",
            )
        if not shares[0] * 0.999 <= fraction <= shares[-1] * 1.001:
            raise OptionError(
                f"The healthy fraction is {fraction:g}; calibrated were {shares[0]:g} to {shares[-1]:g}.",
                "Choose a share in this range, or an absolute threshold.",
            )
        return float(np.interp(np.log(fraction), np.log(shares), [self.healthy[share] for share in shares]))


class LesionSettings(BaseModel):
    """All settings of one run; the defaults are those of a model that brings none."""

    model_config = ConfigDict(extra="forbid")

    method: Literal["iba", "inverse-iba", "grad-cam", "grad-cam++"] = "iba"
    objective: Literal["cross-entropy", "logit"] = "cross-entropy"
    methods: dict[str, MethodSettings] = Field(default_factory=dict)
    beta: float | None = Field(None, gt=0)
    schedule: Literal["converged", "reference"] = "converged"
    minimum_probability: float = Field(0.5, ge=0, le=1)
    sure_probability: float = Field(0.0, ge=0, le=1)
    minimum_extent: float = Field(0.0, ge=0, le=50)
    minimum_volume: float = Field(0.3, ge=0)
    relative_peak: float = Field(0.0, ge=0, le=1)
    denser_than: float = Field(-1024.0, ge=-1024, le=300)
    growth: float = Field(0.0, ge=0, le=50)
    closing: float = Field(0.0, ge=0, le=50)
    smoothing: float = Field(1.0, ge=0, le=10)
    threshold_method: Literal["calibrated", "otsu", "absolute"] = "calibrated"
    threshold: float | None = Field(None, gt=0)
    healthy_fraction: float | None = Field(None, gt=0, lt=1)
    layer: str = ""
    outside_lungs: float | None = Field(None, ge=-1024, le=3071)
    """What the model sees outside the lungs, in HU, where it was trained on lungs alone; None: the scan as it is."""

    training_scans: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Ranges of the training scans by measure, see :data:`.scan_likeness.MEASURES`; empty where no one knows."""

    @property
    def chosen(self) -> MethodSettings:
        return self.methods.get(self.method, MethodSettings())

    @property
    def is_bottleneck(self) -> bool:
        return self.method.endswith("iba")

    @property
    def fraction(self) -> float:
        return self.healthy_fraction if self.healthy_fraction is not None else self.chosen.healthy_fraction

    def layer_of(self, model: ExplainedModel) -> str:
        """The layer asked for, else the method's, else the first that the model recommends."""
        name = self.layer or self.chosen.layer or (model.layers[0] if model.layers else "")
        if not name:
            raise OptionError(
                f"The model {model.name} names no layer for its explanations.",
                "Choose one with the option layer; 'xaiengine inspect' lists them.",
            )
        return name


def lesion_settings(model: ExplainedModel, options: TaskOptions) -> LesionSettings:
    """The model's settings for this task, with the user's in their place where he gave any.

    Raises ModelError when the model's own are wrong, OptionError when options contradict one another.
    """
    asked = _asked_for(options)
    settings = model_settings(model, asked)
    if settings.threshold_method == "absolute" and settings.threshold is None:
        raise OptionError("An absolute threshold was asked for, but none was given.", "Give the option threshold.")
    if settings.threshold is not None and settings.threshold_method != "absolute":
        raise OptionError(
            f"A threshold of {settings.threshold:g} bits/voxel was given with method {settings.threshold_method}.",
            "Set threshold_method to absolute, or leave the threshold out.",
        )
    layer = asked.get("layer", "")
    if layer and settings.threshold_method == "calibrated" and layer != settings.chosen.layer:
        raise OptionError(
            f"The calibration belongs to the layer {settings.chosen.layer or '(none)'}, not to {layer}.",
            "Use the threshold method otsu or absolute with another layer.",
        )
    return settings


def model_settings(model: ExplainedModel, changes: Mapping[str, Any] | None = None) -> LesionSettings:
    """The model's own settings for this task, with some of them changed. Raises ModelError when they are wrong."""
    try:
        return LesionSettings.model_validate({**model.defaults.get(TASK, {}), **(changes or {})})
    except ValidationError as error:
        raise ModelError(
            f"The settings of {model.name} for {TASK} are wrong: {explain(error)}.",
            "Correct its configs/explanation.json.",
        ) from error


def _asked_for(options: TaskOptions) -> dict[str, Any]:
    """Options that the user has set; an open option (None, "" or "model") leaves the model's own."""
    names = LesionSettings.model_fields.keys() & type(options).model_fields.keys()
    asked = {name: getattr(options, name) for name in names if name in options.model_fields_set}
    return {name: value for name, value in asked.items() if value not in (None, "", "model")}
