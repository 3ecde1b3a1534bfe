"""nnU-Net v2's own preprocessing: axes, crop to non-zero, normalization per channel, resampling.

Reproduced from the description in Isensee et al., Nature Methods 2021, and checked against nnunetv2's preprocessor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from ...core.errors import ModelError
from ...io.grid import Grid
from .nnunet_plans import ChannelNormalisation, Plan

if TYPE_CHECKING:
    from monai.data import MetaTensor

ANISOTROPY = 3.0
"""Ratio of spacings above which the coarse axis is resampled by itself."""

RESAMPLINGS = (
    "resample_data_or_seg_to_shape",
    "resample_torch_fornnunet",
    "no_resampling_data_or_seg_to_shape",
    "no_resampling_hack",
)


@dataclass(frozen=True)
class NnunetPreprocessing:
    """Makes the transform of one plan; see :class:`xaiengine.models.ExplainedModel`."""

    plan: Plan

    def __call__(self) -> list[Any]:
        if self.plan.resampling not in RESAMPLINGS:
            raise ModelError(
                f"The nnU-Net model resamples with {self.plan.resampling}, which is not supported.",
                f"Supported are {' and '.join(RESAMPLINGS[:2])}.",
            )
        return [NnunetPreparation(self.plan)]


class NnunetPreparation:
    """A scan (C, I, J, K) with its affine, as nnU-Net's network takes it, with the affine carried along.

    The axes come out in nnU-Net's transposed order. For 2D configurations the axis across the slices comes last.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __call__(self, image: MetaTensor) -> MetaTensor:
        import torch
        from monai.data import MetaTensor

        plan = self.plan
        if plan.reorient:
            from monai.transforms import Orientation

            image = Orientation(axcodes="RAS", labels=None)(image)
        order = [2 - axis for axis in plan.transpose]
        data = np.array(image.as_tensor(), dtype=np.float32).transpose(0, *(axis + 1 for axis in order))
        grid = Grid(tuple(image.shape[1:]), np.asarray(image.affine, dtype=np.float64))
        grid = _permuted(grid, order)
        data, outside, grid = _crop(np.ascontiguousarray(data), grid)
        for channel, normalization in enumerate(plan.normalization):
            data[channel] = _normalized(data[channel], outside, normalization)
        data, grid = _resampled(data, grid, plan)
        if plan.dims == 2:
            data, grid = np.moveaxis(data, 1, 3), _permuted(grid, [1, 2, 0])
        result = MetaTensor(torch.from_numpy(np.ascontiguousarray(data)), affine=torch.tensor(grid.affine))
        return result


def _permuted(grid: Grid, order: list[int]) -> Grid:
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, order]
    return Grid(tuple(grid.shape[axis] for axis in order), affine)


def _crop(data: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray, Grid]:
    """The bounding box of what is not zero in any channel, holes filled; and where it is outside of that."""
    inside = ndimage.binary_fill_holes((data != 0).any(axis=0))
    box = ndimage.find_objects(inside.astype(np.uint8))
    if not box:
        return data, ~inside, grid
    start = [part.start for part in box[0]]
    shape = [part.stop - part.start for part in box[0]]
    return data[(slice(None), *box[0])].copy(), ~inside[box[0]], grid.cropped(start, shape)


def _normalized(image: np.ndarray, outside: np.ndarray, normalization: ChannelNormalisation) -> np.ndarray:
    scheme, properties = normalization.scheme, normalization.properties
    if scheme == "ZScoreNormalization":
        if not normalization.inside_mask:
            return (image - image.mean()) / max(image.std(), 1e-8)
        inside = ~outside
        result = image.copy()
        result[inside] = (image[inside] - image[inside].mean()) / max(image[inside].std(), 1e-8)
        return result
    if scheme == "CTNormalization":
        try:
            low, high = properties["percentile_00_5"], properties["percentile_99_5"]
            return (np.clip(image, low, high) - properties["mean"]) / max(properties["std"], 1e-8)
        except KeyError as error:
            raise ModelError(f"plans.json lacks {error} for the CT normalization.", "Copy it again.") from error
    if scheme == "NoNormalization":
        return image
    if scheme == "RescaleTo01Normalization":
        shifted = image - image.min()
        return shifted / max(shifted.max(), 1e-8)
    if scheme == "RGBTo01Normalization":
        return image / 255.0
    raise ModelError(
        f"The nnU-Net model normalizes with {scheme}, which is not supported.",
        "Supported are nnU-Net's own schemes: CT, ZScore, No, RescaleTo01 and RGBTo01.",
    )


