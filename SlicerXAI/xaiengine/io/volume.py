"""Volumes: an array of voxel values together with its place in the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from .grid import Grid

SMALLEST_VOXEL_COUNT = 2000
LARGEST_VALUE = 1e15
"""Values beyond this are no measurement, and overflow where a network sums them."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values on a grid, or ``Volume(array, affine)`` with the matrix from voxel indices to RAS mm.

    ``array`` is (I, J, K), or (C, I, J, K) with channels first; ``unit`` is the unit of the values where it
    is known ("HU", "bits"). ``source`` is the file or folder it was read from.
    ``picture`` marks a two-dimensional image, (I, J, 1) with i to the right and j down; None leaves it open, False is
    a slice of a volume. ``notes`` are what the reader had to assume, for the user. ``dicom`` holds the identifiers
    of a DICOM image (StudyInstanceUID, SeriesInstanceUID, FrameOfReferenceUID, Modality), as far as it has them.
    """

    array: np.ndarray
    grid: Grid
    name: str = ""
    unit: str = ""
    source: Path | None = None
    picture: bool | None = None
    notes: tuple[str, ...] = ()
    dicom: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            object.__setattr__(self, "grid", Grid(np.shape(self.array)[-3:], np.asarray(self.grid)))
        if self.array.ndim not in (3, 4) or tuple(self.array.shape[-3:]) != self.grid.shape:
            raise InputError(
                f"The voxel array of {self.name or 'the volume'} has the shape {tuple(self.array.shape)}, "
                f"but its grid has {self.grid.shape}.",
                "Pass an array (I, J, K) or (C, I, J, K) that matches the grid.",
            )

    @property
    def channels(self) -> int:
        """Number of values per voxel."""
        return self.array.shape[0] if self.array.ndim == 4 else 1

    def channels_first(self) -> np.ndarray:
        """The array as (C, I, J, K), without copying."""
        return self.array if self.array.ndim == 4 else self.array[None]

    def with_array(self, array: np.ndarray, name: str | None = None, unit: str | None = None) -> Volume:
        """Other values on the same grid; name and unit stay unless given."""
        return replace(
            self,
            array=array,
            name=self.name if name is None else name,
            unit=self.unit if unit is None else unit,
        )


def check_volume(volume: Volume, *, allow_2d: bool = False, smallest_voxel_count: int = SMALLEST_VOXEL_COUNT) -> None:
    """Refuse a volume that no model can say anything sensible about.

    Raises:
        InputError: it is two-dimensional, tiny, holds values that are not numbers, or is the same everywhere.
    """
    name = volume.name or "The volume"
    array = volume.array
    if array.dtype.kind not in "buif":
        raise InputError(
            f"{name} holds values of type {array.dtype}; real numbers were expected.",
            "Choose a scalar volume.",
        )
    if min(volume.grid.shape) < 2 and not allow_2d:
        raise InputError(
            f"{name} is a two-dimensional image ({volume.grid.describe()}); a volume was expected.",
            "Choose a scan with several slices.",
        )
    if not allow_2d and volume.grid.voxel_count < smallest_voxel_count:
        raise InputError(
            f"{name} is too small: {volume.grid.describe()}; at least {smallest_voxel_count} voxels were expected.",
            "Choose the whole scan.",
        )
    if array.dtype.kind == "f":
        invalid = array.size - int(np.count_nonzero(np.isfinite(array)))
        if invalid:
            raise InputError(
                f"{name} holds {invalid} values that are not numbers (NaN or infinite) of {array.size}.",
                "Replace them, for example by the value of air, and save the volume again.",
            )
    lowest, highest = array.min(), array.max()
    if max(abs(float(lowest)), abs(float(highest))) > LARGEST_VALUE:
        raise InputError(
            f"{name} holds values from {float(lowest):.3g} to {float(highest):.3g}, which no scanner measures.",
            "The file is damaged or its value type is wrong: export the scan again.",
        )
    if lowest == highest:
        raise InputError(
            f"{name} is empty: every voxel has the value {lowest}.", "Choose a volume that holds an image."
        )
