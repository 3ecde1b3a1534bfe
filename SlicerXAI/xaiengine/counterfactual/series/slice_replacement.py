"""One slice of a scan as a generator's image, and images put back into the scan, in place and geometry.

A generator's image (C, I, J) is always seen as radiologists look at the plane: its first axis runs to the
patient's left (sagittal: to the back), its second one to the back (axial) or to the feet, whatever the order
and direction of the scan's axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...core.errors import InputError, OptionError
from ...io.grid import Grid
from ...io.resample import resample
from ...io.volume import Volume

PLANE_NORMAL = {"sagittal": 0, "coronal": 1, "axial": 2}
_PICTURE_AXES = {"axial": ((0, -1), (1, -1)), "coronal": ((0, -1), (2, -1)), "sagittal": ((1, -1), (2, -1))}
"""RAS axis and sign in which an image's first and second axis run."""


@dataclass(frozen=True, eq=False)
class SliceFrame:
    """Where a generator's square image of ``size`` pixels lies in a scan: slice ``index`` across index axis
    ``axis``.

    ``window`` are the scan's values that the image's -1 and 1 stand for; ``pixel`` is the size in mm of the
    generator's pixels, None if it takes images of any size. The image covers the whole slice;
    where the slice is not square, its rim lies outside and is filled with the lower end of the window.
    """

    scan: Volume
    plane: str
    axis: int
    index: int
    size: int
    window: tuple[float, float]
    pixel: tuple[float, float] | None = None

    @property
    def slice_grid(self) -> Grid:
        """The scan's own voxels of the slice: one voxel thick."""
        start, shape = [0, 0, 0], list(self.scan.grid.shape)
        start[self.axis], shape[self.axis] = self.index, 1
        return self.scan.grid.cropped(start, shape)

    @property
    def image_grid(self) -> Grid:
        """The grid (I, J, 1) of the generator's image."""
        grid = self.slice_grid
        axes, signs = _picture_axes(grid, self.plane, self.axis)
        pixel = self.pixel or (max(grid.shape[axis] * grid.spacing[axis] for axis in axes) / self.size,) * 2
        steps = [grid.directions[:, axis] * sign * step for axis, sign, step in zip(axes, signs, pixel)]
        affine = np.eye(4)
        affine[:3, :2] = np.stack(steps, 1)
        affine[:3, 2] = grid.affine[:3, self.axis]
        affine[:3, 3] = grid.center - (self.size - 1) / 2 * (steps[0] + steps[1])
        return Grid((self.size, self.size, 1), affine)

    def own_values(self) -> np.ndarray:
        """The slice's voxels (C, ...), one voxel thick."""
        return self.scan.channels_first()[self._where()]

    def image(self) -> torch.Tensor:
        """The slice as the generator's image (C, I, J), window mapped to -1..1 and clipped."""
        low, high = self.window
        values = self.own_values().astype(np.float32)
        moved = resample(values, self.slice_grid, self.image_grid, "linear", low, antialias=True)[..., 0]
        scaled = np.clip((moved - low) / (high - low) * 2 - 1, -1, 1)
        return torch.from_numpy(np.ascontiguousarray(scaled, dtype=np.float32))

    def values(self, image: torch.Tensor | np.ndarray) -> np.ndarray:
        """The image (C, I, J) in the scan's values on the image's grid, (C, I, J, 1)."""
        low, high = self.window
        return (np.asarray(image, dtype=np.float32)[..., None] + 1) / 2 * (high - low) + low

    def on_slice(self, image: torch.Tensor | np.ndarray) -> np.ndarray:
        """The image in the scan's values on the slice's own voxels, (C, ...) one voxel thick.

        Where the image does not reach, the scan's own values stay.
        """
        moved = resample(self.values(image), self.image_grid, self.slice_grid, "linear", np.nan)
        return np.where(np.isnan(moved), self.own_values(), moved)

    def difference_on_slice(self, difference: torch.Tensor | np.ndarray) -> np.ndarray:
        """A difference of two images, in the scan's unit on the slice's own voxels, (C, ...) one voxel thick."""
        low, high = self.window
        scaled = np.asarray(difference, dtype=np.float32)[..., None] * ((high - low) / 2)
        return resample(scaled, self.image_grid, self.slice_grid, "linear", 0.0)

    def mask_on_slice(self, mask: torch.Tensor | np.ndarray) -> np.ndarray:
        """A mask (1, I, J) in 0..1 on the slice's own voxels, (1, ...) one voxel thick."""
        values = np.asarray(mask, dtype=np.float32)[..., None]
        return resample(values, self.image_grid, self.slice_grid, "linear", 0.0)

    def mask_image(self, mask: np.ndarray, grid: Grid) -> torch.Tensor:
        """A mask (I, J, K) bool on any grid of the patient, on the generator's image, (I, J) bool."""
        moved = resample(mask.astype(np.float32), grid, self.image_grid, "linear", 0.0, antialias=True)[..., 0]
        return torch.from_numpy(moved >= 0.5)

    def slice_volume(self, values: np.ndarray, name: str = "") -> Volume:
        """Values (C, ...) one voxel thick as a volume in the slice's place."""
        array = values[0] if len(values) == 1 else values
        picture = self.scan.picture if 1 in self.scan.grid.shape else False
        return Volume(array, self.slice_grid, name or self.scan.name, self.scan.unit, picture=picture)

    def replaced(self, values: np.ndarray) -> Volume:
        """A copy of the scan with its slice replaced by ``values`` (C, ...); its type and all other voxels stay."""
        array = self.scan.channels_first().copy()
        if array.dtype.kind in "iu":
            limits = np.iinfo(array.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        array[self._where()] = values
        return self.scan.with_array(array if self.scan.array.ndim == 4 else array[0])

    def in_scan(self, values: np.ndarray) -> np.ndarray:
        """Values (C, ...) of the slice in an array of the scan's grid, 0 elsewhere; the mean over channels."""
        array = np.zeros(self.scan.grid.shape, dtype=np.float32)
        array[self._where()[1:]] = values.mean(0)
        return array

    def _where(self) -> tuple[slice, ...]:
        where = [slice(None)] * 4
        where[self.axis + 1] = slice(self.index, self.index + 1)
        return tuple(where)


def slice_frame(
    scan: Volume,
    *,
    plane: str,
    index: int | None,
    size: int,
    window: tuple[float, float],
    pixel: tuple[float, float] | None = None,
) -> SliceFrame:
    """The frame of one slice; ``index`` None takes the middle one.

    Raises:
        OptionError: the plane is not known, or there is no such slice.
        InputError: the slice is a line or a point.
    """
    if plane not in PLANE_NORMAL:
        raise OptionError(f"The plane {plane!r} is not known.", f"Use {', '.join(PLANE_NORMAL)}.")
    flat = [axis for axis, count in enumerate(scan.grid.shape) if count == 1]
    axis = flat[0] if flat else scan.grid.index_axis(PLANE_NORMAL[plane])
    count = scan.grid.shape[axis]
    chosen = count // 2 if index is None else index
    if not 0 <= chosen < count:
        raise OptionError(
            f"Slice {chosen} was asked for; {scan.name} has {count} {plane} slices.", f"Choose 0 to {count - 1}."
        )
    if min(size_ for other, size_ in enumerate(scan.grid.shape) if other != axis) < 2:
        raise InputError(
            f"{scan.name} has no {plane} slices that are images ({scan.grid.describe()}).", "Choose another plane."
        )
    return SliceFrame(scan, plane, axis, chosen, size, window, pixel)


def blank_frame(
    size: int, channels: int, plane: str, window: tuple[float, float], pixel: tuple[float, float] | None
) -> SliceFrame:
    """The place of a generator's images where there is no scan: in the plane, of its own pixels (or of 1 mm)."""
    picture = _PICTURE_AXES[plane]
    directions = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(picture):
        directions[axis, column] = sign
    directions[PLANE_NORMAL[plane], 2] = 1
    order = [0, 1, 2]
    normal = PLANE_NORMAL[plane]
    order.insert(normal, order.pop(2))  # models take slices along the axis of their plane
    shape, spacing = np.array([size, size, 1])[order], np.array([*(pixel or (1.0, 1.0)), 1.0])[order]
    grid = Grid.from_directions(shape, spacing, directions[:, order])
    array = np.full((channels, *grid.shape), window[0], dtype=np.float32)
    return SliceFrame(Volume(array, grid, "generated image"), plane, normal, 0, size, window, pixel)


def _picture_axes(grid: Grid, plane: str, normal: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Index axes of the scan along which the image's two axes run, and the sign of each."""
    remaining = [axis for axis in range(3) if axis != normal]
    anatomical = {axis: grid.anatomical_axes[axis] for axis in remaining}
    wanted = _PICTURE_AXES[plane]
    if {ras for ras, _ in anatomical.values()} != {ras for ras, _ in wanted}:
        # a flat image that does not lie in the plane, as X-rays do: its own axes are taken as they are
        return (remaining[0], remaining[1]), (1, 1)
    axes, signs = [], []
    for ras, sign in wanted:
        axis = next(axis for axis, (other, _) in anatomical.items() if other == ras)
        axes.append(axis)
        signs.append(sign * anatomical[axis][1])
    return (axes[0], axes[1]), (signs[0], signs[1])
