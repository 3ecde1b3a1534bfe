"""Segmentations: named structures on a grid, in layers of labels as 3D Slicer keeps them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from .grid import Grid
from .resample import resample
from .terminology import Terminology

Color = tuple[float, float, float]

SMALLEST_OVERLAP = 0.01
"""Share of a segmentation's extent, or of the scan's, that must overlap for one to be used with the other."""

_COLORS: tuple[Color, ...] = (
    (0.50, 0.68, 0.50),
    (0.95, 0.84, 0.57),
    (0.69, 0.48, 0.40),
    (0.44, 0.72, 0.82),
    (0.85, 0.40, 0.31),
    (0.87, 0.51, 0.40),
    (0.56, 0.93, 0.56),
    (0.75, 0.40, 0.34),
    (0.86, 0.96, 0.08),
    (0.31, 0.25, 0.00),
)
"""The first colors of 3D Slicer's GenericAnatomyColors."""


@dataclass(frozen=True)
class Segment:
    """One structure: where its voxels are (value ``label`` of layer ``layer``), and what it is.

    ``color`` is RGB in 0..1. ``id`` is unique in its segmentation.
    """

    name: str
    id: str
    color: Color
    label: int = 1
    layer: int = 0
    terminology: Terminology | None = None


@dataclass(frozen=True, eq=False)
class Mask:
    """A structure to be put into a segmentation: boolean voxels (I, J, K) and what they are."""

    name: str
    voxels: np.ndarray
    color: Color | None = None
    terminology: Terminology | None = None
    id: str = ""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Segments on one grid. ``layers`` holds label arrays (I, J, K); segments that overlap lie in "
    "different ones."""

    segments: tuple[Segment, ...]
    layers: tuple[np.ndarray, ...]
    grid: Grid
    name: str = ""
    source: Path | None = None

    def __post_init__(self) -> None:
        for layer in self.layers:
            if layer.shape != self.grid.shape:
                raise ValueError(f"a layer of shape {layer.shape} does not fit the grid {self.grid.shape}")
        ids = [segment.id for segment in self.segments]
        if len(set(ids)) != len(ids):
            raise ValueError(f"the segments' ids are not unique: {ids}")

    @classmethod
    def from_masks(cls, masks: Iterable[Mask], grid: Grid, name: str = "") -> Segmentation:
        """Pack masks into as few layers as their overlaps allow, in the order given."""
        layers: list[np.ndarray] = []
        counts: list[int] = []
        segments: list[Segment] = []
        masks = list(masks)
        taken = {mask.id for mask in masks if mask.id}
        dtype = np.uint8 if len(masks) < 256 else np.uint16
        for index, mask in enumerate(masks):
            voxels = np.asarray(mask.voxels, dtype=bool)
            layer = next((n for n, labels in enumerate(layers) if not (labels[voxels]).any()), len(layers))
            if layer == len(layers):
                layers.append(np.zeros(grid.shape, dtype, order="F"))
                counts.append(0)
            counts[layer] += 1
            layers[layer][voxels] = counts[layer]
            color = mask.color or default_color(index)
            identity = mask.id or _free_id(index, taken)
            segments.append(Segment(mask.name, identity, color, counts[layer], layer, mask.terminology))
        return cls(tuple(segments), tuple(layers) or (np.zeros(grid.shape, dtype, order="F"),), grid, name)

    @classmethod
    def from_labels(
        cls, labels: np.ndarray, grid: Grid, names: Mapping[int, str] | None = None, name: str = ""
    ) -> Segmentation:
        """A segment for each value other than 0 in a label map (I, J, K); ``names`` gives values their "
        "names."""
        values = [int(value) for value in np.unique(labels) if value != 0]
        names = names or {}
        segments = tuple(
            Segment(names.get(value, f"Segment_{value}"), f"Segment_{value}", default_color(index), value)
            for index, value in enumerate(values)
        )
        return cls(segments, (labels,), grid, name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(segment.name for segment in self.segments)

    def find(self, name: str) -> Segment:
        """The segment with this name or id; upper and lower case are alike.

        Raises:
            InputError: there is none; near names are offered.
        """
        for segment in self.segments:
            if name in (segment.id, segment.name):
                return segment
        for segment in self.segments:
            if segment.name.lower() == name.lower():
                return segment
        near = difflib.get_close_matches(name, self.names, n=3) or list(self.names[:10])
        raise InputError(
            f"{self.name or 'The segmentation'} has no segment '{name}'.",
            f"Choose one of: {', '.join(near)}." if near else "It has no segments at all: choose another.",
        )

    def mask(self, segment: Segment | str) -> np.ndarray:
        """The voxels of a segment, boolean (I, J, K)."""
        found = self.find(segment) if isinstance(segment, str) else segment
        return self.layers[found.layer] == found.label

    def union(self, names: Iterable[str] | None = None) -> np.ndarray:
        """The voxels of any of the segments (all by default), boolean (I, J, K)."""
        result = np.zeros(self.grid.shape, dtype=bool, order="F")
        for segment in self.segments if names is None else [self.find(name) for name in names]:
            result |= self.mask(segment)
        return result

    def volume_ml(self, segment: Segment | str) -> float:
        """Volume of a segment in mL."""
        return float(np.count_nonzero(self.mask(segment))) * self.grid.voxel_volume_ml

    def on_grid(self, grid: Grid) -> Segmentation:
        """The segmentation on another grid (nearest voxel); itself where the grids are the same.

        Raises:
            InputError: the grids do not overlap, so the segmentation cannot be of that scan.
        """
        if self.grid.same_as(grid):
            return self
        overlap = max(self.grid.overlaps(grid), grid.overlaps(self.grid))
        if overlap < SMALLEST_OVERLAP:
            raise InputError(
                f"{self.name or 'The segmentation'} ({self.grid.describe()}, center "
                f"{_place(self.grid)}) does not overlap the scan ({grid.describe()}, center {_place(grid)}).",
                "Choose the segmentation of this scan, or register the two first.",
            )
        layers = tuple(resample(layer, self.grid, grid, "nearest") for layer in self.layers)
        return Segmentation(self.segments, layers, grid, self.name, self.source)


def _place(grid: Grid) -> str:
    return "RAS " + ", ".join(f"{coordinate:.0f}" for coordinate in grid.center) + " mm"


def default_color(index: int) -> Color:
    """A color for the segment of this index, different from its neighbors'."""
    return _COLORS[index % len(_COLORS)]


def _free_id(index: int, taken: set[str]) -> str:
    number = index + 1
    while f"Segment_{number}" in taken:
        number += 1
    taken.add(f"Segment_{number}")
    return f"Segment_{number}"
