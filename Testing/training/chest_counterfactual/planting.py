"""Consolidations of known place and extent, planted into the lungs of real chest X-rays of 64 x 64 pixels.

A consolidation is an opacity of soft edge and uneven texture that hides the lung's air: within it the image is
pulled toward the brightness of soft tissue, and clipped at the lung field. Its burden, the share of the lung area
that it hides, gives the probability that the classifier learns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

HALF_BURDEN = 0.06
"""Share of the lung area at which the probability of the label is one half."""
LEAST, MOST = 0.03, 0.97
"""Range of the label's probability: no X-ray is called certain."""
LEAST_CONTRAST = 0.3
"""Difference of mediastinum and lung that an X-ray must have to show a consolidation."""
_SIDES = ((20.0, 30.0), (44.0, 30.0))
_RADII = (11.0, 19.0)
_LUNG_PIXELS = (150, 900)


@dataclass(frozen=True)
class Planted:
    """An X-ray (64, 64) in 0..1 with its consolidation: opacity (64, 64) in 0..1, burden, probability of the label."""

    image: np.ndarray
    opacity: np.ndarray
    burden: float

    @property
    def probability(self) -> float:
        return probability_of(self.burden)


def probability_of(burden: float) -> float:
    """Probability of "consolidation": 0.03 for no burden, about one half at :data:`HALF_BURDEN`, then toward 0.97."""
    share = burden**2 / (burden**2 + HALF_BURDEN**2)
    return LEAST + (MOST - LEAST) * share


def lung_fields(image: np.ndarray) -> np.ndarray | None:
    """Mask (2, 64, 64) of the two lung fields of an X-ray in 0..1, or None where they cannot be told.

    In each of two ellipses where lungs usually lie: the largest region darker than the middle between its dark and
    the mediastinum's bright, of a plausible size.
    """
    rows, columns = np.mgrid[:64, :64]
    smooth = ndimage.gaussian_filter(image, 1.2)
    bright = np.percentile(smooth[15:50, 27:37], 70)
    fields = []
    for column, row in _SIDES:
        ellipse = ((columns - column) / _RADII[0]) ** 2 + ((rows - row) / _RADII[1]) ** 2 <= 1
        dark = np.percentile(smooth[ellipse], 15)
        if bright - dark < LEAST_CONTRAST:
            return None
        labels, _ = ndimage.label((smooth < dark + 0.6 * (bright - dark)) & ellipse)
        sizes = np.bincount(labels.ravel())[1:]
        field = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes)))
        field = ndimage.binary_opening(field, iterations=1)
        if not _LUNG_PIXELS[0] <= field.sum() <= _LUNG_PIXELS[1]:
            return None
        fields.append(field)
    return np.stack(fields)


def plant(image: np.ndarray, fields: np.ndarray, random: np.random.Generator) -> Planted:
    """Plant one consolidation of random side, place, extent, density and texture."""
    lung = fields[random.integers(2)]
    places = np.argwhere(lung)
    center = places[random.integers(len(places))]
    radius = np.exp(random.uniform(np.log(2.5), np.log(13.0)))
    rows, columns = np.mgrid[:64, :64]
    offset = np.stack([rows - center[0], columns - center[1]]).astype(float)
    angle, ratio = random.uniform(0, np.pi), random.uniform(0.6, 1.0)
    along = offset[0] * np.cos(angle) + offset[1] * np.sin(angle)
    across = (offset[1] * np.cos(angle) - offset[0] * np.sin(angle)) / ratio
    bumps = ndimage.gaussian_filter(random.standard_normal((64, 64)), 3.0)
    distance = np.hypot(along, across) - radius * (1 + 0.25 * bumps / bumps.std())
    blob = 1 / (1 + np.exp(distance / random.uniform(0.7, 1.6)))
    texture = ndimage.gaussian_filter(random.standard_normal((64, 64)), random.uniform(0.8, 1.6))
    density = np.clip(random.uniform(0.7, 0.97) * (1 + 0.18 * texture / texture.std()), 0, 1)
    soft_lung = ndimage.gaussian_filter(lung.astype(float), 0.8)
    opacity = blob * density * np.clip(1.3 * soft_lung, 0, 1)
    bright = np.percentile(ndimage.gaussian_filter(image, 1.2)[15:50, 27:37], 70) * random.uniform(0.85, 1.0)
    planted = image + opacity * np.maximum(bright - image, 0)
    return Planted(planted.astype(np.float32), opacity.astype(np.float32), float(opacity.sum() / fields.sum()))
