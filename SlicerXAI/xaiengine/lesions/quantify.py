"""Numbers of lesions: volume, information, place and density of each, and the burden of each lung and lobe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from ..io.grid import Grid
from .components import bounding_box
from .lungs.lungs import Lungs
from .severity import Severity, classify_severity

BOTH_LUNGS, LEFT_LUNG, RIGHT_LUNG = "both lungs", "left lung", "right lung"


@dataclass(frozen=True)
class Lesion:
    """One lesion. Positions are RAS in mm; the box has the sides of the voxels' outer faces along R, A and S."""

    label: int
    volume_ml: float
    mean_bits: float
    max_bits: float
    total_bits: float
    centroid_ras: tuple[float, float, float]
    box_low_ras: tuple[float, float, float]
    box_high_ras: tuple[float, float, float]
    max_diameter_mm: float
    lung: str
    lobe: str
    mean_hu: float

    @property
    def box_mm(self) -> tuple[float, float, float]:
        """Extent in mm along R, A and S."""
        return _triple(np.subtract(self.box_high_ras, self.box_low_ras))

    def row(self) -> dict[str, object]:
        """The lesion as a row of a table, units in the column names."""
        return {
            "lesion": self.label,
            "volume (mL)": self.volume_ml,
            "max diameter (mm)": self.max_diameter_mm,
            "lung": self.lung,
            **({"lobe": self.lobe} if self.lobe else {}),
            "mean (bits/voxel)": self.mean_bits,
            "max (bits/voxel)": self.max_bits,
            "total (bits)": self.total_bits,
            "mean density (HU)": self.mean_hu,
            **{f"centroid {axis} (mm)": value for axis, value in zip("RAS", self.centroid_ras)},
            **{f"extent {axis} (mm)": value for axis, value in zip("RAS", self.box_mm)},
        }


@dataclass(frozen=True)
class Burden:
    """Lesions within one region: both lungs, one lung or one lobe. ``lesion_count``: lesions that reach into it."""

    region: str
    region_ml: float
    lesion_ml: float
    lesion_count: int
    total_bits: float

    @property
    def percent(self) -> float:
        """Share of the region that is lesion, in percent; 0 for an empty region."""
        return 100.0 * self.lesion_ml / self.region_ml if self.region_ml > 0 else 0.0

    def row(self) -> dict[str, object]:
        """The burden as a row of a table, units in the column names."""
        return {
            "region": self.region,
            "region volume (mL)": self.region_ml,
            "lesion volume (mL)": self.lesion_ml,
            "burden (%)": self.percent,
            "lesions": self.lesion_count,
            "information in lesions (bits)": self.total_bits,
        }


@dataclass(frozen=True)
class Quantification:
    """All lesions, largest first, and the burden of both lungs, of each lung, then of each lobe."""

    lesions: tuple[Lesion, ...]
    burdens: tuple[Burden, ...]
    severity: Severity
    lung_bits: float

    @property
    def total(self) -> Burden:
        return self.burdens[0]

    def burden(self, region: str) -> Burden:
        """The burden of a region by its name."""
        return next(burden for burden in self.burdens if burden.region == region)

    def lesion_rows(self) -> list[dict[str, object]]:
        return [lesion.row() for lesion in self.lesions]

    def burden_rows(self) -> list[dict[str, object]]:
        return [burden.row() for burden in self.burdens]

    def summary(self) -> dict[str, object]:
        """The scan in one row: burden, severity, counts; units in the names."""
        return {
            "burden (%)": self.total.percent,
            "severity": self.severity.label,
            "lesion volume (mL)": self.total.lesion_ml,
            "lung volume (mL)": self.total.region_ml,
            "lesions": len(self.lesions),
            "largest lesion (mL)": self.lesions[0].volume_ml if self.lesions else 0.0,
            "information in lesions (bits)": self.total.total_bits,
            "information in lungs (bits)": self.lung_bits,
        }


