"""The X-rays of the demo: split by image, and given consolidations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import planting
from scipy import ndimage

HELD_OUT_EVERY = 6
"""Every sixth X-ray is held out: neither classifier nor generator nor encoder sees it."""
_SHIFT, _ZOOM, _TURN = 2.0, 0.05, 3.0


@dataclass(frozen=True)
class Cohort:
    """Images (n, 64, 64) uint8 with the opacity (n, 64, 64) uint8 (255 is dense) planted into each, and its label.

    ``clean`` are the same X-rays without the consolidation, ``source`` numbers them in the file they come from.
    """

    images: np.ndarray
    clean: np.ndarray
    opacity: np.ndarray
    burden: np.ndarray
    source: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        return np.array([planting.probability_of(burden) for burden in self.burden])


def read_xrays(path: Path) -> np.ndarray:
    """(8500, 64, 64) uint8 from ``chest_xray_64.npz``, repeats removed."""
    with np.load(path) as content:
        images = content["images"]
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    return images[np.sort(first)]


def held_out(xrays: np.ndarray, seed: int = 7) -> Cohort:
    """The held-out sixth, every other X-ray with a consolidation."""
    random = np.random.default_rng(seed)
    return _planted(xrays, np.arange(0, len(xrays), HELD_OUT_EVERY), random, moved=False)


def training(xrays: np.ndarray, copies: int = 4, seed: int = 0) -> Cohort:
    """The other X-rays, ``copies`` times each, slightly moved; every other copy with a consolidation of its own."""
    random = np.random.default_rng(seed)
    numbers = np.setdiff1d(np.arange(len(xrays)), np.arange(0, len(xrays), HELD_OUT_EVERY))
    return _planted(xrays, np.repeat(numbers, copies), random, moved=True)


def _planted(xrays: np.ndarray, numbers: np.ndarray, random: np.random.Generator, moved: bool) -> Cohort:
    images, clean, opacity, burden, source = [], [], [], [], []
    for number in numbers:
        original = xrays[number] / 255.0
        xray = _moved(original, random) if moved else original
        fields = planting.lung_fields(xray)
        if fields is None:
            continue
        found = planting.Planted(xray, np.zeros((64, 64)), 0.0)
        if len(images) % 2:
            found = planting.plant(xray, fields, random)
        images.append(_bytes(found.image))
        clean.append(_bytes(xray))
        opacity.append(_bytes(found.opacity))
        burden.append(found.burden)
        source.append(number)
    return Cohort(*(np.array(part) for part in (images, clean, opacity, burden, source)))


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _moved(xray: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shifted by up to 2 pixels, zoomed by up to 5 %, turned by up to 3 degrees; the border is repeated."""
    angle = np.deg2rad(random.uniform(-_TURN, _TURN))
    zoom = 1 + random.uniform(-_ZOOM, _ZOOM)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    center = np.array([31.5, 31.5])
    offset = center - matrix @ center + random.uniform(-_SHIFT, _SHIFT, 2)
    return np.clip(ndimage.affine_transform(xray, matrix, offset, order=3, mode="nearest"), 0, 1)


def write_held_out(cohort: Cohort, path: Path, count: int = 120) -> None:
    """The first held-out X-rays as a small file: images, what was added to them (images - clean), opacity, burden."""
    part = slice(0, count)
    added = cohort.images[part] - cohort.clean[part]
    np.savez_compressed(
        path,
        images=cohort.images[part],
        added=added,
        opacity=cohort.opacity[part],
        burden=cohort.burden[part].astype(np.float32),
        source=cohort.source[part].astype(np.int16),
    )


def read_held_out(path: Path) -> Cohort:
    """What :func:`write_held_out` wrote."""
    with np.load(path) as content:
        images, opacity, burden = content["images"], content["opacity"], content["burden"]
        return Cohort(images, images - content["added"], opacity, burden, content["source"])
