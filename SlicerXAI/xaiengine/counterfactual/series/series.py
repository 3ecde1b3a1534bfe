"""A series of counterfactual images along one path: where it crosses the threshold or takes a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .paths import CounterfactualPath

ANSWER = Callable[[torch.Tensor], torch.Tensor]
COARSE = 12
"""Shifts looked at on either side before the place is narrowed down."""
HALVINGS = 24
SHIFT_TOLERANCE = 0.01
"""SDs to which a place is narrowed down."""


@dataclass(frozen=True)
class Place:
    """A shift in SDs and the moved answer there; ``reached`` says whether it is what was searched for."""

    shift: float
    value: float
    reached: bool = True


@dataclass(frozen=True, eq=False)
class Series:
    """Frames (n, C, S, S) by ascending shift, with the moved answers (n,); ``base`` is the unshifted one."""

    shifts: torch.Tensor
    frames: torch.Tensor
    values: torch.Tensor
    latents: torch.Tensor
    base: int

    @property
    def reconstruction(self) -> torch.Tensor:
        """The unshifted image (C, S, S)."""
        return self.frames[self.base]

    @property
    def differences(self) -> torch.Tensor:
        """Each frame minus the unshifted image."""
        return self.frames - self.reconstruction


class Along:
    """The answer along one path; remembers what it has been asked, since no image needs to be made twice."""

    def __init__(self, path: CounterfactualPath, answer: ANSWER, reach: float) -> None:
        self.path = path
        self.reach = min(reach, path.reach)
        self._answer = answer
        self._known: dict[float, float] = {}

    def __call__(self, shift: float) -> float:
        return self.many([shift])[0]

    def many(self, shifts: list[float]) -> list[float]:
        """The moved answers at shifts, those not yet known in one batch."""
        new = [shift for shift in dict.fromkeys(shifts) if shift not in self._known]
        if new:
            values = self._answer(self.path.images(torch.tensor(new, dtype=torch.float32)))
            self._known.update(zip(new, (float(value) for value in values)))
        return [self._known[shift] for shift in shifts]

    def coarse(self) -> tuple[list[float], list[float]]:
        """Evenly spread shifts over the whole reach with their answers, ascending, 0 among them."""
        shifts = [self.reach * step / COARSE for step in range(-COARSE, COARSE + 1)]
        return shifts, self.many(shifts)


def smallest_flip(along: Along, turning: float) -> Place | None:
    """The shift nearest to 0 at which the answer passes ``turning``; None if none within reach does."""
    start = along(0.0)
    found = [place for side in (-1, 1) if (place := _first_crossing(along, turning, side)) is not None]
    beyond = [place for place in found if (place.value > turning) != (start > turning)]
    return min(beyond, key=lambda place: abs(place.shift), default=None)


def place_of(along: Along, wanted: float, tolerance: float, guess: float | None = None) -> Place:
    """The shift nearest to 0 at which the answer is ``wanted`` to within ``tolerance`` of the moved scale.

    ``guess`` is where the linear surrogate expects it. It is tried first; if it is not good enough, the
    crossing is bracketed on a grid and bisected on f(G(·)). The place with the nearest answer is given when
    none reaches it.
    """
    candidates: list[Place] = []
    if guess is not None and abs(guess) <= along.reach:
        candidates.append(Place(guess, along(guess)))
    if not candidates or abs(candidates[0].value - wanted) > tolerance:
        crossings = [_first_crossing(along, wanted, side, tolerance) for side in (-1, 1)]
        candidates += [place for place in crossings if place is not None]
    good = [place for place in candidates if abs(place.value - wanted) <= tolerance]
    if good:
        return min(good, key=lambda place: abs(place.shift))
    shifts, values = along.coarse()
    nearest = min(range(len(shifts)), key=lambda number: abs(values[number] - wanted))
    best = min([*candidates, Place(shifts[nearest], values[nearest])], key=lambda place: abs(place.value - wanted))
    return Place(best.shift, best.value, reached=False)


def make_series(path: CounterfactualPath, answer: ANSWER, shifts: torch.Tensor) -> Series:
    """The images and answers at ascending shifts (n,), of which one must be 0."""
    frames = path.images(shifts)
    base = int(shifts.abs().argmin())
    return Series(shifts, frames, answer(frames), path.latents(shifts), base)


def _first_crossing(along: Along, wanted: float, side: int, tolerance: float = 0.0) -> Place | None:
    """The first place on one side where the answer crosses ``wanted``, by bisection; it lies beyond it."""
    shifts, values = along.coarse()
    middle = len(shifts) // 2
    order = range(middle, len(shifts)) if side > 0 else range(middle, -1, -1)
    walk = [(shifts[number], values[number]) for number in order]
    for (near, near_value), (far, far_value) in zip(walk, walk[1:]):
        if (near_value > wanted) == (far_value > wanted):
            continue
        for _ in range(HALVINGS):
            close = abs(far - near) <= SHIFT_TOLERANCE
            if close and (not tolerance or abs(far_value - wanted) <= tolerance):
                break
            half = (near + far) / 2
            value = along(half)
            if (value > wanted) == (near_value > wanted):
                near = half
            else:
                far, far_value = half, value
        return Place(far, far_value)
    return None
