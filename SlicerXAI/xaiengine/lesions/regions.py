"""The lungs in which lesions are searched for: given by a segmentation, or found in the CT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ..core.errors import InputError
from ..io.grid import Grid
from ..io.segmentation import Mask, Segmentation
from ..io.terminology import LEFT_LUNG, RIGHT_LUNG
from ..io.volume import Volume
from .lungs.lungs import Lungs, segment_lungs

LUNG_COLORS = {"left": (0.77, 0.87, 0.94), "right": (0.68, 0.80, 0.90)}
SMALLEST_LUNG_ML = 50.0


@dataclass(frozen=True, eq=False)
class LungRegions:
    """Left and right lung, and the lobes (or other parts) by name where a segmentation gives them."""

    lungs: Lungs
    lobes: Mapping[str, np.ndarray] = field(default_factory=dict)
    given: bool = False

    def segmentation(self, name: str) -> Segmentation:
        """Left lung, right lung as segments with SNOMED terminology."""
        masks = [
            Mask(f"{side} lung", mask, LUNG_COLORS[side], code, f"{side}_lung")
            for side, mask, code in (("left", self.lungs.left, LEFT_LUNG), ("right", self.lungs.right, RIGHT_LUNG))
        ]
        return Segmentation.from_masks(masks, self.lungs.grid, name)


def lung_regions(
    volume: Volume, segmentation: Segmentation | None, check: Callable[[], None] = lambda: None
) -> LungRegions:
    """Regions from a segmentation of lungs or lobes (brought to the scan's grid), else found in the CT.

    ``check`` is called now and again, and may raise.

    Raises InputError when there are no lungs in either.
    """
    if segmentation is None:
        return LungRegions(segment_lungs(volume.array, volume.grid, check))
    placed = segmentation.on_grid(volume.grid)
    whole = placed.union()
    if np.count_nonzero(whole) * volume.grid.voxel_volume_ml < SMALLEST_LUNG_ML:
        raise InputError(
            f"The lung segmentation {segmentation.name} holds "
            f"{np.count_nonzero(whole) * volume.grid.voxel_volume_ml:.1f} mL inside the scan; lungs hold more than "
            f"{SMALLEST_LUNG_ML:g} mL.",
            "Give a segmentation of the lungs or lobes of this scan, or none: lungs are then found in the CT.",
        )
    left, right = sides_of(placed, whole, volume.grid)
    lobes = {segment.name: placed.mask(segment) for segment in placed.segments if not _is_whole(segment.name)}
    return LungRegions(Lungs(left, right, volume.grid), lobes if len(placed.segments) > 1 else {}, given=True)


def sides_of(placed: Segmentation, whole: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Left and right lung by the segments' names, and by place where names do not tell."""
    left = np.zeros(grid.shape, bool)
    right = np.zeros(grid.shape, bool)
    for segment in placed.segments:
        side = _named_side(segment.name)
        if side:
            (left if side == "left" else right)[placed.mask(segment)] = True
    rest = whole & ~left & ~right
    if rest.any():
        at_left = _left_by_place(rest, whole, grid)
        left |= rest & at_left
        right |= rest & ~at_left
    return left, right & ~left


def _named_side(name: str) -> str:
    words = name.lower().replace("_", " ").replace("-", " ").split()
    for side in ("left", "right"):
        if side in words:
            return side
    return ""


def _is_whole(name: str) -> bool:
    """A segment that is one lung or both, rather than a part of one."""
    words = set(name.lower().replace("_", " ").split())
    return bool(words & {"lung", "lungs"}) and not words & {"lobe", "upper", "middle", "lower", "segment"}


def _left_by_place(rest: np.ndarray, whole: np.ndarray, grid: Grid) -> np.ndarray:
    """Each connected part goes to the side its center lies on; a part that spans both is cut in the middle."""
    index = np.argwhere(whole)
    middle = float(grid.index_to_ras((index.min(axis=0) + index.max(axis=0)) / 2)[0])
    labels, count = ndimage.label(rest)
    at_left = np.zeros(rest.shape, bool)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[box] == label
        places = np.argwhere(part) + [extent.start for extent in box]
        r = grid.index_to_ras(places)[:, 0]
        share = float((r < middle).mean())
        inside = np.full(len(r), share > 0.5) if share < 0.15 or share > 0.85 else r < middle
        at_left[tuple(places[inside].T)] = True
    return at_left
