"""What belongs to the lungs but holds no air: vessels, masses at the pleura, consolidations.

Three steps, each on the coarse RAS-aligned copy:

1. Closing with a small ball takes in vessels and nodules.
2. Soft tissue inside the rib cage that is thinner than a large ball is a mass at the pleura: heart and liver are
   thicker, and survive the opening that removes it.
3. Soft tissue inside the rib cage, above the diaphragm and outside the mediastinum is consolidated lung. The
   mediastinum's outline is a table of half-widths in units of the rib cage, wide enough for the hearts it was read
   from; the diaphragm is where the aerated lung ends, or where it ends on the other side if that is much lower.

Steps 2 and 3 guess. So their parts must not hold fat or contrast agent, as breasts, chest wall and heart do, and have
to touch aerated lung; where the field of view cuts the chest wall, only compact masses are taken. A side to which
they would add more than ``LARGEST_ADDED_SHARE`` stays as the air shows it. What was added is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .diaphragm import DEPTHS, diaphragm, is_dome_top
from .morphology import closed, components, dilated, opened
from .rib_cage import RibCage, find_rib_cage
from .sides import LEFT, RIGHT, midplane
from .thorax import ChestAir
from .working_copy import WorkingCopy

VESSEL_CLOSING_MM = 12.0
MASS_RADIUS_MM = 24.0
DENSEST_HU = 130.0
"""Smoothed density above which tissue is contrast-filled or bone, not consolidated lung."""

THINNEST_MM = 6.0
RIM_CLOSING_MM = 6.0
SMALLEST_FILL_ML = 3.0
LUNG_HEIGHT_PER_WIDTH = 1.07
"""Height of the lungs, apex to deepest recess, over the width of the rib cage (1.07 in both scans measured)."""

HEIGHTS = (0.0, 0.35, 0.6, 0.8, 1.0)
MEDIASTINUM_RIGHT = (
    (0.42, 0.40, 0.36, 0.36, 0.36, 0.36),
    (0.42, 0.30, 0.30, 0.40, 0.40, 0.40),
    (0.42, 0.30, 0.36, 0.38, 0.36, 0.30),
    (0.40, 0.30, 0.26, 0.32, 0.36, 0.40),
    (0.50, 0.40, 0.30, 0.30, 0.40, 0.50),
)
MEDIASTINUM_LEFT = (
    (0.40, 0.36, 0.50, 0.80, 0.85, 0.85),
    (0.40, 0.30, 0.46, 0.82, 0.85, 0.80),
    (0.36, 0.32, 0.40, 0.52, 0.52, 0.40),
    (0.36, 0.32, 0.34, 0.34, 0.36, 0.40),
    (0.50, 0.40, 0.30, 0.30, 0.40, 0.50),
)
"""Half-width of the mediastinum as a share of the rib cage's: a row per height from the deepest recess (0) to the
apex (1), a column per depth from the back (0) to the front (1) of the rib cage. Rather too wide: where aerated lung is
seen nearer to the middle, the outline follows it."""

LARGE_FILL_ML = 50.0
OUTLINE_REACH_MM = 20.0
OUTLINE_TRUST = 0.15
LARGEST_SECTION_AT_TOP = 0.4
"""With more than this share of the largest cross-section in the topmost slice, the apex is out of view."""

LARGEST_ADDED_SHARE = 0.75
LARGEST_ADDED_CUT_SHARE = 0.2
"""A side is not completed when more of it would be dense tissue; the second with the chest wall cut."""

REPORTED_SHARE = 0.05
FAT_HU = (-130.0, -60.0)
LARGEST_FAT_SHARE = 0.5
LARGEST_CUT_FAT_SHARE = 0.12
"""Consolidated lung with some air left has the density of fat too: little is allowed only without the ribs."""

ENHANCED_HU = 100.0
SMALLEST_CONTACT = 0.06
MASS_CONTACT = 0.35
MASS_ML = 60.0
CUT_SHARE = 0.08
"""The chest wall is cut by the field of view when the body reaches this share of its edge at the lungs' height."""

HIGHEST_FILL = 0.9
"""Height (0..1) above which only closing fills: the rib cage is no guide at the apex."""


@dataclass(frozen=True, eq=False)
class _Chest:
    """The rib cage, its coordinates (``lateral``: share of the half-width, ``height`` (K,): 0..1), the mediastinum.

    ``height`` is NaN when the apex is out of view: then nothing is known of the mediastinum.
    """

    cage: RibCage
    lateral: np.ndarray
    height: np.ndarray
    mediastinum: np.ndarray


