"""The engine's own settings of a model, ``configs/explanation.json``."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import ModelError
from ..core.job import explain
from .explained_model import Inferer, ModelTask

SETTINGS_FILE = "configs/explanation.json"
NNUNET_SETTINGS_FILE = "explanation.json"


class InferenceSettings(BaseModel):
    """How the network sees a scan; see :class:`Inferer`."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["whole", "slices", "sliding_window"] = "whole"
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    roi_size: list[int] = Field(default_factory=list, max_length=3)
    overlap: float = Field(0.25, ge=0, lt=1)
    blending: Literal["constant", "gaussian"] = "constant"
    sigma_scale: float = Field(0.125, gt=0)
    sw_batch_size: int = Field(1, ge=1, le=64)
    padding_mode: str = "constant"
    cval: float = 0.0

    def inferer(self) -> Inferer:
        return Inferer(**{**self.model_dump(), "roi_size": tuple(self.roi_size)})


class ExplanationSettings(BaseModel):
    """What explaining needs to know and the model's other files do not say. Every entry may be left out.

    ``layers`` are names or wildcards of layers that suit an explanation, the default first. ``defaults`` holds
    options per task. ``reference`` names a file with the statistics of the layers over reference images. ``folds``
    and ``mirroring`` are for nnU-Net: which folds are averaged (none: all), and whether over mirrored inputs too.
    ``output`` names the prediction (a key or a number) among several tensors that the network returns; ``passes`` is
    how many passes with fixed seeds are averaged where the network's output is random.
    ``axis_order`` is the order in which a 2D network takes the axes of pictures and slices: "rows_first" (height,
    width) as PyTorch and torchvision, "columns_first" as MONAI.
    ``grading`` names the scale by which the extent of what the model finds may be graded: "covid-19" (CT-0 to CT-4),
    for models of that disease alone.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    task: Literal["classification", "multilabel", "regression", "segmentation"] | None = None
    labels: list[str] = Field(default_factory=list)
    target: str = ""
    activation: Literal["softmax", "sigmoid", "none"] | None = None
    inference: InferenceSettings | None = None
    layers: list[str] = Field(default_factory=list)
    defaults: dict[str, dict[str, Any]] = Field(default_factory=dict)
    reference: str = ""
    channel_names: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    folds: list[int | Literal["all"]] = Field(default_factory=list)
    mirroring: bool = False
    output: str | int = ""
    axis_order: Literal["rows_first", "columns_first"] | None = None
    passes: int = Field(0, ge=0, le=256)
    grading: Literal["", "covid-19"] = ""

    @classmethod
    def parse(cls, text: str, file: str) -> ExplanationSettings:
        """Settings from JSON. Raises ModelError naming every entry that does not fit."""
        try:
            return cls.model_validate(json.loads(text))
        except json.JSONDecodeError as error:
            raise ModelError(f"{file} is not valid JSON: {error}.", "Correct the file.") from error
        except RecursionError:
            raise ModelError(f"{file} is nested too deeply.", "Correct the file.") from None
        except ValidationError as error:
            raise ModelError(
                f"{file} does not fit: {explain(error)}.", f"It may hold {', '.join(cls.model_fields)}."
            ) from error


def usual_activation(task: ModelTask, outputs: int) -> Literal["softmax", "sigmoid", "none"]:
    """The activation that goes with a task when nothing says otherwise."""
    if task == "regression":
        return "none"
    return "sigmoid" if task == "multilabel" or outputs == 1 else "softmax"
