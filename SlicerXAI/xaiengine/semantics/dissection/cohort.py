"""A cohort sent through a network once: activations and masks to disk, running figures of each unit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ...core.errors import CancelledError, InputError, ModelError, ResourceError, XAIError
from ...core.progress import Progress
from ...models.explained_model import ExplainedModel
from .activation_store import ActivationStore, MaskStore
from .concept_masks import ConceptMasks, ConceptSource, Vocabulary, read_concept_masks
from .image_list import ImageEntry
from .layer_reader import LayerReader, chosen_layers
from .sampling import PreparedImage, prepare_image, read_scan

ROWS_AT_ONCE = 8
TOP_IMAGES = 8
_NOT_OURS = (CancelledError, ResourceError)


class UnitFigures:
    """Mean, extremes and strongest images of each unit, over any number of images."""

    def __init__(self, keep: int = TOP_IMAGES) -> None:
        self._keep = keep
        self._cells = 0
        self._sum = torch.zeros((), dtype=torch.float64)
        self.minimum = self.maximum = torch.zeros(0)
        self._top: tuple[torch.Tensor, ...] = ()

    def add(self, image: int, first_sample: int, activations: torch.Tensor, most: int = 1) -> None:
        """The samples (n, U, cells...) of one image, numbered from ``first_sample``; of its samples at most ``most``
        count among the strongest."""
        flat = activations.detach().cpu().flatten(2)
        low, high = flat.amin(2).amin(0), flat.amax(2)
        self._sum = self._sum + flat.double().sum((0, 2))
        self._cells += flat.shape[0] * flat.shape[2]
        strongest, sample = high.t().topk(min(most, len(high)), dim=1)
        if not len(self.minimum):
            self.minimum, self.maximum = low, strongest[:, 0]
        else:
            self.minimum = torch.minimum(self.minimum, low)
            self.maximum = torch.maximum(self.maximum, strongest[:, 0])
        new = (strongest, torch.full_like(sample, image), sample + first_sample)
        joined = tuple(torch.cat(pair, 1) for pair in zip(self._top, new)) if self._top else new
        order = joined[0].argsort(dim=1, descending=True, stable=True)[:, : self._keep]
        self._top = tuple(part.gather(1, order) for part in joined)

    @property
    def mean(self) -> torch.Tensor:
        return (self._sum / self._cells).float()

    @property
    def top(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Values, images and samples (U, k) of the strongest images, the strongest first."""
        values, images, samples = self._top
        return values, images, samples


@dataclass(frozen=True)
class SkippedImage:
    name: str
    reason: str


@dataclass(eq=False)
class Cohort:
    """What is known of a cohort after its pass through the network.

    ``entries`` are the images that were used, in order; ``skipped``, ``unmarked`` (without masks) and ``moved`` (masks
    of another geometry) name others. ``stores`` and ``figures`` are by layer; ``most_of_image`` samples of an image at
    most count among the strongest. ``examples`` hold an input of each size.
    """

    entries: list[ImageEntry] = field(default_factory=list)
    skipped: list[SkippedImage] = field(default_factory=list)
    unmarked: list[str] = field(default_factory=list)
    most_of_image: int = 1
    moved: list[str] = field(default_factory=list)
    stores: dict[str, ActivationStore] = field(default_factory=dict)
    figures: dict[str, UnitFigures] = field(default_factory=dict)
    reader: LayerReader | None = None
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    examples: dict[tuple[int, ...], torch.Tensor] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        return list(self.stores)


LoadedImage = tuple[torch.Tensor, Sequence[dict[int, np.ndarray]]]
"""Samples (n, C, spatial...) and the masks of each, by concept."""


def run_cohort(
    images: Iterable[tuple[ImageEntry, Callable[[], LoadedImage]]],
    model: ExplainedModel,
    layers: Sequence[str],
    folder: Path,
    cohort: Cohort,
    progress: Progress | None = None,
) -> Cohort:
    """Send images through the network, a few at once, and keep what its layers give.

    Images that cannot be read are listed in ``skipped``. Raises InputError when none is left, ModelError when the
    model refuses every one.
    """
    masks = MaskStore(folder)
    waiting: list[tuple[ImageEntry, LoadedImage]] = []
    failure: XAIError | None = None

    def finish() -> None:
        if waiting:
            _read_batch(waiting, model, layers, folder, masks, cohort)
            waiting.clear()

    for entry, load in images:
        try:
            loaded = load()
        except _NOT_OURS:
            raise
        except XAIError as error:
            cohort.skipped.append(SkippedImage(entry.name, str(error)))
            failure = error
        else:
            if waiting and (waiting[0][1][0].shape[1:] != loaded[0].shape[1:]):
                finish()
            waiting.append((entry, loaded))
            if sum(len(item[1][0]) for item in waiting) >= ROWS_AT_ONCE:
                finish()
        if progress is not None:
            progress.advance()
    finish()
    if not cohort.entries:
        _nothing_left(cohort, failure)
    return cohort


def _nothing_left(cohort: Cohort, failure: XAIError | None) -> None:
    if isinstance(failure, ModelError):
        raise failure
    if failure is None:
        raise InputError("There is no image with masks.", "Give masks, or look for clusters without masks.")
    raise InputError(
        f"None of the {len(cohort.skipped)} images could be used; the last one: {failure.message}",
        failure.remedy or "Check the images and masks.",
    ) from failure


def _read_batch(
    waiting: list[tuple[ImageEntry, LoadedImage]],
    model: ExplainedModel,
    layers: Sequence[str],
    folder: Path,
    masks: MaskStore,
    cohort: Cohort,
) -> None:
    batch = torch.cat([tensor for _, (tensor, _) in waiting])
    if cohort.reader is None:
        names = chosen_layers(model, layers, batch)
        cohort.reader = LayerReader(model, names)
        for number, name in enumerate(names):
            cohort.stores[name] = ActivationStore(folder, f"layer{number}", masks)
            cohort.figures[name] = UnitFigures()
    voxels = tuple(batch.shape[2:])
    cohort.examples.setdefault(voxels, batch[:1].clone())
    parts = [cohort.reader(part) for part in batch.split(ROWS_AT_ONCE)]
    found = {name: torch.cat([part[name] for part in parts]) for name in cohort.stores}
    row = 0
    for entry, (tensor, sample_masks) in waiting:
        image = len(cohort.entries)
        cohort.entries.append(entry)
        rows = slice(row, row + len(tensor))
        places = [masks.add(sample) for sample in sample_masks]
        for name, store in cohort.stores.items():
            first = len(store.records)
            for activation, place in zip(found[name][rows], places):
                store.add(image, activation, voxels, place)
            cohort.figures[name].add(image, first, found[name][rows], cohort.most_of_image)
        row += len(tensor)


def load_image(
    entry: ImageEntry,
    model: ExplainedModel,
    source: ConceptSource,
    vocabulary: Vocabulary,
    most_slices: int = 0,
) -> tuple[PreparedImage, ConceptMasks]:
    """Read, prepare and mask one image; see :func:`prepare_image` and :func:`read_concept_masks` for errors."""
    image = prepare_image(read_scan(entry.path, model), model, most_slices)
    return image, read_concept_masks(entry, image.volume.grid, image.grid, source, vocabulary)
