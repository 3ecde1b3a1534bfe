"""Two dissections side by side: which concepts appear, and how many units detect them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .dissection import Dissection


@dataclass(frozen=True)
class ConceptChange:
    """Units of one concept in two models, their shares of all units, and the change of the share (second - first)
    with its 95 % interval over draws of images; ``paired`` if both were drawn from the same images."""

    concept: str
    first_units: int
    second_units: int
    first_share: float
    second_share: float
    change: float
    low: float
    high: float
    first_iou: float
    second_iou: float
    verdict: str
    paired: bool


def compare_dissections(first: Dissection, second: Dissection) -> list[ConceptChange]:
    """Every concept of either dissection, those of the first in their order, then those that only the second has."""
    names = list(first.concepts) + [name for name in second.concepts if _find(first, name) is None]
    paired = _same_draws(first, second)
    return [_change(name, first, second, paired) for name in names]


def _find(dissection: Dissection, name: str) -> int | None:
    lower = [concept.lower() for concept in dissection.concepts]
    return lower.index(name.lower()) if name.lower() in lower else None


def _same_draws(first: Dissection, second: Dissection) -> bool:
    same_settings = all(first.settings.get(key) == second.settings.get(key) for key in ("seed", "draws"))
    return first.images == second.images and same_settings


def _change(name: str, first: Dissection, second: Dissection, paired: bool) -> ConceptChange:
    units, shares, drawn, ious = [], [], [], []
    for dissection in (first, second):
        number = _find(dissection, name)
        known = number is not None
        units.append(0 if number is None else len(dissection.units_of(number)))
        shares.append(units[-1] / max(1, dissection.units))
        count = len(dissection.units_drawn)
        drawn.append(dissection.units_drawn[:, number] / max(1, dissection.units) if known else np.zeros(count))
        ious.append(float(dissection.iou[:, number].max(initial=0.0)) if known else 0.0)
    change = shares[1] - shares[0]
    low = high = change
    count = min(len(drawn[0]), len(drawn[1]))
    if count:
        low, high = np.quantile(drawn[1][:count] - drawn[0][:count], (0.025, 0.975))
    return ConceptChange(
        name, *units, *shares, change, float(low), float(high), *ious, _verdict(*units, low, high), paired
    )


def _verdict(first: int, second: int, low: float, high: float) -> str:
    if not first and not second:
        return "in neither"
    if not first:
        return "appears"
    if not second:
        return "vanishes"
    if low > 0:
        return "more units"
    return "fewer units" if high < 0 else "no clear change"
