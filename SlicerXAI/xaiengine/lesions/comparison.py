"""Lesions found against lesions known: a reader's contours, or planted ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..core.errors import InputError
from ..io.grid import Grid
from .components import bounding_box, label_mask

DETECTION_SHARE = 0.1
"""A known lesion counts as detected when at least this share of its voxels was found."""


@dataclass(frozen=True)
class ReferenceLesion:
    """One known lesion and the found lesion that overlaps it most (``found_label`` 0: none does)."""

    label: int
    volume_ml: float
    covered_share: float
    detected: bool
    found_label: int
    found_ml: float
    dice: float
    centroid_distance_mm: float

    def row(self) -> dict[str, object]:
        """The comparison as a row of a table, units in the column names."""
        return {
            "reference lesion": self.label,
            "reference volume (mL)": self.volume_ml,
            "covered (%)": 100.0 * self.covered_share,
            "detected": "yes" if self.detected else "no",
            "found lesion": self.found_label or "",
            "found volume (mL)": self.found_ml,
            "Dice": self.dice,
            "distance of centroids (mm)": self.centroid_distance_mm,
        }


@dataclass(frozen=True)
class LesionComparison:
    """All found lesions against all known ones.

    ``dice`` is over all voxels (1 when both are empty); ``false_count`` and ``false_ml`` are of found lesions that
    touch no known one. ``largest_found_dice`` is of the largest found lesion alone against the whole reference.
    """

    dice: float
    found_ml: float
    reference_ml: float
    largest_found_dice: float
    largest_centroid_distance_mm: float
    false_count: int
    false_ml: float
    references: tuple[ReferenceLesion, ...]

    @property
    def volume_error_ml(self) -> float:
        """Found minus known volume."""
        return self.found_ml - self.reference_ml

    @property
    def volume_error_percent(self) -> float:
        """Found minus known volume in percent of the known one; NaN when nothing is known."""
        return 100.0 * self.volume_error_ml / self.reference_ml if self.reference_ml > 0 else float("nan")

    @property
    def detected_count(self) -> int:
        return sum(lesion.detected for lesion in self.references)


def compare_lesions(
    labels: np.ndarray, reference: np.ndarray, grid: Grid, minimal_reference_ml: float = 0.0
) -> LesionComparison:
    """Compare labeled lesions (I, J, K) int, 1 the largest, with a reference mask (I, J, K) bool.

    The reference's connected parts (26 neighbors) count as lesions of their own. Distances are NaN where there is
    no pair of lesions.

    Raises:
        InputError: the shapes differ.
    """
    if not tuple(labels.shape) == tuple(reference.shape) == tuple(grid.shape):
        raise InputError(
            f"Lesions {tuple(labels.shape)}, reference {tuple(reference.shape)} and scan {tuple(grid.shape)} differ "
            "in shape.",
            "Resample the reference to the scan first.",
        )
    known = label_mask(reference, grid, minimal_reference_ml)
    known_mask, found_mask = known > 0, labels > 0
    overlap = int(np.count_nonzero(known_mask & found_mask))
    touching = np.unique(labels[known_mask])
    sizes = np.bincount(labels.ravel())
    false_labels = [label for label in range(1, sizes.size) if sizes[label] and label not in touching]
    largest = labels == 1
    return LesionComparison(
        dice=_dice(overlap, int(found_mask.sum()), int(known_mask.sum())),
        found_ml=float(found_mask.sum()) * grid.voxel_volume_ml,
        reference_ml=float(known_mask.sum()) * grid.voxel_volume_ml,
        largest_found_dice=_dice(int((largest & known_mask).sum()), int(largest.sum()), int(known_mask.sum())),
        largest_centroid_distance_mm=_distance(largest, known == 1, grid),
        false_count=len(false_labels),
        false_ml=float(sizes[false_labels].sum()) * grid.voxel_volume_ml,
        references=tuple(_reference(label, known, labels, sizes, grid) for label in range(1, int(known.max()) + 1)),
    )


def _reference(label: int, known: np.ndarray, labels: np.ndarray, sizes: np.ndarray, grid: Grid) -> ReferenceLesion:
    mask = known == label
    volume = int(mask.sum())
    overlaps = np.bincount(labels[mask], minlength=1)
    covered = float(overlaps[1:].sum()) / volume
    found = int(overlaps[1:].argmax()) + 1 if overlaps[1:].any() else 0
    return ReferenceLesion(
        label=label,
        volume_ml=volume * grid.voxel_volume_ml,
        covered_share=covered,
        detected=covered >= DETECTION_SHARE,
        found_label=found,
        found_ml=float(sizes[found]) * grid.voxel_volume_ml if found else 0.0,
        dice=_dice(int(overlaps[found]), int(sizes[found]), volume) if found else 0.0,
        centroid_distance_mm=_distance(labels == found, mask, grid) if found else float("nan"),
    )


def _dice(overlap: int, first: int, second: int) -> float:
    return 2.0 * overlap / (first + second) if first + second else 1.0


def _distance(first: np.ndarray, second: np.ndarray, grid: Grid) -> float:
    """Distance in mm between the centroids of two masks (I, J, K); NaN when one is empty."""
    centers = []
    for mask in (first, second):
        box = bounding_box(mask)
        if box is None:
            return float("nan")
        start = [extent.start for extent in box]
        centers.append(grid.index_to_ras(np.array(ndimage.center_of_mass(mask[box])) + start))
    return float(np.linalg.norm(centers[0] - centers[1]))
