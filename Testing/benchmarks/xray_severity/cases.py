"""Chest X-rays with two radiologists' scores of six zones, split by patient, and zones that move between images.

The file holds ``severity_images`` (n, 128, 128) uint8, ``senior`` and ``junior`` (n, 6) scores 0..3 of the zones A B
C (the patient's right, left in the picture, upper to lower) and D E F, ``severity_zones`` (n, 6, 128, 16) uint8 as
packed bits, ``severity_patient`` (n,) and ``severity_fold`` (n,): the images of the fold are held out of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import ndimage

ZONES = 6
MOST = 18
"""The highest sum of the scores of six zones."""
HEALTHY = 2
"""Images whose zones add up to no more serve as healthy references."""
MIRRORED = [3, 4, 5, 0, 1, 2]
"""The zones of a mirrored image."""
FEATHER = 1.5
"""SD in pixels of the soft border of a zone that is pasted in."""


@dataclass(frozen=True, eq=False)
class Cases:
    """``images`` (n, 128, 128) float32 in 0..1, ``zones`` (n, 6, 128, 128) bool, ``scores`` and ``second`` (n, 6) of
    two readers, ``patients`` and ``folds`` (n,)."""

    images: np.ndarray
    zones: np.ndarray
    scores: np.ndarray
    second: np.ndarray
    patients: np.ndarray
    folds: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def part(self, chosen: np.ndarray) -> Cases:
        """The images of a selection (n,) of numbers or booleans."""
        arrays = (self.images, self.zones, self.scores, self.second, self.patients, self.folds)
        return Cases(*(array[chosen] for array in arrays))

    @cached_property
    def totals(self) -> np.ndarray:
        return self.scores.sum(1)

    @cached_property
    def places(self) -> list[list[Zone]]:
        return [[Zone.of(mask) for mask in masks] for masks in self.zones]

    def healthy_zones(self) -> list[list[int]]:
        """For each zone, the images in which both readers gave it no point."""
        return [np.flatnonzero((self.scores[:, zone] + self.second[:, zone]) == 0).tolist() for zone in range(ZONES)]


def read_cases(path: Path) -> Cases:
    """The cases of a file. Raises SystemExit where it is missing or holds something else."""
    try:
        with np.load(path) as content:
            zones = np.unpackbits(content["severity_zones"], -1).astype(bool)
            return Cases(
                (content["severity_images"] / 255.0).astype(np.float32),
                zones,
                content["senior"].astype(int),
                content["junior"].astype(int),
                content["severity_patient"],
                content["severity_fold"],
            )
    except (OSError, KeyError, ValueError) as error:
        raise SystemExit(
            f"{path} cannot be read as X-rays with scores of zones ({type(error).__name__}: {error}). Give a file "
            "with severity_images, severity_zones, senior, junior, severity_patient and severity_fold; "
            "docs/severity.md says how to make one from the public data."
        ) from error


@dataclass(frozen=True, eq=False)
class Zone:
    """A region (128, 128) with a coordinate system of its own: height and, in each row, left and right end."""

    weight: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    top: int
    ends: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> Zone:
        weight = ndimage.gaussian_filter(mask.astype(np.float32), FEATHER)
        rows, columns = np.nonzero(weight > 0.02)
        inside = np.flatnonzero(mask.any(1))
        top, bottom = int(inside[0]), int(inside[-1])
        ends = np.empty((bottom - top + 1, 2))
        for row in range(top, bottom + 1):
            found = np.flatnonzero(mask[row])
            ends[row - top] = (found[0], found[-1]) if len(found) else ends[max(0, row - top - 1)]
        smooth = ndimage.gaussian_filter1d(ends, 2.0, axis=0, mode="nearest")
        return cls(weight, rows, columns, top, smooth)

    def corresponding(self, other: Zone) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns in ``other`` of this zone's pixels: the same share of height and of the row's width."""
        share = (self.rows - self.top) / max(1, len(self.ends) - 1)
        own = self.ends[np.clip(self.rows - self.top, 0, len(self.ends) - 1)]
        across = (self.columns - own[:, 0]) / np.maximum(own[:, 1] - own[:, 0], 1)
        row = share * max(1, len(other.ends) - 1)
        theirs = other.ends[np.clip(np.rint(row).astype(int), 0, len(other.ends) - 1)]
        return other.top + row, theirs[:, 0] + across * (theirs[:, 1] - theirs[:, 0])


def moved_zone(image: np.ndarray, zone: Zone, donor: np.ndarray, donor_zone: Zone) -> np.ndarray:
    """The image (128, 128) with the donor's zone, fitted into its own, in its place."""
    places = zone.corresponding(donor_zone)
    values = ndimage.map_coordinates(donor, places, order=1, mode="nearest")
    weight = zone.weight[zone.rows, zone.columns]
    found = image.copy()
    found[zone.rows, zone.columns] += weight * (values - found[zone.rows, zone.columns])
    return found


def mixed(cases: Cases, number: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image and its scores, some zones of it taken from other images."""
    image, scores = cases.images[number], cases.scores[number].copy()
    for zone in np.flatnonzero(random.random(ZONES) < random.choice([0.0, 0.3, 0.6])):
        other = int(random.integers(len(cases)))
        image = moved_zone(image, cases.places[number][zone], cases.images[other], cases.places[other][zone])
        scores[zone] = cases.scores[other, zone]
    return image, scores


def varied(image: np.ndarray, scores: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mirrored by chance, moved, zoomed, with another contrast, brightness, gamma and noise."""
    if random.random() < 0.5:
        image, scores = image[:, ::-1], scores[MIRRORED]
    zoom, shift = random.uniform(0.92, 1.08, 2), random.uniform(-5, 5, 2)
    center = (np.array(image.shape) - 1) / 2
    image = ndimage.affine_transform(image, zoom, center - zoom * center + shift, order=1, mode="nearest")
    image = np.clip(image, 0, 1) ** random.uniform(0.8, 1.25)
    image = image * random.uniform(0.9, 1.1) + random.uniform(-0.05, 0.05)
    return (image + random.normal(0, 0.01, image.shape)).astype(np.float32), scores


def zones_of_lungs(lungs: Sequence[np.ndarray]) -> np.ndarray:
    """(6, rows, columns) thirds of the height of the lungs at the picture's left and right."""
    zones = []
    for lung in lungs:
        rows = np.flatnonzero(lung.any(1))
        edges = np.linspace(rows[0], rows[-1] + 1, 4).round().astype(int)
        for first, last in zip(edges, edges[1:]):
            zone = np.zeros_like(lung)
            zone[first:last] = lung[first:last]
            zones.append(zone)
    return np.stack(zones)
