"""Where on the attribution map a lesion begins, in bits per voxel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError, OptionError

OTSU_BINS = 512


@dataclass(frozen=True)
class Threshold:
    """``value`` in bits per voxel (a lesion's voxels lie above it), the ``method``, and in words where it is from."""

    value: float
    method: str
    origin: str


def calibrated_threshold(healthy_bits: Iterable[np.ndarray], false_fraction: float = 0.001) -> Threshold:
    """The lowest threshold that at most ``false_fraction`` of healthy lung voxels exceed.

    ``healthy_bits``: for each lesion-free scan the map's values inside the lungs, any shape; pooled over scans.

    Raises:
        OptionError: the fraction is not above 0 and below 1.
        InputError: no values, fewer than 1 / fraction, or values that are not finite.
    """
    if not 0.0 < false_fraction < 1.0:
        raise OptionError(
            f"The fraction of healthy voxels is {false_fraction}; above 0 and below 1 was expected.",
            "Choose for example 0.001, one healthy voxel in a thousand.",
        )
    scans = [np.asarray(values, np.float32).ravel() for values in healthy_bits]
    pooled = np.concatenate(scans) if scans else np.empty(0, np.float32)
    _check_finite(pooled)
    if pooled.size < 1.0 / false_fraction:
        raise InputError(
            f"{pooled.size} healthy lung voxels are too few to calibrate to a fraction of {false_fraction:g}.",
            "Give more lesion-free scans, or choose a larger fraction.",
        )
    allowed = int(np.floor(false_fraction * pooled.size))
    position = pooled.size - 1 - allowed
    value = float(np.partition(pooled, position)[position])
    origin = f"exceeded by at most {false_fraction:.3%} of {pooled.size} healthy lung voxels of {len(scans)} scans"
    return Threshold(value, "calibrated", origin)


def otsu_threshold(bits: np.ndarray, floor: float = 0.0) -> Threshold:
    """The threshold that parts the values into two classes of least variance within (Otsu 1979), at least ``floor``.

    ``bits``: the map's values inside the lungs, any shape. Otsu finds two classes in healthy lungs too: ``floor``
    (bits per voxel) is what keeps those dark. A constant map gives its constant, which no voxel exceeds.
    """
    values = np.asarray(bits, np.float64).ravel()
    _check_finite(values)
    if values.size == 0:
        raise InputError("The lungs hold no voxel of the map.", "Check that map and lungs belong to the same scan.")
    counts, edges = np.histogram(values, OTSU_BINS)
    if values.min() == values.max():
        return Threshold(max(float(values.max()), floor), "otsu", "the map is constant in the lungs")
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sum_below = np.cumsum(counts * centers)[:-1]
    mean_gap = sum_below / np.maximum(below, 1) - ((counts * centers).sum() - sum_below) / np.maximum(above, 1)
    between = below * above * mean_gap**2
    # Equal maxima span a gap between the classes: its middle is the threshold.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    value = float((edges[best[0] + 1] + edges[best[-1] + 1]) / 2)
    if value < floor:
        return Threshold(float(floor), "otsu", f"Otsu's {value:.3g} raised to the floor")
    return Threshold(value, "otsu", f"two classes of {values.size} lung voxels")


def absolute_threshold(bits_per_voxel: float) -> Threshold:
    """A threshold given by the user.

    Raises:
        OptionError: it is negative or not finite.
    """
    if not (np.isfinite(bits_per_voxel) and bits_per_voxel >= 0.0):
        raise OptionError(
            f"The threshold is {bits_per_voxel} bits per voxel; a number of at least 0 was expected.",
            "Choose a threshold of at least 0.",
        )
    return Threshold(float(bits_per_voxel), "absolute", "given by the user")


def _check_finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise InputError(
            "The attribution map holds values that are not finite inside the lungs.",
            "Explain the scan again; report the model and the method if it happens again.",
        )