def _resampled(data: np.ndarray, grid: Grid, plan: Plan) -> tuple[np.ndarray, Grid]:
    spacing = list(grid.spacing)
    target = list(plan.spacing) if len(plan.spacing) == 3 else [spacing[0], *plan.spacing]
    shape = tuple(max(1, int(round(old / new * size))) for old, new, size in zip(spacing, target, data.shape[1:]))
    if shape == data.shape[1:] or plan.resampling.startswith("no_resampling"):
        return data, grid
    options = plan.resampling_options
    axis = coarse_axis(spacing, target, options.get("force_separate_z"))
    if plan.resampling == "resample_torch_fornnunet":
        resized = [_torch_resized(channel, shape, axis) for channel in data]
    else:
        order, order_across = int(options.get("order", 3)), int(options.get("order_z", 0))
        resized = [_resized(channel, shape, axis, order, order_across) for channel in data]
    return np.stack(resized).astype(np.float32), grid.resized(shape)


def coarse_axis(spacing: list[float], target: list[float], forced: bool | None = None) -> int | None:
    """The axis that is resampled by itself because its spacing is much coarser; None when there is none."""
    if forced is False:
        return None
    for candidate in (spacing, target):
        if forced or max(candidate) / min(candidate) > ANISOTROPY:
            coarse = [axis for axis in range(3) if max(candidate) / candidate[axis] == 1]
            return coarse[0] if len(coarse) == 1 else None
    return None


def _resized(image: np.ndarray, shape: tuple[int, ...], axis: int | None, order: int, across: int) -> np.ndarray:
    values = image.astype(np.float64)
    if axis is None:
        return _zoomed(values, shape, order)
    flat_shape = tuple(size for number, size in enumerate(shape) if number != axis)
    slices = [_zoomed(np.take(values, index, axis), flat_shape, order) for index in range(values.shape[axis])]
    stacked = np.stack(slices, axis)
    if stacked.shape == shape:
        return stacked
    scale = stacked.shape[axis] / shape[axis]
    coordinates = [np.arange(size, dtype=np.float64) for size in shape]
    coordinates[axis] = scale * (coordinates[axis] + 0.5) - 0.5
    grid = np.meshgrid(*coordinates, indexing="ij")
    return ndimage.map_coordinates(stacked, grid, order=across, mode="nearest")


def _zoomed(image: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """Spline interpolation edge to edge, not beyond the range of the values."""
    if image.shape == shape:
        return image
    factors = [new / old for new, old in zip(shape, image.shape)]
    zoomed = ndimage.zoom(image, factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(zoomed, image.min(), image.max())


def _torch_resized(image: np.ndarray, shape: tuple[int, ...], axis: int | None) -> np.ndarray:
    """Linear interpolation by torch; along a coarse axis the nearest slice."""
    import torch
    from torch.nn import functional

    values = torch.from_numpy(image)
    if axis is None:
        return functional.interpolate(values[None, None], shape, mode="trilinear")[0, 0].numpy()
    flat_shape = tuple(size for number, size in enumerate(shape) if number != axis)
    slices = functional.interpolate(values.movedim(axis, 0)[None], flat_shape, mode="bilinear")[0]
    rows = slices.reshape(len(slices), -1).T[None]
    rows = functional.interpolate(rows, shape[axis], mode="nearest-exact")[0]
    return rows.T.reshape(shape[axis], *flat_shape).movedim(0, axis).numpy()
