"""The images to which units respond most, read again for the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...attribution.placement import placed
from ...core.errors import XAIError
from ...figures.unit_sheet import SheetRow, Tile
from ...io.grid import Grid
from ...semantics.dissection.activation_store import StoredSample
from ...semantics.dissection.cohort import load_image
from ...semantics.dissection.concept_masks import ConceptSource, Vocabulary
from ...semantics.dissection.dissection import Dissection
from ...semantics.dissection.image_list import ImageEntry

if TYPE_CHECKING:
    from .dissecting import Dissected


def shown_units(dissection: Dissection, count: int) -> list[int]:
    """Units for the picture: the best of each concept in turn, then the next best; without detectors the strongest."""
    queues = []
    for concept in range(len(dissection.concepts)):
        units = dissection.units_of(concept)
        queues.append(units[np.argsort(-dissection.iou[units, concept], kind="stable")].tolist())
    queues.sort(key=lambda queue: -len(queue))
    chosen: list[int] = []
    while any(queues) and len(chosen) < count:
        chosen += [queue.pop(0) for queue in queues if queue]
    if not chosen:
        chosen = np.argsort(-dissection.best_iou, kind="stable").tolist()
    return sorted(chosen[:count], key=lambda unit: (dissection.concept_of_unit[unit], -dissection.best_iou[unit]))


def sheet_rows(found: Dissected, dissection: Dissection, units: int, images: int, most_slices: int) -> list[SheetRow]:
    """Rows of the sheet; images that cannot be read any more are left out."""
    chosen = shown_units(dissection, units)
    if not chosen:
        return []
    store = found.cohort.stores[dissection.layer]
    wanted = {int(sample) for unit in chosen for sample in dissection.top_samples[unit][:images]}
    samples = dict(zip(sorted(wanted), store.samples(wanted)))
    pictures = _pictures(found, store.records, wanted, most_slices)
    rows = []
    for unit in chosen:
        tiles = []
        for place in range(min(images, dissection.top_samples.shape[1])):
            number = int(dissection.top_samples[unit, place])
            if number in pictures:
                caption = dissection.images[int(dissection.top_images[unit, place])]
                tiles.append(_tile(found, dissection, unit, samples[number], pictures[number], caption))
        if tiles:
            rows.append(SheetRow(_title(dissection, unit), tiles))
    return rows


def _title(dissection: Dissection, unit: int) -> str:
    label = int(dissection.concept_of_unit[unit])
    name = dissection.concepts[label] if label >= 0 else "unlabeled"
    if dissection.kind != "masks":
        return f"unit {unit}\n{name}"
    return f"unit {unit}\n{name}\nIoU {dissection.best_iou[unit]:.2f}"


@dataclass(frozen=True, eq=False)
class _Picture:
    """The first channel (spatial...) of a sample, and how its plane is turned for readers."""

    values: np.ndarray
    flips: tuple[int, ...]
    swap: bool

    def turned(self, plane: np.ndarray) -> np.ndarray:
        """A plane (columns, rows): the patient's right on the left, the front or the head up."""
        plane = np.flip(plane, self.flips)
        return plane.T if self.swap else plane


def _picture(values: np.ndarray, grid: Grid, axis: int | None) -> _Picture:
    """``axis``: the index axis across the slices; volumes are shown in the plane of their first two axes."""
    across = 2 if axis is None else axis
    remaining = [grid.anatomical_axes[other] for other in range(3) if other != across]
    flips = tuple(position for position, (_, sign) in enumerate(remaining) if sign > 0)
    return _Picture(values, flips, remaining[0][0] > remaining[1][0])


def _pictures(found: Dissected, records: list, wanted: set[int], most_slices: int) -> dict[int, _Picture]:
    """The wanted samples, by their numbers."""
    by_image: dict[int, list[int]] = {}
    first: dict[int, int] = {}
    for number, record in enumerate(records):
        first.setdefault(record.image, number)
        if number in wanted:
            by_image.setdefault(record.image, []).append(number)
    pictures = {}
    for image, numbers in by_image.items():
        entry = found.cohort.entries[image]
        try:
            plain = ImageEntry(entry.name, entry.path)
            loaded, _ = load_image(plain, found.model, ConceptSource(), Vocabulary(), most_slices)
        except XAIError:
            continue
        for number in numbers:
            values = loaded.samples.tensor[number - first[image], 0].numpy()
            pictures[number] = _picture(values, loaded.grid, loaded.samples.axis)
    return pictures


def _tile(
    found: Dissected, dissection: Dissection, unit: int, sample: StoredSample, picture: _Picture, caption: str
) -> Tile:
    reader = found.cohort.reader
    activation = sample.activation[unit]
    grid = reader.grid(dissection.layer, found.cohort.examples[sample.voxels], tuple(activation.shape))
    stretched = placed(activation[None], grid, sample.voxels)[0]
    level = float(dissection.thresholds[unit])
    if dissection.kind != "masks":
        level = float(torch.quantile(activation.flatten(), 0.95))
    above = (stretched > level).numpy()
    label = int(dissection.concept_of_unit[unit])
    concept = sample.masks[sample.concepts.index(label)] if label in sample.concepts else None
    image = picture.values
    if image.ndim == 3:
        middle = int(np.unravel_index(int(stretched.argmax()), stretched.shape)[2])
        image, above = image[..., middle], above[..., middle]
        concept = None if concept is None else concept[..., middle]
    return Tile(
        picture.turned(image),
        picture.turned(above),
        None if concept is None else picture.turned(concept),
        caption,
    )
