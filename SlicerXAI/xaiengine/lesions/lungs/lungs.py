"""The lungs of a chest CT by classical means: air inside the body, airways out, lesions and vessels closed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...core.errors import InputError
from ...io.grid import Grid
from .completion import complete_lungs
from .morphology import dilated, eroded, opened
from .sides import LEFT, RIGHT, split_sides
from .thorax import ChestAir, find_chest_air
from .working_copy import WorkingCopy, box_on_scan, carried_back, cropped, slabs, working_copy

WORKING_SPACING_MM = 3.0
CHEST_MARGIN_MM = 45.0
MINIMAL_LUNG_ML = 40.0
LARGEST_SHARE = 0.8
LARGEST_AIR_HU = -700.0
SMALLEST_SIDE_SHARE = 0.15
LEAST_AERATED_SHARE = 0.67

REMEDY = "Give a lung segmentation of this scan (option 'lungs'), made for example with TotalSegmentator or by hand."


@dataclass(frozen=True, eq=False)
class Lungs:
    """Masks (I, J, K) bool of the patient's left and right lung on the scan's grid; one of them may be empty.

    ``warnings`` says in whole sentences what is doubtful about lungs that were found rather than given;
    ``completed_share`` (0..1) how much of them is dense tissue that was taken for lung.
    """

    left: np.ndarray
    right: np.ndarray
    grid: Grid
    warnings: tuple[str, ...] = ()
    completed_share: float = 0.0

    @property
    def combined(self) -> np.ndarray:
        return self.left | self.right

    @property
    def left_ml(self) -> float:
        return float(np.count_nonzero(self.left)) * self.grid.voxel_volume_ml

    @property
    def right_ml(self) -> float:
        return float(np.count_nonzero(self.right)) * self.grid.voxel_volume_ml

    @property
    def total_ml(self) -> float:
        return self.left_ml + self.right_ml


def segment_lungs(hu: np.ndarray, grid: Grid, check: Callable[[], None] = lambda: None) -> Lungs:
    """Lungs of a CT ``hu`` (I, J, K) in Hounsfield units, of any orientation, spacing and field of view.

    Lungs include vessels, lesions and consolidations; trachea and main bronchi are left out. The work is done on a
    RAS-aligned copy of 2.5 mm, the border is then drawn at the scan's own resolution. ``check`` is called between the
    steps, and may raise.

    Raises:
        InputError: the values are no Hounsfield units (MR), or no lung is in the field of view.
    """
    _check_values(hu, grid)
    copy = working_copy(hu, grid, WORKING_SPACING_MM)
    check()
    air = find_chest_air(copy)
    check()
    if air.aerated.sum() * copy.voxel_ml < MINIMAL_LUNG_ML:
        raise InputError(
            f"No lungs were found: {air.aerated.sum() * copy.voxel_ml:.0f} mL inside the body have the density of "
            f"aerated lung, at least {MINIMAL_LUNG_ML:.0f} mL were expected.",
            "Choose a CT of the chest. " + REMEDY,
        )
    copy, air = _chest_alone(copy, air)
    aerated_sides = split_sides(air.aerated, air.body, copy.spacing)
    check()
    completed = complete_lungs(copy, air, aerated_sides)
    sides = completed.sides
    if np.count_nonzero(sides) > LARGEST_SHARE * np.count_nonzero(air.body):
        raise InputError(
            "No lungs were found: nearly all of the scan would be lung.",
            "Choose a CT of the chest that shows the chest wall. " + REMEDY,
        )
    left, right = _at_full_resolution(hu, grid, copy, air, sides, check)
    return Lungs(left, right, grid, completed.notes + _doubts(air.aerated, sides), completed.share)


def _chest_alone(copy: WorkingCopy, air: ChestAir) -> tuple[WorkingCopy, ChestAir]:
    """Everything cropped to the aerated lungs and a margin: the rest of a body takes no time."""
    box = []
    for axis in range(3):
        hit = np.flatnonzero(air.aerated.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(round((CHEST_MARGIN_MM if axis == 2 else 3 * CHEST_MARGIN_MM) / copy.spacing))
        box.append(slice(max(int(hit[0]) - margin, 0), min(int(hit[-1]) + margin + 1, air.aerated.shape[axis])))
    extent = tuple(box)
    return cropped(copy, extent), ChestAir(air.body[extent], air.aerated[extent], air.airways[extent], air.threshold)


def _doubts(aerated: np.ndarray, sides: np.ndarray) -> tuple[str, ...]:
    """What a reader should check before believing the lungs (I, J, K: 1 right, 2 left)."""
    doubts = []
    volumes = np.bincount(sides.ravel(), minlength=3)
    for side, other, name in ((LEFT, RIGHT, "left"), (RIGHT, LEFT, "right")):
        if volumes[side] < SMALLEST_SIDE_SHARE * volumes[other]:
            doubts.append(f"Hardly any {name} lung was found: absent, without air, or out of the field of view.")
    if np.count_nonzero(aerated) < LEAST_AERATED_SHARE * volumes[1:].sum():
        doubts.append(
            "More than a third of the lungs holds no air; their border there was estimated from the rib cage and the "
            "other lung. " + REMEDY
        )
    return tuple(doubts)


def _check_values(hu: np.ndarray, grid: Grid) -> None:
    if tuple(hu.shape) != grid.shape:
        raise InputError(
            f"The scan's array has the shape {tuple(hu.shape)}, its grid {grid.shape}.", "Pass them as read together."
        )
    sample = hu[tuple(slice(None, None, max(1, size // 64)) for size in hu.shape)]
    lowest = float(np.nanmin(sample)) if np.isfinite(sample).any() else np.nan
    other = _other_units(sample[np.isfinite(sample)])
    if other:
        raise InputError(f"The lungs cannot be found: {other}", "Convert the scan to Hounsfield units. " + REMEDY)
    if not lowest < LARGEST_AIR_HU:
        raise InputError(
            f"The lungs cannot be found: the lowest value is {lowest:g}, but air in a CT is near -1000 HU. "
            "The scan is no CT, or its values are not in Hounsfield units.",
            "Choose a CT whose rescale slope and intercept were applied. " + REMEDY,
        )


def _other_units(values: np.ndarray) -> str:
    """What the histogram says of a CT whose values are not Hounsfield units; empty where it says nothing."""
    if values.size == 0:
        return ""
    low, high = np.percentile(values, (1, 99))
    air, tissue = np.median(values[values <= (low + high) / 2]), np.median(values[values >= (low + high) / 2])
    if -50 <= low and -50 <= air <= 250 and 850 <= tissue <= 1300 and values.max() > 1250:
        return (
            f"its values lie around {air:.0f} and {tissue:.0f}, as those of a CT do whose rescale intercept (-1024) "
            "was not added."
        )
    if low < -0.5 and np.abs(values).max() <= 5.0:
        return f"its values lie between {values.min():.3g} and {values.max():.3g}, as those of a scaled CT do."
    return ""


def _at_full_resolution(
    hu: np.ndarray, grid: Grid, copy: WorkingCopy, air: ChestAir, sides: np.ndarray, check: Callable[[], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Left and right lung (I, J, K) bool on the scan's grid.

    Their border moves, by at most one working voxel, to where the scan's own HU put it.
    """
    spacing = copy.spacing
    lungs = sides > 0
    filled = lungs & ~air.aerated
    # A border voxel may only be given up where the border was seen, not where it was closed over a lesion.
    solid = dilated(opened(filled, spacing, spacing), spacing, spacing)
    certain = eroded(lungs, 1.5 * spacing, spacing) | solid & lungs
    outer = dilated(lungs, 1.1 * spacing, spacing)
    toward_left = _toward_left(sides)
    left, right = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    # Certain lung 3, lung 2, a rim 1, airways -4: one field in place of four.
    rank = outer.astype(np.float32) + lungs + certain - 6.0 * (air.airways & lungs) - 4.0 * (air.airways & ~lungs)
    for box in slabs(box_on_scan(outer, copy.grid, grid, spacing)):
        check()
        aerated = hu[box] < air.threshold
        near = carried_back(rank, copy.grid, grid, box)
        lung = (near > 2.5) | (near > 0.5) & aerated
        is_left = carried_back(toward_left, copy.grid, grid, box) > 0
        left[box] = lung & is_left
        right[box] = lung & ~is_left
    return left, right


def _toward_left(sides: np.ndarray) -> np.ndarray:
    """Field (I, J, K) float32 that is 1 nearest to the left lung and -1 nearest to the right one."""
    nearest = ndimage.distance_transform_edt(sides == 0, return_distances=False, return_indices=True)
    return np.where(sides[tuple(nearest)] == LEFT, 1.0, -1.0).astype(np.float32)
