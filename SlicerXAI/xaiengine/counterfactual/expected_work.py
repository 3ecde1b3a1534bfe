"""How many images directions and counterfactual series take, counted in batches before any of them is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .directions.gradient import BATCH as GRADIENT_BATCH
from .directions.linear import FOLDS, RIDGE_PENALTIES
from .directions.scoring import BATCH as JUDGED_BATCH
from .directions.scoring import SHIFTS
from .directions.style import style_channels
from .generator.latent_sample import BATCH, sample_sizes
from .series.paths import STEP
from .series.series import COARSE, HALVINGS, SHIFT_TOLERANCE

if TYPE_CHECKING:
    from .directions.directions import FinderSettings
    from .generator.latent_space import LatentSpace

USUAL_NEWTON_STEPS = 8
TRIALS = 2
"""Images with which it is tried whether the model takes the generator's, before directions are found."""
JUDGED = 12
"""Held-out latents on which directions that an explanation finds on its way are judged."""
SAMPLES_OF_SPREAD = 64
"""From which the spread of the answers is taken where no directions tell it."""


@dataclass(frozen=True)
class Batch:
    """``times`` calls with ``rows`` images each; ``back``: also the gradient to their latents.

    ``shown``: to the explained model; else the generator alone works.
    """

    rows: int
    back: bool = False
    times: int = 1
    shown: bool = True


@dataclass(frozen=True)
class Work:
    """What has to be done, as batches."""

    batches: tuple[Batch, ...] = ()

    def __add__(self, other: Work) -> Work:
        return Work(self.batches + other.batches)

    @property
    def images(self) -> int:
        """That are shown to the model."""
        return sum(batch.rows * batch.times for batch in self.batches if batch.shown)

    @property
    def gradients(self) -> int:
        """Images among them of which the gradient to the latents is asked for too."""
        return sum(batch.rows * batch.times for batch in self.batches if batch.back and batch.shown)

    @property
    def largest(self) -> int:
        """Rows of the largest batch without gradients."""
        return max((batch.rows for batch in self.batches if not batch.back), default=0)

    @property
    def largest_back(self) -> int:
        """Rows of the largest batch with gradients."""
        return max((batch.rows for batch in self.batches if batch.back), default=0)


def in_batches(images: int, rows: int, back: bool = False) -> Work:
    """``images`` in batches of ``rows`` and a last one of what is left."""
    whole, left = divmod(images, rows)
    parts = [Batch(rows, back, whole)] if whole else []
    return Work(tuple(parts + ([Batch(left, back)] if left else [])))


def directions_work(
    methods: list[str], space: LatentSpace, settings: FinderSettings, samples: int, judged: int
) -> Work:
    """Of :func:`finding.find_directions`: sample, find by each method, judge on held-out latents."""
    paired = 0 < settings.leading < space.dimension
    fitted, held_out = sample_sizes(samples, paired)
    work = in_batches(fitted + held_out, BATCH)
    for method in methods:
        if method == "gradient":
            work += in_batches(min(settings.gradients, fitted), GRADIENT_BATCH, back=True)
        if method == "style":
            images = settings.style_images
            work += Work((Batch(images), Batch(2 * images, times=style_channels(space))))
    shifts = 2 * len(SHIFTS)
    rows = max(1, JUDGED_BATCH // shifts) * shifts
    for _ in range(len(methods) * settings.count):
        work += in_batches(min(judged, held_out) * shifts, rows)
    return work


def new_directions_work(
    methods: list[str], space: LatentSpace, settings: FinderSettings, samples: int, judged: int
) -> Work:
    """The same, where it has to be tried first whether the model takes the generator's images."""
    return Work((Batch(1, times=TRIALS),)) + directions_work(methods, space, settings, samples, judged)


def fitting_operations(methods: list[str], space: LatentSpace, settings: FinderSettings, samples: int) -> float:
    """Floating-point operations of the regressions: products of all latents with all, and systems of equations."""
    size = settings.leading or space.dimension
    each = 2 * samples * size**2 + 2 / 3 * size**3
    solved = {"logistic": USUAL_NEWTON_STEPS, "ridge": len(RIDGE_PENALTIES) * FOLDS + 1}
    return sum(solved.get(method, 0) * each for method in methods)


def refinement_work(steps: int, refine: str, differentiable: bool) -> Work:
    """Of :func:`inversion.invert` for one image; the model has no part in the steps where it cannot be
    differentiated.
    """
    rebuilt = Work((Batch(1),))
    if not steps or refine == "none":
        return rebuilt
    return Work((Batch(1, back=True, times=steps, shown=differentiable), Batch(1, shown=differentiable))) + rebuilt


def series_work(*, frames: int, reach: float, has_decision: bool, wanted: bool) -> Work:
    """Of the search along one path, of the frames, and of writing them.

    The answer is taken to cross the decision once, and a wanted value once where the surrogate has missed it.
    """
    work = Work((Batch(1),))
    if wanted:
        work += Work((Batch(1),))
    if has_decision or wanted:
        crossings = int(has_decision) + int(wanted)
        work += Work((Batch(2 * COARSE), Batch(1, times=crossings * halvings(reach))))
    else:
        work += Work((Batch(1, times=2),))  # both ends
    # the frames, which are encoded again for the figures, and the image that is written
    return work + Work((Batch(frames), Batch(frames + 1, shown=False), Batch(1)))


def gradient_path_work(reach: float) -> Work:
    """Of :class:`paths.GradientPath`: both ways as one batch; and the spread of the answers."""
    steps = max(1, round(reach / STEP))
    return in_batches(SAMPLES_OF_SPREAD, BATCH) + Work((Batch(2, back=True, times=steps),))


def halvings(reach: float) -> int:
    """How often the bracket of one crossing is halved until it is narrow enough."""
    width, count = reach / COARSE, 0
    while width > SHIFT_TOLERANCE and count < HALVINGS:
        width, count = width / 2, count + 1
    return count
