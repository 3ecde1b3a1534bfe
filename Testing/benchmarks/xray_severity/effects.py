"""What a zone contributes to a model's answer: Shapley values over the six zones, other zones put in their place."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .cases import ZONES, Cases, moved_zone

Values = Callable[[np.ndarray], np.ndarray]
"""Points (m,) of images (m, 128, 128)."""
Replacement = Callable[[int, int], list[np.ndarray]]
"""Of a zone of an image: the images (128, 128) that may stand in that zone, by image and zone number."""
COALITIONS = np.array([[number >> zone & 1 for zone in range(ZONES)] for number in range(2**ZONES)], bool)


def shapley_values(values: np.ndarray) -> np.ndarray:
    """(6,) from the value of every coalition (64,), bit z of whose number says whether zone z is kept."""
    found = np.zeros(ZONES)
    sizes = COALITIONS.sum(1)
    for zone in range(ZONES):
        without = np.flatnonzero(~COALITIONS[:, zone])
        weights = [
            math.factorial(size) * math.factorial(ZONES - 1 - size) / math.factorial(ZONES) for size in sizes[without]
        ]
        found[zone] = np.dot(weights, values[without | 1 << zone] - values[without])
    return found


def donated(cases: Cases, number: int, donors: Cases, random: np.random.Generator) -> np.ndarray:
    """The image of a case whose every zone comes from a healthy donor of that zone, drawn by chance."""
    image = cases.images[number]
    for zone, healthy in enumerate(donors.healthy_zones()):
        other = int(random.choice(healthy))
        image = moved_zone(image, cases.places[number][zone], donors.images[other], donors.places[other][zone])
    return image


def painted(cases: Cases, number: int, reference: np.ndarray) -> np.ndarray:
    """The images of all coalitions (64, 128, 128): zones that are left out come from the reference (128, 128)."""
    weights = np.stack([zone.weight for zone in cases.places[number]])
    hidden = np.tensordot((~COALITIONS).astype(np.float32), weights, 1)
    image = cases.images[number]
    return image + np.clip(hidden, 0, 1) * (reference - image)


def shapley_effect(values: Values, cases: Cases, donors: Cases, draws: int = 4, seed: int = 0) -> np.ndarray:
    """(n, 6) Shapley values of the zones, healthy zones of ``draws`` random donors in their place."""
    found = np.zeros((len(cases), ZONES))
    for number in range(len(cases)):
        random = np.random.default_rng((seed, number))
        for _ in range(draws):
            reference = donated(cases, number, donors, random)
            found[number] += shapley_values(values(painted(cases, number, reference))) / draws
    return found


def mean_effect(values: Values, cases: Cases, healthy: np.ndarray) -> np.ndarray:
    """(n, 6) the same with the mean of ``healthy`` images (m, 128, 128) in place of the zones."""
    mean = healthy.mean(0)
    return np.stack([shapley_values(values(painted(cases, number, mean))) for number in range(len(cases))])


def single_effect(values: Values, cases: Cases, donors: Cases, draws: int = 4, seed: int = 1) -> np.ndarray:
    """(n, 6) what the answer falls by when one zone alone is replaced by that of a healthy donor."""
    alone = (2**ZONES - 1) - 2 ** np.arange(ZONES)
    found = np.zeros((len(cases), ZONES))
    for number in range(len(cases)):
        random = np.random.default_rng((seed, number))
        for _ in range(draws):
            images = painted(cases, number, donated(cases, number, donors, random))
            answers = values(images[[2**ZONES - 1, *alone]])
            found[number] += (answers[0] - answers[1:]) / draws
    return found
