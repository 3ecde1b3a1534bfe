"""In which order a 2D network receives the axes of a picture: rows first, as PyTorch and torchvision read pictures, or
columns first, as MONAI does; and steps of two-dimensional preprocessing applied to slices of volumes.

What is not described is decided by the format: bundles and nnU-Net models keep MONAI's and nnU-Net's order, networks
in other formats receive pictures rows first. Slices of volumes keep the order of the volume's axes unless it is
described.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from .channel_steps import ChannelSpecs
from .transforms import TransformSpec

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from ..io.volume import Volume
    from .explained_model import ExplainedModel

AxisOrder = Literal["", "rows_first", "columns_first"]
SLICE_AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}
_OWN_ORDER = ("MONAI bundle", "nnU-Net", "TorchXRayVision")
"""Formats whose preprocessing fixes the order."""
_NEUTRAL: Mapping[tuple[str, str], float] = {
    ("Resize", "spatial_size"): -1,
    ("ResizeWithPadOrCrop", "spatial_size"): -1,
    ("SpatialPad", "spatial_size"): -1,
    ("CenterSpatialCrop", "roi_size"): -1,
    ("CenterScaleCrop", "roi_scale"): 1.0,
    ("Zoom", "zoom"): 1.0,
    ("Spacing", "pixdim"): -1.0,
    ("DivisiblePad", "k"): 1,
    ("BorderPad", "spatial_border"): 0,
    ("CropForeground", "margin"): 0,
    ("CropForeground", "k_divisible"): 1,
    ("GaussianSmooth", "sigma"): 1e-3,
    ("MedianSmooth", "radius"): 0,
    ("SpatialCrop", "roi_start"): 0,
    ("SpatialCrop", "roi_end"): 1 << 20,
}
"""What leaves the axis across the slices as it is, by transform and argument."""


@dataclass(frozen=True)
class RowsFirst:
    """Exchanges the two axes of a picture or of the slices, and the affine's columns with them."""

    axis: int
    described: bool
    whole: bool

    def for_volume(self, volume: Volume) -> RowsFirst | None:
        """The step for this volume; None where its axes stay in their order."""
        picture = volume.picture
        if picture is None:
            picture = self.whole and volume.grid.shape[2] == 1
        if picture:
            return replace(self, axis=2)
        return self if self.described else None

    def __call__(self, image: MetaTensor) -> MetaTensor:
        from monai.data import MetaTensor

        first, second = (axis for axis in range(3) if axis != self.axis)
        affine = image.affine.clone()
        affine[:, [first, second]] = image.affine[:, [second, first]]
        turned = image.as_tensor().transpose(first + 1, second + 1).contiguous()
        return MetaTensor(turned, affine=affine, meta=image.meta)


@dataclass(frozen=True)
class GrayPicture:
    """Gives a gray picture to all channels of a network for color pictures, as image libraries do."""

    channels: int

    def for_volume(self, volume: Volume) -> GrayPicture | None:
        return self if volume.channels == 1 and volume.picture is not False and volume.grid.shape[2] == 1 else None

    def __call__(self, image: MetaTensor) -> MetaTensor:
        from monai.data import MetaTensor

        return MetaTensor(image.as_tensor().repeat(self.channels, 1, 1, 1), affine=image.affine, meta=image.meta)


@dataclass(frozen=True)
class SlicePreprocessing:
    """The preprocessing of a 2D network: its own steps, fitted to slices, after those of order and channels."""

    inner: Any
    axis: int
    rows_first: RowsFirst | None = None
    gray: GrayPicture | None = None

    @property
    def specs(self) -> tuple[Any, ...]:
        return tuple(across_slices(spec, self.axis) for spec in getattr(self.inner, "specs", ()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __call__(self) -> list[Any]:
        steps = [spec.build() for spec in self.specs] if self.specs else list(self.inner())
        if self.rows_first is not None:
            names = [type(step).__name__ for step in steps]
            last = max((place for place, name in enumerate(names) if name.startswith("Orientation")), default=-1)
            steps.insert(last + 1, self.rows_first)
        return [self.gray, *steps] if self.gray is not None else steps


def across_slices(spec: Any, axis: int) -> Any:
    """A step whose sizes are given for two axes, or for all at once, with a third that leaves the slices alone."""
    if isinstance(spec, ChannelSpecs):
        return spec.changed(lambda own: across_slices(own, axis))
    if not isinstance(spec, TransformSpec) or spec.arguments.get("size_mode") == "longest":
        return spec
    arguments = dict(spec.arguments)
    for name, value in arguments.items():
        neutral = _NEUTRAL.get((spec.name, name))
        if neutral is None or value is None:
            continue
        numbers = list(value) if isinstance(value, (list, tuple)) else [value] * 2
        if len(numbers) == 1:
            numbers *= 2
        if len(numbers) == 2:
            numbers.insert(axis, neutral)
        elif spec.name == "BorderPad" and len(numbers) == 4:
            numbers[2 * axis : 2 * axis] = [neutral, neutral]
        arguments[name] = numbers
    return TransformSpec(spec.name, arguments)


def ordered(model: ExplainedModel, order: AxisOrder = "") -> ExplainedModel:
    """The model with its pictures in the order that its network was trained on.

    ``order`` ("rows_first", "columns_first") replaces the described one. Models of volumes stay as they are.
    """
    if model.spatial_dims != 2 or isinstance(model.preprocessing, SlicePreprocessing):
        return model
    described = order or model.axis_order
    fixed = model.format.startswith(_OWN_ORDER)
    axis = SLICE_AXIS[model.inferer.plane]
    rows = None
    if described == "rows_first" or not described and not fixed:
        rows = RowsFirst(axis, bool(described), model.inferer.kind == "whole")
    repeats = any(getattr(spec, "name", "") == "RepeatChannel" for spec in getattr(model.preprocessing, "specs", ()))
    gray = GrayPicture(3) if model.in_channels == 3 and not model.channel_names and not repeats else None
    chosen: AxisOrder = described or ("columns_first" if fixed else "")
    if model.format.startswith("TorchXRayVision"):
        return replace(model, axis_order="rows_first")
    if model.format.startswith("nnU-Net"):
        return model
    preprocessing = SlicePreprocessing(model.preprocessing, axis, rows, gray)
    return replace(model, preprocessing=preprocessing, axis_order=chosen)


def in_words(model: ExplainedModel) -> str:
    """The order of the axes, for a reader; empty for models of volumes."""
    if model.spatial_dims != 2:
        return ""
    if model.axis_order == "rows_first":
        return "rows first (height, width)"
    if model.axis_order == "columns_first":
        return "columns first (width, height), as MONAI reads pictures"
    if model.format.startswith("nnU-Net"):
        return "nnU-Net's own"
    return "pictures rows first (height, width), slices of volumes as their axes lie (not described: see --image)"