@dataclass(frozen=True, eq=False)
class Completed:
    """``sides`` (I, J, K) uint8 (1 right, 2 left), ``share`` (0..1) that is dense tissue taken for lung, and notes."""

    sides: np.ndarray
    share: float
    notes: tuple[str, ...]


def complete_lungs(copy: WorkingCopy, air: ChestAir, sides: np.ndarray) -> Completed:
    """``sides`` (I, J, K) uint8 (1 right, 2 left) of the aerated lung, grown over what belongs to it."""
    middle = midplane(sides > 0, air.body)
    allowed = air.body & ~air.airways
    seen = _closed_sides(sides, VESSEL_CLOSING_MM, allowed, copy.spacing)
    chest = _chest(copy, air, seen > 0, middle)
    is_cut = _is_cut(copy, air, seen > 0)
    missing = _believable(_missing(copy, air, chest, seen, middle), seen > 0, air.body, copy, is_cut)
    most = LARGEST_ADDED_CUT_SHARE if is_cut else LARGEST_ADDED_SHARE
    right_half = np.arange(sides.shape[0]) > middle
    assigned = np.where(right_half, RIGHT, LEFT).astype(np.uint8)[:, None, None]
    complete = np.where(missing & (seen == 0), assigned, seen)
    notes = []
    for side, name in ((RIGHT, "right"), (LEFT, "left")):
        added = np.count_nonzero((complete == side) & (seen == 0))
        share = float(added) / max(int(np.count_nonzero(complete == side)), 1)
        if share > most:
            complete[(complete == side) & (seen == 0)] = 0
            notes.append(
                f"{share:.0%} of the {name} lung would be dense tissue that was only taken for lung. That is too much "
                "to believe: its aerated part alone is measured, and what is consolidated there is not."
            )
        elif share > REPORTED_SHARE:
            notes.append(f"{share:.0%} of the {name} lung was completed over dense tissue.")
    complete = _closed_sides(complete, RIM_CLOSING_MM, allowed, copy.spacing)
    total = max(int(np.count_nonzero(complete)), 1)
    return Completed(complete, int(np.count_nonzero((complete > 0) & (seen == 0))) / total, tuple(notes))


def _closed_sides(sides: np.ndarray, radius: float, allowed: np.ndarray, spacing: float) -> np.ndarray:
    """Each side closed with a ball of ``radius`` mm, within what is allowed."""
    grown = sides.copy()
    for side in (RIGHT, LEFT):
        grown[closed(sides == side, radius, spacing) & (grown == 0) & allowed] = side
    return grown


def _is_cut(copy: WorkingCopy, air: ChestAir, lungs: np.ndarray) -> bool:
    """Whether the field of view cuts the chest wall, so that the ribs are no guide."""
    heights = np.flatnonzero(lungs.any(axis=(0, 1)))
    levels = slice(heights[0], heights[-1] + 1)
    known = copy.known[:, :, levels]
    rim = known & ~ndimage.binary_erosion(known, np.ones((3, 3, 1)))
    return bool(air.body[:, :, levels][rim].mean() > CUT_SHARE) if rim.any() else False


def _believable(
    missing: np.ndarray, lungs: np.ndarray, body: np.ndarray, copy: WorkingCopy, is_cut: bool
) -> np.ndarray:
    """Parts of ``missing`` that have the density of consolidated lung or of a mass, and touch the lungs."""
    labels, sizes = components(missing)
    kept = np.zeros(sizes.size, bool)
    below = body & ~lungs
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        around = tuple(slice(max(extent.start - 2, 0), extent.stop + 2) for extent in box)
        part = labels[around] == label
        core = ndimage.binary_erosion(part)
        values = copy.hu[around][core if core.sum() > 10 else part]
        fat = float(((values > FAT_HU[0]) & (values < FAT_HU[1])).mean())
        shell = ndimage.binary_dilation(part) & ~part
        contact = float(lungs[around][shell].mean())
        most_fat = LARGEST_CUT_FAT_SHARE if is_cut else LARGEST_FAT_SHARE
        dense = fat <= most_fat and float(np.median(values)) < ENHANCED_HU
        if is_dome_top(part, lungs[around], below[around]):
            continue
        if is_cut:
            kept[label] = dense and contact >= MASS_CONTACT and sizes[label] * copy.voxel_ml <= MASS_ML
        else:
            kept[label] = dense and contact >= SMALLEST_CONTACT
    return kept[labels]