def quantify_lesions(
    labels: np.ndarray,
    bits: np.ndarray,
    grid: Grid,
    lungs: Lungs,
    *,
    hu: np.ndarray | None = None,
    lobes: Mapping[str, np.ndarray] | None = None,
) -> Quantification:
    """Measure labeled lesions (I, J, K) int, 1..n, as :func:`find_lesions` returns them.

    ``bits`` (I, J, K): map in bits per voxel; ``hu`` (I, J, K): the scan, for densities (NaN without it);
    ``lobes``: masks (I, J, K) bool by name, where a lobe segmentation is given.
    """
    combined = lungs.combined
    sides = {LEFT_LUNG: lungs.left, RIGHT_LUNG: lungs.right}
    lobes = dict(lobes or {})
    lesions = tuple(
        _lesion(label, labels, box, bits, grid, hu, sides, lobes)
        for label, box in enumerate(ndimage.find_objects(labels), start=1)
        if box is not None
    )
    regions = {BOTH_LUNGS: combined, **sides, **lobes}
    burdens = tuple(_burden(name, mask, labels, bits, grid) for name, mask in regions.items())
    severity = classify_severity(min(burdens[0].percent, 100.0), burdens[0].lesion_ml)
    return Quantification(lesions, burdens, severity, float(bits[combined].sum(dtype=np.float64)))


def max_diameter(mask: np.ndarray, grid: Grid) -> float:
    """Largest distance in mm between two points of the surface of a mask (I, J, K) on ``grid``.

    The surface is taken through the centers of the voxels' outer faces, so that a ball measures its diameter.
    """
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    faces = np.concatenate([np.eye(3), -np.eye(3)]) / 2
    corners = grid.index_to_ras((points[:, None, :] + faces).reshape(-1, 3))
    try:
        corners = corners[ConvexHull(corners).vertices]
    except QhullError:
        pass  # flat sets have no hull; they are small
    return float(pdist(corners).max()) if len(corners) > 1 else 0.0


def _lesion(
    label: int,
    labels: np.ndarray,
    box: tuple[slice, ...],
    bits: np.ndarray,
    grid: Grid,
    hu: np.ndarray | None,
    sides: Mapping[str, np.ndarray],
    lobes: Mapping[str, np.ndarray],
) -> Lesion:
    mask = labels[box] == label
    inside = bits[box][mask].astype(np.float64)
    start = np.array([extent.start for extent in box])
    index = np.argwhere(mask) + start
    low, high = _outer_box(index, grid)
    return Lesion(
        label=label,
        volume_ml=float(len(index)) * grid.voxel_volume_ml,
        mean_bits=float(inside.mean()),
        max_bits=float(inside.max()),
        total_bits=float(inside.sum()),
        centroid_ras=_triple(grid.index_to_ras(index.mean(axis=0))),
        box_low_ras=_triple(low),
        box_high_ras=_triple(high),
        max_diameter_mm=max_diameter(mask, grid),
        lung=_most_of(mask, box, sides),
        lobe=_most_of(mask, box, lobes),
        mean_hu=float(hu[box][mask].mean(dtype=np.float64)) if hu is not None else float("nan"),
    )


def _outer_box(index: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    half = np.abs(grid.affine[:3, :3]).sum(axis=1) / 2
    positions = grid.index_to_ras(index)
    return positions.min(axis=0) - half, positions.max(axis=0) + half


def _most_of(mask: np.ndarray, box: tuple[slice, ...], regions: Mapping[str, np.ndarray]) -> str:
    """Name of the region that holds most of the lesion; empty when none holds any."""
    counts = {name: int(np.count_nonzero(region[box][mask])) for name, region in regions.items()}
    best = max(counts, key=lambda name: counts[name]) if counts else ""
    return best if counts.get(best) else ""


def _burden(name: str, region: np.ndarray, labels: np.ndarray, bits: np.ndarray, grid: Grid) -> Burden:
    box = bounding_box(region)
    if box is None:
        return Burden(name, 0.0, 0.0, 0, 0.0)
    inside = region[box] & (labels[box] > 0)
    return Burden(
        region=name,
        region_ml=float(np.count_nonzero(region[box])) * grid.voxel_volume_ml,
        lesion_ml=float(np.count_nonzero(inside)) * grid.voxel_volume_ml,
        lesion_count=int(np.unique(labels[box][inside]).size),
        total_bits=float(bits[box][inside].sum(dtype=np.float64)),
    )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
