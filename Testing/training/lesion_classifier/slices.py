"""Labelled CT slices for training: with and without planted lesions, several random plantings per anatomy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import planting
from cohort import Anatomy
from scipy import ndimage

PRESENT_MM2 = 20.0
"""Added tissue from which on a slice counts as showing a lesion: area x share of the voxel that became tissue."""
OUTSIDE_HU = -1000
"""What the classifier sees outside the lungs."""
ABSENT_MM2 = 1.0
AERATED_MM2 = 300.0
"""A slice without this much air left in its lungs cannot be told from one below the lungs, and is left out."""
KIND_WEIGHTS = {
    "ground_glass": 0.2,
    "consolidation": 0.14,
    "mass": 0.14,
    "mixed": 0.12,
    "diffuse": 0.14,
    "nodule": 0.1,
    "spiculated": 0.06,
    "part_solid": 0.06,
    "cavitary": 0.04,
}
THICK_SHARE = 0.3
"""Share of the variants of thin scans that are taken in slices twice as thick."""
LEAKING_SHARE = 0.15
"""Share of the variants whose lungs are drawn with soft tissue of the surroundings in them."""


@dataclass(frozen=True)
class LabelledSlice:
    """One axial slice (I, J) int16 in HU, pixel size in mm, and whether a lesion is in it. No mask is kept."""

    image: np.ndarray
    spacing: tuple[float, float]
    lesion: bool


def labeled_slices(
    anatomy: Anatomy, plantings: int, rng: np.random.Generator, field_mm: float | None = None
) -> list[LabelledSlice]:
    """Slices of ``plantings`` random plantings of one anatomy and of as many lesion-free variants of it.

    With ``field_mm`` each is a scan of that field of view, cut out before anything is planted, so that its label is
    that of a scan, too. A slice with a trace of added tissue (1 to 20 mm2 of full density) is left out: its label
    would be a matter of taste. Slices without lung are kept as lesion-free ones, one in 25.
    """
    kinds = list(KIND_WEIGHTS)
    weights = np.array([KIND_WEIGHTS[kind] for kind in kinds])
    pixel = anatomy.spacing[0] * anatomy.spacing[1]
    out: list[LabelledSlice] = []
    for index in range(2 * plantings):
        hu, lungs = _field_of_view(anatomy, field_mm, rng)
        if rng.random() < 0.8:
            hu = planting.add_distractors(hu, lungs, anatomy.spacing, rng)
        before = hu
        if index < plantings:
            for _ in range(1 if rng.random() < 0.7 else 2):
                kind = kinds[rng.choice(len(kinds), p=weights)]
                planted = planting.plant(hu, lungs, anatomy.spacing, rng, kind=kind)
                hu = planted.hu
        usable, healthy = anatomy.usable, anatomy.healthy
        if anatomy.spacing[2] <= 3.5 and rng.random() < THICK_SHARE:
            hu, before = _pairs(hu).mean(-1), _pairs(before).mean(-1)
            lungs, usable, healthy = _pairs(lungs).mean(-1) >= 0.5, _pairs(usable).all(-1), _pairs(healthy).all(-1)
        aerated = ((hu < -600) & lungs).sum((0, 1)) * pixel
        added = np.maximum(hu - before, 0).sum((0, 1)) * pixel / 900.0
        lung_area = lungs.sum((0, 1)) * pixel
        hu = np.rint(np.where(drawn_lungs(lungs, anatomy.spacing, rng), hu, OUTSIDE_HU)).astype(np.int16)
        for k in np.flatnonzero(usable):
            present = bool(added[k] >= PRESENT_MM2)
            if present and aerated[k] < AERATED_MM2:
                continue
            if not present and (added[k] > ABSENT_MM2 or not healthy[k]):
                continue
            if not present and lung_area[k] < 300 and rng.random() > 0.04:
                continue
            out.append(LabelledSlice(np.ascontiguousarray(hu[:, :, k]), anatomy.spacing[:2], present))
    return out


def drawn_lungs(lungs: np.ndarray, spacing: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """The lungs as another segmentation might draw them: their border moved by up to some 3 mm, here and there."""
    in_plane = (spacing[0], spacing[1], 1e3)
    distance = ndimage.distance_transform_edt(lungs, sampling=in_plane)
    distance -= ndimage.distance_transform_edt(~lungs, sampling=in_plane)
    offset = rng.normal(0.3, 0.8) + rng.uniform(0, 1.2) * planting.smooth_noise(
        lungs.shape, np.array(spacing), 15.0, rng
    )
    if rng.random() < LEAKING_SHARE:
        places = planting.smooth_noise(lungs.shape, np.array(spacing), 20.0, rng)
        offset = offset - rng.uniform(3.0, 12.0) * np.clip(places - 0.5, 0.0, 1.0)
    return distance > offset


def _pairs(array: np.ndarray) -> np.ndarray:
    """Neighbors along the last axis two by two, (..., K // 2, 2)."""
    return array[..., : array.shape[-1] // 2 * 2].reshape(*array.shape[:-1], -1, 2)


def _field_of_view(
    anatomy: Anatomy, field_mm: float | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """HU (float32) and lungs of the whole scan, or of a column of ``field_mm`` around a random lung voxel."""
    hu = anatomy.hu
    lungs = anatomy.masks[rng.integers(len(anatomy.masks))]
    if field_mm is None and rng.random() < 0.3:
        field_mm = rng.uniform(180.0, 260.0)
    if field_mm is not None:
        inside = np.argwhere(lungs.any(2))
        center = inside[rng.integers(len(inside))]
        box = []
        for axis in range(2):
            size = min(int(round(field_mm / anatomy.spacing[axis])), hu.shape[axis])
            start = int(np.clip(center[axis] - size // 2, 0, hu.shape[axis] - size))
            box.append(slice(start, start + size))
        hu, lungs = hu[tuple(box)], lungs[tuple(box)]
    return hu.astype(np.float32), lungs