def _chest(copy: WorkingCopy, air: ChestAir, lungs: np.ndarray, middle: float) -> _Chest:
    cage = find_rib_cage(copy, air, lungs, middle)
    x = np.arange(lungs.shape[0])[:, None] - cage.center[0]
    scale = np.where(x[..., None] > 0, cage.half_widths[None, None, :, 0], cage.half_widths[None, None, :, 1])
    lateral = np.nan_to_num(np.abs(x)[..., None] / scale, nan=1.0).astype(np.float32)
    lateral = np.broadcast_to(lateral, lungs.shape)
    height = _heights(cage, lungs)
    mediastinum = np.ones(lungs.shape, bool)
    if np.isfinite(height).all():
        depth = (np.arange(lungs.shape[1])[:, None] - cage.back) / np.maximum(cage.front - cage.back, 1.0)
        depth = np.clip(np.nan_to_num(depth, nan=0.5), 0.0, 1.0)
        right_half = np.arange(lungs.shape[0]) > middle
        for half, table in ((right_half, MEDIASTINUM_RIGHT), (~right_half, MEDIASTINUM_LEFT)):
            limit = _interpolated(table, depth, height)
            limit *= _seen_outline(lateral[half], lungs[half], limit, copy.spacing)
            mediastinum[half] = lateral[half] < limit
    return _Chest(cage, lateral, height, mediastinum)


def _heights(cage: RibCage, lungs: np.ndarray) -> np.ndarray:
    """Height of each slice, 0 at the deepest recess and 1 at the apex, (K,); NaN with the apex out of view."""
    sections = lungs.sum(axis=(0, 1))
    apex = np.flatnonzero(sections)[-1]
    if sections[apex] > LARGEST_SECTION_AT_TOP * sections.max():
        return np.full(sections.size, np.nan)
    width = np.nanpercentile(cage.half_widths.sum(axis=1), 95)
    return np.clip(1 - (apex - np.arange(sections.size)) / (LUNG_HEIGHT_PER_WIDTH * width), 0.0, 1.0)


def _seen_outline(lateral: np.ndarray, lungs: np.ndarray, limit: np.ndarray, spacing: float) -> np.ndarray:
    """Factor (J, K), at most 1, by which the tabled outline of one side is narrowed to what is seen nearby.

    Seen is the outline in rows whose innermost lung lies within (or just outside) the table's; the factor is their
    average weighted by distance, and fades to 1 far from them.
    """
    innermost = np.where(lungs, lateral, np.inf).min(axis=0)
    seen = innermost <= 1.1 * limit
    factor = np.where(seen, np.minimum(innermost / limit, 1.0), 0.0)
    sigma = OUTLINE_REACH_MM / spacing
    weight = ndimage.gaussian_filter(seen.astype(float), sigma)
    total = ndimage.gaussian_filter(factor, sigma)
    return (total + OUTLINE_TRUST) / (weight + OUTLINE_TRUST)


def _interpolated(table: tuple[tuple[float, ...], ...], depth: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The table at each depth (J, K) and height (K,), bilinear, (J, K)."""
    row = np.interp(height, HEIGHTS, np.arange(len(HEIGHTS)))
    column = np.interp(depth, DEPTHS, np.arange(len(DEPTHS)))
    return ndimage.map_coordinates(np.array(table), [np.broadcast_to(row, depth.shape), column], order=1)


def _missing(copy: WorkingCopy, air: ChestAir, chest: _Chest, sides: np.ndarray, middle: float) -> np.ndarray:
    """Lung without air: masses at the pleura and consolidations, (I, J, K) bool."""
    lungs = sides > 0
    bottom = diaphragm(chest.cage, chest.height, sides, middle, copy.spacing)
    above = np.arange(lungs.shape[2]) > bottom[:, :, None]
    soft = ndimage.gaussian_filter(copy.hu, 4.0 / copy.spacing) < DENSEST_HU
    tissue = chest.cage.inside & ~lungs & ~air.airways
    free = tissue & above & soft & ~(chest.height >= HIGHEST_FILL)
    consolidated = free & ~chest.mediastinum
    thin = free & ~opened(tissue, MASS_RADIUS_MM, copy.spacing) & (chest.lateral > 0.5)
    fill = opened(consolidated | thin, THINNEST_MM, copy.spacing)
    return _sizeable(fill, lungs, copy)


def _sizeable(fill: np.ndarray, lungs: np.ndarray, copy: WorkingCopy) -> np.ndarray:
    """Parts of ``fill`` that are large, or touch the lungs and are not small."""
    labels, sizes = components(fill)
    touching = np.zeros(sizes.size, bool)
    touching[np.unique(labels[dilated(lungs, 1.5 * copy.spacing, copy.spacing)])] = True
    volumes = sizes * copy.voxel_ml
    return (touching & (volumes >= SMALLEST_FILL_ML) | (volumes >= LARGE_FILL_ML))[labels]
