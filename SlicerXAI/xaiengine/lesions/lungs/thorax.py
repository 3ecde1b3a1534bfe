"""The air of the chest: outside air, body, airways and aerated lung, on a coarse RAS-aligned copy of the CT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .morphology import CORNERS, components, dilated, largest_component, opened
from .working_copy import WorkingCopy

DEFAULT_THRESHOLD_HU = -400.0
THRESHOLD_RANGE_HU = (-480.0, -320.0)
GAS_MARGIN_HU = 40.0
"""Voxels within this of pure air are gas (bowel, airways); lung tissue is denser."""

MAIN_PART_ML = 20.0
MINIMAL_PART_ML = 0.5
NEAR_MM = 30.0
BELOW_LUNG_MM = 5.0
MINIMAL_TISSUE_SHARE = 0.4
TRACHEA_AREA_MM2 = (30.0, 900.0)
TRACHEA_LENGTH_MM = 20.0
TRACHEA_WIDEST_MM = 45.0
TRACHEA_OFF_MIDDLE_MM = 45.0
AIRWAY_LIMIT_ML = 120.0


@dataclass(frozen=True, eq=False)
class ChestAir:
    """Masks (I, J, K) bool on the working copy, and the threshold in HU that separates air from tissue."""

    body: np.ndarray
    aerated: np.ndarray
    airways: np.ndarray
    threshold: float


def find_chest_air(copy: WorkingCopy) -> ChestAir:
    """Aerated lung and airways of the scan; ``aerated`` is empty when there is none."""
    pure_air = _pure_air(copy)
    outside = _outside_air(copy, copy.hu < DEFAULT_THRESHOLD_HU, pure_air)
    body = _body(copy, outside)
    threshold = _threshold(copy, body)
    inside_air = body & (copy.hu < threshold)
    airways = _airways(copy, inside_air, _lung_parts(copy, inside_air, pure_air), pure_air)
    wall = dilated(airways, 1.5 * copy.spacing, copy.spacing)
    aerated = _lung_parts(copy, inside_air & ~wall, pure_air)
    return ChestAir(body, aerated, airways, threshold)


def _pure_air(copy: WorkingCopy) -> float:
    """HU of air in this scan: the median of the voxels that hardly anything but air can be, else -1000."""
    values = copy.hu[copy.known & (copy.hu > -1020.0) & (copy.hu < -960.0)]
    return float(np.median(values)) if values.size > 1000 else -1000.0


def _outside_air(copy: WorkingCopy, air: np.ndarray, pure_air: float) -> np.ndarray:
    """Air that reaches the sides of an axial slice, and whatever lies outside the field of view.

    Decided slice by slice: in three dimensions the airways of a scan with the head connect the lungs with the
    outside. A part that reaches the side but has the density of lung is lung cut by a small field of view.
    """
    outside = ~copy.known
    for k in range(air.shape[2]):
        known = copy.known[:, :, k]
        labels, count = ndimage.label(air[:, :, k])
        rim = known & ~ndimage.binary_erosion(known)
        core = np.where(ndimage.binary_erosion(labels > 0), labels, 0).ravel()
        totals = np.bincount(core, weights=copy.hu[:, :, k].ravel(), minlength=count + 1)
        counts = np.bincount(core, minlength=count + 1)
        touching = np.bincount(labels[rim], minlength=count + 1) > 0
        touching[0] = False
        lung_like = totals > (pure_air + 2 * GAS_MARGIN_HU) * counts
        outside[:, :, k] |= (touching & ~lung_like)[labels]
    return outside


def _body(copy: WorkingCopy, outside: np.ndarray) -> np.ndarray:
    """The patient with the air inside: the largest part that is not outside air, cut off from table and blankets."""
    trunk = largest_component(opened(~outside, 3 * copy.spacing, copy.spacing))
    return dilated(trunk, 2 * copy.spacing, copy.spacing) & ~outside


def _threshold(copy: WorkingCopy, body: np.ndarray) -> float:
    """HU half-way between the lung's and the soft tissue's median, within -480..-320 HU."""
    values = copy.hu[body]
    lung = values[(values > -960.0) & (values < -500.0)]
    tissue = values[(values > -150.0) & (values < 150.0)]
    if lung.size < 100 or tissue.size < 100:
        return DEFAULT_THRESHOLD_HU
    return float(np.clip((np.median(lung) + np.median(tissue)) / 2, *THRESHOLD_RANGE_HU))


def _airways(copy: WorkingCopy, inside_air: np.ndarray, lungs: np.ndarray, pure_air: float) -> np.ndarray:
    """Trachea and main bronchi: grown from the trachea at the highest threshold that does not leak into the lungs."""
    grown = np.zeros_like(inside_air)
    if not lungs.any():
        return grown
    # Half-way between air and lung: the wall between trachea and lung is thinner than a voxel.
    gas = inside_air & (copy.hu < (pure_air + float(np.median(copy.hu[lungs]))) / 2)
    seed = _trachea(gas, lungs, copy.spacing)
    for threshold in np.arange(pure_air + 30.0, pure_air + 260.0, 20.0):
        region = ndimage.binary_propagation(seed & (copy.hu < threshold), mask=inside_air & (copy.hu < threshold))
        volume = region.sum() * copy.voxel_ml
        if volume > AIRWAY_LIMIT_ML or volume > 2.0 * max(grown.sum() * copy.voxel_ml, 15.0):
            break
        grown = region
    return opened(grown, 1.1 * copy.spacing, copy.spacing) | (seed & grown)


def _trachea(gas: np.ndarray, lungs: np.ndarray, spacing: float) -> np.ndarray:
    """The chain of round cross-sections of gas near the midline of the lungs that lies highest; may be empty."""
    sections = np.zeros_like(gas)
    columns = np.flatnonzero(lungs.any(axis=(1, 2)))
    middle = float(columns[0] + columns[-1]) / 2
    heights = np.flatnonzero(lungs.any(axis=(0, 1)))
    for k in range(int(heights.mean()), gas.shape[2]):
        labels, _ = ndimage.label(gas[:, :, k])
        for index, extent in enumerate(ndimage.find_objects(labels), start=1):
            section = labels[extent] == index
            center = (extent[0].start + extent[0].stop - 1) / 2
            if _is_round(section, spacing) and abs(center - middle) * spacing <= TRACHEA_OFF_MIDDLE_MM:
                sections[:, :, k][extent] |= section
    return _highest_chain(sections, spacing)


def _is_round(section: np.ndarray, spacing: float) -> bool:
    area = section.sum() * spacing**2
    sides = np.array(section.shape) * spacing
    in_range = TRACHEA_AREA_MM2[0] <= area <= TRACHEA_AREA_MM2[1]
    return bool(in_range and sides.max() <= TRACHEA_WIDEST_MM and area >= 0.45 * sides.prod())


def _highest_chain(sections: np.ndarray, spacing: float) -> np.ndarray:
    labels, _ = components(sections, CORNERS)
    extents = enumerate(ndimage.find_objects(labels), start=1)
    tops = {
        index: extent[2].stop
        for index, extent in extents
        if (extent[2].stop - extent[2].start) * spacing >= TRACHEA_LENGTH_MM
    }
    return np.asarray(labels == max(tops, key=lambda label: tops[label])) if tops else np.zeros_like(sections)


def _lung_parts(copy: WorkingCopy, air: np.ndarray, pure_air: float) -> np.ndarray:
    """Parts of ``air`` whose inside has the density of lung rather than of gas, and small parts close to them."""
    labels, sizes = components(air)
    kept = _tissue_like(copy, labels, np.flatnonzero(sizes * copy.voxel_ml >= MAIN_PART_ML), pure_air)
    main = np.isin(labels, kept)
    if not main.any():
        return main
    near = _tissue_like(copy, labels, np.unique(labels[dilated(main, NEAR_MM, copy.spacing) & (labels > 0)]), pure_air)
    lung = [
        label
        for label in near
        if sizes[label] * copy.voxel_ml >= MINIMAL_PART_ML
        and not _lies_below(labels == label, main, copy.spacing)
        and not _lies_above(labels == label, main)
    ]
    return main | np.isin(labels, lung)


def _lies_below(part: np.ndarray, main: np.ndarray, spacing: float) -> bool:
    """Whether a part lies under the lungs, as bowel does: all of it well below the lowest lung of its columns."""
    columns = part.any(axis=2) & main.any(axis=2)
    if not columns.any():
        return False
    top = part.shape[2] - 1 - part[columns][:, ::-1].argmax(axis=1)
    return bool(np.median(main[columns].argmax(axis=1) - top) * spacing > BELOW_LUNG_MM)


def _lies_above(part: np.ndarray, main: np.ndarray) -> bool:
    """Whether a part lies over the lungs, as the airways of neck and head do: half of it above their apex."""
    apex = int(np.flatnonzero(main.any(axis=(0, 1)))[-1])
    heights = np.nonzero(part)[2]
    return bool((heights > apex).mean() > 0.5)


def _tissue_like(copy: WorkingCopy, labels: np.ndarray, candidates: np.ndarray, pure_air: float) -> np.ndarray:
    """Those of the labels whose inside (all but the rim) is mostly denser than gas and lighter than soft tissue."""
    if candidates.size == 0:
        return candidates
    core = np.where(ndimage.binary_erosion(labels > 0), labels, 0)
    tissue = (copy.hu > pure_air + GAS_MARGIN_HU).astype(np.float64)
    index = np.arange(labels.max() + 1)
    counts = np.maximum(np.bincount(core.ravel(), minlength=index.size), 1)
    shares = np.bincount(core.ravel(), weights=tissue.ravel(), minlength=index.size) / counts
    return candidates[shares[candidates] >= MINIMAL_TISSUE_SHARE]
