"""A scan as a segmentation model sees it, and what the model predicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ModelError, XAIError
from ..io.grid import Grid
from ..io.resample import resample
from ..io.volume import Volume, check_volume
from ..models.explained_model import ExplainedModel
from ..targets.segmentation_targets import OutputForm, output_form, predicted_masks
from .preprocessing import Preprocessed, preprocess
from .scan_reading import doubts, read_for_model
from .window_layout import WindowLayout, lay_windows
from .window_output import WindowNetwork
from .windows import WindowedModel

RAS_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
DIVISORS = (1, 8, 16, 32)
"""Tried in turn for networks that halve their input and cannot take every size."""


@dataclass(frozen=True, eq=False)
class PredictedScan:
    """A scan with a model's prediction, all that methods need.

    ``image`` (1, C, I, J, K) is on ``grid``, which the preprocessing made from ``volume.grid``. ``output``
    (1, K, I, J, K) is the blended output, ``masks`` (K, I, J, K) what is predicted. ``seconds_per_window`` is that of
    one forward pass.
    """

    volume: Volume
    model: ExplainedModel
    module: WindowNetwork
    windows: WindowedModel
    prepared: Preprocessed
    image: Tensor
    output: Tensor
    masks: Tensor
    form: OutputForm
    seconds_per_window: float

    @property
    def grid(self) -> Grid:
        return self.prepared.grid

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each output channel; a single one has the name of the last label."""
        channels = self.output.shape[1]
        names = self.model.labels
        if channels == 1:
            return (names[-1] if names else "structure",)
        return tuple(names[n] if n < len(names) else f"class {n}" for n in range(channels))

    @property
    def background(self) -> int | None:
        """The channel that means nothing in particular: the first of softmax models."""
        return 0 if self.form != "sigmoid" and self.output.shape[1] > 1 else None

    def on_grid(self, array: np.ndarray) -> Tensor:
        """A mask (I, J, K) of the scan's own grid, on the grid that the network sees."""
        moved = resample(array.astype(np.uint8), self.volume.grid, self.grid, "nearest")
        return torch.from_numpy(np.ascontiguousarray(moved > 0)).to(self.image.device)


def read_channels(first: str, others: Sequence[str], model: ExplainedModel, series_uid: str = "") -> Volume:
    """The scan, with further channels (other MR sequences of the same patient) resampled onto the first.

    Raises:
        InputError: another number of channels than the model takes, or scans that do not overlap.
    """
    volume = read_for_model(model, first, others, series_uid)
    flat = min(volume.grid.shape) < 2
    for channel in volume.channels_first():
        check_volume(volume.with_array(channel), allow_2d=flat and model.spatial_dims == 2)
    return volume


def segmenter(model: ExplainedModel) -> ExplainedModel:
    """The model itself if it gives an output per voxel. Raises ModelError saying what it is instead."""
    if model.task != "segmentation":
        raise ModelError(
            f"The model {model.name} does {model.task}; a segmentation model is expected.",
            "Explain it with the task explain-prediction, or correct the task in its configs/explanation.json.",
        )
    return model


def predict_scan(
    volume: Volume,
    model: ExplainedModel,
    *,
    overlap: float | None = None,
    batch_size: int | None = None,
    on_windows: Callable[[int], None] = lambda count: None,
    plan: Callable[[int], None] = lambda windows: None,
    warn: Callable[[str], None] = lambda text: None,
) -> PredictedScan:
    """Preprocess a scan and run the model over it.

    ``plan`` is told the number of windows before the first of them runs.

    Raises:
        ModelError: the network cannot take this scan, or gives no output per voxel.
    """
    for text in doubts(volume, model):
        warn(text)
    prepared = preprocess(volume, model.preprocessing())
    image = prepared.tensor[None].to(model.device)
    module = WindowNetwork(model.network, model.select_output)
    inferer = model.inferer if overlap is None else replace(model.inferer, overlap=overlap)
    slice_axis = prepared.grid.index_axis(RAS_AXES[inferer.plane])
    batch = batch_size or (inferer.sw_batch_size if model.capabilities.free_batch else 1)
    layout, windows = None, None
    for divisor in DIVISORS:
        layout = lay_windows(
            image.shape[2:], inferer, model.spatial_dims, slice_axis, model.device, divisible_by=divisor
        )
        windows = WindowedModel(module, layout, batch)
        problem = _trial(windows, image)
        if problem is None:
            break
    else:
        raise ModelError(
            f"The network cannot take windows of {_text(layout.window_size)} voxels: {problem}.",
            "Give the window size that it was trained with (inference in configs/explanation.json).",
        ) from problem
    if divisor > 1:
        padded = _text(layout.padded_size)
        warn(f"The network takes sizes divisible by {divisor} only: the scan was padded to {padded}.")
    windows.on_windows = on_windows
    plan(layout.count)
    start = time.perf_counter()
    output = windows.predict(image)
    seconds = (time.perf_counter() - start) / layout.count
    form, note = output_form(output, model.activation)
    if note:
        warn(note)
    return PredictedScan(
        volume, model, module, windows, prepared, image, output, predicted_masks(output, form), form, seconds
    )


def _trial(windows: WindowedModel, image: Tensor) -> Exception | None:
    """What goes wrong with the first window; None if nothing does."""
    try:
        with torch.no_grad():
            windows.run(windows.crop(windows.padded(image), [0]))
    except (XAIError, torch.OutOfMemoryError, MemoryError):
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        if "memory" in str(error).lower():
            raise
        return error
    return None


def _text(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def window_text(layout: WindowLayout) -> str:
    """The windows in words."""
    return f"{layout.count} window{'s' if layout.count > 1 else ''} of {_text(layout.window_size)} voxels"
