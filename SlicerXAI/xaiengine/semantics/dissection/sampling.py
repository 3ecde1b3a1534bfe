"""An image as samples of a network: itself, its slices, or tiles of it, and the masks cut in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from ...core.errors import InputError
from ...inference.prediction import SLICE_AXIS, check_channels
from ...inference.preprocessing import Preprocessed, preprocess
from ...inference.scan_reading import read_for_model
from ...io.grid import Grid
from ...io.volume import Volume, check_volume
from ...lesions.lungs.lungs_alone import lungs_alone
from ...models.explained_model import ExplainedModel


def read_scan(path: Path | str, model: ExplainedModel) -> Volume:
    """An image as the model takes it: pictures and single DICOM images for models of flat images, else volumes."""
    return read_for_model(model, path)


@dataclass(frozen=True, eq=False)
class Samples:
    """``tensor`` (n, C, spatial...) and where each sample lies in the prepared grid, as slices (I, J, K)."""

    tensor: torch.Tensor
    places: tuple[tuple[slice, slice, slice], ...]
    axis: int | None

    def cut(self, mask: np.ndarray, sample: int) -> np.ndarray:
        """A mask (I, J, K) on the prepared grid, as (spatial...) of one sample."""
        part = mask[self.places[sample]]
        return part if self.axis is None else np.take(part, 0, axis=self.axis)


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image on its way through the network."""

    volume: Volume
    prepared: Preprocessed
    samples: Samples

    @property
    def grid(self) -> Grid:
        return self.prepared.grid

    def masks_of(self, masks: Mapping[int, np.ndarray], sample: int) -> dict[int, np.ndarray]:
        """The masks that touch a sample."""
        cut = {number: self.samples.cut(mask, sample) for number, mask in masks.items()}
        return {number: mask for number, mask in cut.items() if mask.any()}


def prepare_image(volume: Volume, model: ExplainedModel, most_slices: int = 0) -> PreparedImage:
    """Preprocess an image and cut it into samples; of the slices of a volume at most ``most_slices``, evenly spread.

    Raises:
        InputError: the image is empty or damaged, or flat where the model takes volumes.
        ModelError: the model takes other channels.
    """
    if model.spatial_dims == 3 and min(volume.grid.shape) < 2:
        raise InputError(
            f"{volume.name} is a two-dimensional image ({volume.grid.describe()}), but {model.name} takes volumes.",
            "Give volumes, or choose a model of slices.",
        )
    for channel in volume.channels_first():
        check_volume(volume.with_array(channel), allow_2d=model.spatial_dims == 2, smallest_voxel_count=1)
    shown, _ = lungs_alone(volume, model)
    prepared = preprocess(shown, model.preprocessing())
    check_channels(model, prepared.tensor.shape[0])
    if model.spatial_dims == 2:
        return PreparedImage(volume, prepared, _slices(prepared, SLICE_AXIS[model.inferer.plane], most_slices))
    if model.inferer.kind == "sliding_window" and model.inferer.roi_size:
        return PreparedImage(volume, prepared, _tiles(prepared, model.inferer.roi_size))
    whole = tuple(slice(0, size) for size in prepared.grid.shape)
    return PreparedImage(volume, prepared, Samples(prepared.tensor[None], (whole,), None))


def _slices(prepared: Preprocessed, axis: int, most: int) -> Samples:
    count = prepared.grid.shape[axis]
    chosen = np.arange(count)
    if most and count > most:
        chosen = np.unique(np.linspace(0, count - 1, most).round().astype(int))
    tensor = prepared.tensor.movedim(axis + 1, 0)[chosen].contiguous()
    everything = [slice(0, size) for size in prepared.grid.shape]
    places = []
    for number in chosen:
        place = list(everything)
        place[axis] = slice(int(number), int(number) + 1)
        places.append(tuple(place))
    return Samples(tensor, tuple(places), axis)


def _tiles(prepared: Preprocessed, size: tuple[int, ...]) -> Samples:
    """Windows side by side; the last along an axis is moved inwards."""
    shape = prepared.grid.shape
    size = tuple(wanted if wanted > 0 else extent for wanted, extent in zip(size, shape))
    if any(extent < wanted for wanted, extent in zip(size, shape)):
        raise InputError(
            f"After preprocessing the image has {shape} voxels, fewer than the window of the model, {size}.",
            "Give larger images.",
        )
    starts = [sorted({*range(0, extent - wanted + 1, wanted), extent - wanted}) for wanted, extent in zip(size, shape)]
    places = tuple(
        tuple(slice(start, start + wanted) for start, wanted in zip(corner, size)) for corner in product(*starts)
    )
    tensor = torch.stack([prepared.tensor[(slice(None), *place)] for place in places])
    return Samples(tensor, places, None)
