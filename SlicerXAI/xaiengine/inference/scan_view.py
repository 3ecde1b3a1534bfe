"""A scan as a classifier or regressor sees it: one sample, or one per slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..core.cancellation import interruptibly
from ..core.errors import InputError, ModelError, OptionError
from ..io.grid import Grid
from ..io.resample import resample
from ..io.volume import Volume, check_volume
from ..models.explained_model import ExplainedModel
from ..targets.targets import BinaryTarget, ClassTarget, Target, checked_output
from .prediction import SLICE_AXIS, check_channels, predict_scan
from .preprocessing import Preprocessed, preprocess
from .scan_reading import doubts

CONFIDENT = 0.5

Shown = Callable[[Volume, ExplainedModel, Callable[[], None]], tuple[Volume, str]]
"""What of a scan a model is shown, and a note for the user (empty where nothing was hidden)."""


@dataclass(frozen=True, eq=False)
class ScanView:
    """A preprocessed scan and what the model says of it.

    ``samples`` (n, C, spatial...) are the slices of a 2D model (along ``axis`` of the prepared grid) or the one
    volume of a 3D model (``axis`` is None). ``outputs`` (n, K) float32 is the model's answer for each. ``note`` says
    what of the scan the model was not shown; it may be empty.
    """

    volume: Volume
    model: ExplainedModel
    prepared: Preprocessed
    axis: int | None
    samples: torch.Tensor
    outputs: torch.Tensor
    note: str = ""

    @property
    def grid(self) -> Grid:
        return self.prepared.grid

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm per spatial axis of a sample."""
        spacing = self.grid.spacing
        return tuple(step for axis, step in enumerate(spacing) if axis != self.axis)

    def volume_of(self, maps: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Maps (m, spatial...) of the samples ``rows`` as one volume (I, J, K), 0 in the slices left out."""
        if self.axis is None:
            return np.asarray(maps[0], dtype=np.float32)
        stack = np.zeros((len(self.samples), *maps.shape[1:]), dtype=np.float32)
        stack[rows] = maps
        return np.ascontiguousarray(np.moveaxis(stack, 0, self.axis))

    def rows_of(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """A volume (I, J, K) on the prepared grid, as maps (m, spatial...) of samples."""
        if self.axis is None:
            return np.asarray(values)[None]
        return np.moveaxis(np.asarray(values), self.axis, 0)[rows]

    def brought(self, values: np.ndarray, grid: Grid, nearest: bool = False) -> np.ndarray:
        """An array (I, J, K) of another grid of the same patient, on the prepared grid."""
        return resample(values, grid, self.grid, "nearest" if nearest else "linear")


def view_scan(
    volume: Volume, model: ExplainedModel, check: Callable[[], None] = lambda: None, *, shown_part: Shown
) -> ScanView:
    """Preprocess a scan and predict it; ``shown_part`` hides what the model was not trained to see.

    ``check`` is called many times a second, and may raise.

    Raises:
        ModelError: a segmentation model, other channels, an answer that is no row of numbers or is not a number.
        InputError: an empty, damaged or too small scan; a 2D image for a 3D model.
    """
    if model.task == "segmentation":
        raise ModelError(
            f"The model {model.name} segments; it has an answer for each voxel.",
            "Use the task explain-segmentation.",
        )
    flat = min(volume.grid.shape) < 2
    if flat and model.spatial_dims == 3:
        raise InputError(
            f"{volume.name} is a two-dimensional image ({volume.grid.describe()}), but {model.name} takes volumes.",
            "Choose a scan with several slices, or a model of slices.",
        )
    for channel in volume.channels_first():
        check_volume(volume.with_array(channel), allow_2d=model.spatial_dims == 2)
    shown, note = shown_part(volume, model, check)
    note = " ".join(filter(None, [*doubts(volume, model), note]))
    prepared = interruptibly(check, preprocess, shown, model.preprocessing())
    check_channels(model, prepared.tensor.shape[0])
    axis = None if model.spatial_dims == 3 else SLICE_AXIS[model.inferer.plane]
    tensor = prepared.tensor
    samples = tensor[None] if axis is None else tensor.movedim(axis + 1, 0).contiguous()
    outputs = checked_output(predict_scan(model, prepared, lambda _count: check()), 0).cpu()
    if not bool(torch.isfinite(outputs).all()):
        raise ModelError(
            f"The model {model.name} gives values that are not numbers for this scan.",
            "Check that the scan is of the kind that the model was made for, and its weights.",
        )
    return ScanView(volume, model, prepared, axis, samples, outputs, note)


def scan_output(view: ScanView) -> torch.Tensor:
    """One answer (1, K) for the whole scan: the mean over its slices."""
    return view.outputs.mean(0, keepdim=True)


def probability_of(target: Target, outputs: torch.Tensor) -> torch.Tensor | None:
    """The probability (n,) of a class target; None for targets that have none."""
    if isinstance(target, ClassTarget) and target.activation != "none":
        return ClassTarget(target.index, target.label, "probability", target.activation).value(outputs)
    if isinstance(target, BinaryTarget):
        return BinaryTarget(target.positive, target.label, "probability").value(outputs)
    return None


def choose_rows(view: ScanView, target: Target, which: str, most: int = 32) -> tuple[np.ndarray, str]:
    """The samples to explain, in ascending order, and a warning (empty if there is nothing to say).

    ``which``: ``all``, ``highest`` (one), ``confident`` (probability of the target at least one half; for other
    targets the highest ones), or a number of a slice. At most ``most`` of the highest, except for ``all``.
    """
    count = len(view.samples)
    values = target.value(view.outputs)
    order = values.argsort(descending=True).numpy()
    if which.lstrip("-").isdigit():
        index = int(which)
        if not 0 <= index < count:
            raise OptionError(
                f"Slice {index} was asked for; the model sees {count} slices.", f"Choose 0 to {count - 1}."
            )
        return np.array([index]), ""
    if which not in ("all", "highest", "confident"):
        raise OptionError(f"The slices {which!r} are not known.", "Use confident, highest, all, or a slice number.")
    if which == "all" or count == 1:
        return np.arange(count), ""
    if which == "highest":
        return order[:1], ""
    probability = probability_of(target, view.outputs)
    if probability is None:
        return np.sort(order[:most]), ""
    confident = int((probability >= CONFIDENT).sum())
    if not confident:
        return order[:1], (
            f"The model gives no slice a {target.name.split(' of ')[-1]} probability of {CONFIDENT:.0%} or more (the "
            f"highest is {float(probability.max()):.1%}); that slice is explained."
        )
    if confident > most:
        return np.sort(order[:most]), f"{confident} slices are called so; the {most} highest are explained."
    return np.sort(order[:confident]), ""
