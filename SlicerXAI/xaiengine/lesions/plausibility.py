"""What speaks for and against a lesion besides the map: its density, its place, and the slices that support it.

A classifier of slices also looks at what it was not trained to tell apart: a contrast-filled vessel at the hilum,
fat of the mediastinum, a sliver of chest wall or diaphragm at the border of the lungs. Such places are kept apart and
named with the reason; they are neither dropped nor counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..core.number_text import percent, significant
from ..io.grid import Grid
from .quantify import max_diameter
from .slice_maps import SliceMaps

FAT_HU = (-130.0, -30.0)
DENSE_HU = 130.0
"""Above this, tissue of the lungs is filled with contrast agent, or holds calcium."""

BORDER_MM = 3.0
MOST_FAT = 0.6
MOST_DENSE = 0.2
MOST_BORDER = 0.85
VESSEL_DENSE = 0.04
VESSEL_LENGTH = 2.0
"""A part with more than this share above 130 HU, and longer than this many diameters of a ball of its volume, is a
vessel: what is cut out of it by the map need not be dense throughout."""


@dataclass(frozen=True)
class Evidence:
    """Of one lesion: shares (0..1) of its voxels, the explained slices it lies in, and their highest probability.

    ``fat``: between -130 and -30 HU; ``dense``: above 130 HU (NaN without the scan); ``border``: within 3 mm of the
    border of the lungs, or beside it where voxels are larger. ``length``: largest diameter over that of a ball of the
    same volume. ``peak``: highest value of the map in it. ``reason``: why it is not counted, empty
    for one that is.
    """

    fat: float
    dense: float
    border: float
    length: float
    slices: int
    probability: float
    peak: float
    reason: str = ""

    def row(self) -> dict[str, object]:
        """The evidence as columns of a table."""
        return {
            "density of fat (%)": 100 * self.fat,
            "above 130 HU (%)": 100 * self.dense,
            "at the border of the lungs (%)": 100 * self.border,
            "length (diameters of a ball)": self.length,
            "slices": self.slices,
            "highest probability": self.probability,
        }


def weigh_evidence(
    labels: np.ndarray,
    bits: np.ndarray,
    lungs: np.ndarray,
    grid: Grid,
    maps: SliceMaps,
    *,
    hu: np.ndarray | None = None,
    relative_peak: float = 0.0,
) -> tuple[Evidence, ...]:
    """The evidence for each labeled part (I, J, K) int, 1..n, in the order of the labels.

    ``bits``, ``lungs`` (bool) and ``hu`` (in Hounsfield units) are (I, J, K) on the same ``grid``. A part whose map
    stays below ``relative_peak`` times that of the strongest plausible part is not counted.
    """
    margin = [int(np.ceil(BORDER_MM / step)) + 1 for step in grid.spacing]
    reach = max(BORDER_MM, 1.01 * float(np.median(grid.spacing)))
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        around = tuple(
            slice(max(extent.start - more, 0), min(extent.stop + more, size))
            for extent, more, size in zip(box, margin, grid.shape)
        )
        part = labels[around] == label
        depth = ndimage.distance_transform_edt(lungs[around], sampling=grid.spacing)
        border = float((depth[part] <= reach).mean())
        length = _length(part, grid)
        fat = dense = float("nan")
        if hu is not None:
            values = hu[around][part]
            fat = float(((values > FAT_HU[0]) & (values < FAT_HU[1])).mean())
            dense = float((values > DENSE_HU).mean())
        slices, probability = _support(np.argwhere(part) + [extent.start for extent in around], grid, maps)
        peak = float(bits[around][part].max())
        reason = _reason(fat, dense, border, length)
        found.append(Evidence(fat, dense, border, length, slices, probability, peak, reason))
    strongest = max((item.peak for item in found if not item.reason), default=0.0)
    return tuple(_unless_faint(item, relative_peak * strongest, strongest) for item in found)


def apart(labels: np.ndarray, evidence: Sequence[Evidence]) -> tuple[np.ndarray, np.ndarray]:
    """Labels of what is counted, and of what is not, each numbered from 1 in the order of ``labels``."""
    counted = np.zeros(len(evidence) + 1, np.int32)
    left_out = np.zeros(len(evidence) + 1, np.int32)
    for label, item in enumerate(evidence, start=1):
        table = left_out if item.reason else counted
        table[label] = table.max() + 1
    return counted[labels], left_out[labels]


def _unless_faint(item: Evidence, least: float, strongest: float) -> Evidence:
    if item.reason or item.peak >= least:
        return item
    return replace(item, reason=f"its map reaches {percent(item.peak / strongest)} of the strongest lesion's alone")


def _reason(fat: float, dense: float, border: float, length: float) -> str:
    if dense > MOST_DENSE:
        return f"{percent(dense)} of it is as dense as bone or as a vessel filled with contrast agent"
    if dense > VESSEL_DENSE and length > VESSEL_LENGTH:
        return (
            f"it is {significant(length)} times as long as a ball of its volume, and {percent(dense)} of it is as "
            "dense as contrast agent, as a vessel is"
        )
    if fat > MOST_FAT:
        return f"{percent(fat)} of it has the density of fat"
    if border > MOST_BORDER:
        return (
            f"{percent(border)} of it lies within {BORDER_MM:g} mm of the border of the lungs, where a sliver of "
            "chest wall, diaphragm or heart looks like a lesion"
        )
    return ""


def _length(part: np.ndarray, grid: Grid) -> float:
    """Largest diameter of a part over the diameter of a ball of its volume, 1 for a ball."""
    volume_mm3 = np.count_nonzero(part) * grid.voxel_volume_ml * 1000.0
    return max_diameter(part, grid) / (6.0 * volume_mm3 / np.pi) ** (1 / 3)


def _support(index: np.ndarray, grid: Grid, maps: SliceMaps) -> tuple[int, float]:
    """How many explained slices the voxels ``index`` (n, 3) lie in, and the highest probability of these."""
    mapping = maps.grid.index_mapping(grid)[maps.slice_axis]
    numbers = np.unique(np.rint(index @ mapping[:3] + mapping[3]).astype(int))
    numbers = numbers[(numbers >= 0) & (numbers < len(maps.explained))]
    numbers = numbers[maps.explained[numbers]]
    return len(numbers), float(maps.probability[numbers].max(initial=0.0))
