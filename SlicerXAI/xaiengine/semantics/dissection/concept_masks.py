"""Concept masks of one image, brought to the grid on which the network sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ...core.errors import InputError
from ...io.formats.file_names import PICTURES
from ...io.grid import Grid
from ...io.resample import resample
from ...io.segmentation import SMALLEST_OVERLAP, Segment, Segmentation
from ...io.segmentation_files import read_segmentation
from ...io.terminology import TISSUE, Terminology
from ...io.volume_files import read_image2d
from .boxes import Box, BoxUnit, boxes_of, read_boxes
from .image_list import ImageEntry, MaskFile

Naming = Literal["name", "terminology"]


@dataclass(frozen=True)
class Concept:
    """What masks are about; ``code`` is its terminology (scheme and value) where that is known."""

    name: str
    code: str = ""


class Vocabulary:
    """Concepts in the order in which they are met. Upper and lower case are alike; ``wanted`` limits them."""

    def __init__(self, wanted: Sequence[str] = ()) -> None:
        self.concepts: list[Concept] = []
        self._index: dict[str, int] = {}
        self._wanted = {_key(name) for name in wanted if name.strip()}
        self.missing = [name for name in wanted if name.strip()]

    def number(self, concept: Concept) -> int | None:
        """The concept's number; None where it is not wanted."""
        keys = {_key(concept.name), _key(concept.code), _key(concept.code.split(":")[-1])} - {""}
        if self._wanted and not keys & self._wanted:
            return None
        self.missing = [name for name in self.missing if _key(name) not in keys]
        key = _key(concept.name)
        if key not in self._index:
            self._index[key] = len(self.concepts)
            self.concepts.append(concept)
        return self._index[key]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(concept.name for concept in self.concepts)

    def __len__(self) -> int:
        return len(self.concepts)


def _key(text: str) -> str:
    return " ".join(text.lower().replace("_", " ").split())


@dataclass(frozen=True)
class ConceptSource:
    """Where masks come from beside the files of each image: label names, boxes, how segments are called."""

    names: Mapping[int, str] = field(default_factory=dict)
    boxes: Mapping[str, list[Box]] = field(default_factory=dict)
    box_unit: BoxUnit = "pixels"
    naming: Naming = "name"

    @classmethod
    def of(cls, names: Mapping[int, str], boxes: Path | None, box_unit: BoxUnit, naming: Naming) -> ConceptSource:
        return cls(names, read_boxes(boxes) if boxes else {}, box_unit, naming)

    def marks(self, entry: ImageEntry) -> bool:
        """Whether there is anything about this image."""
        return bool(entry.masks) or bool(boxes_of(entry, dict(self.boxes)))


@dataclass(frozen=True)
class ConceptMasks:
    """Masks (I, J, K) by the concept's number. ``moved`` says that a file had another geometry than the image."""

    masks: Mapping[int, np.ndarray]
    moved: bool = False


def read_concept_masks(
    entry: ImageEntry, image: Grid, seen: Grid, source: ConceptSource, vocabulary: Vocabulary
) -> ConceptMasks:
    """The masks of an image on the grid ``seen``, moved by nearest voxel in the patient's coordinates.

    Pictures (PNG, JPEG) carry no geometry: they are taken to cover the image from border to border.

    Raises:
        InputError: a file cannot be read, holds no labels, or lies elsewhere than the image.
    """
    found: dict[int, np.ndarray] = {}
    moved = False
    for file in entry.masks:
        segmentation = _read(file, image, source.names)
        if not segmentation.grid.same_as(image):
            _check_overlap(segmentation, image, file)
            moved = True
        for segment in segmentation.segments:
            number = vocabulary.number(_concept(segment, file, source.naming))
            if number is not None:
                mask = segmentation.mask(segment).astype(np.uint8)
                _join(found, number, resample(mask, segmentation.grid, seen, "nearest") > 0)
    for box in boxes_of(entry, dict(source.boxes)):
        number = vocabulary.number(Concept(box.concept))
        if number is not None:
            mask = box.mask(image, source.box_unit)
            if not mask.any():
                raise InputError(
                    f"The box {box.low} to {box.high} ({source.box_unit}) of {box.concept} lies outside {entry.name} "
                    f"({image.describe()}).",
                    "Check the option box_unit and the table of boxes.",
                )
            _join(found, number, resample(mask.astype(np.uint8), image, seen, "nearest") > 0)
    return ConceptMasks(found, moved)


def _join(found: dict[int, np.ndarray], number: int, mask: np.ndarray) -> None:
    found[number] = found[number] | mask if number in found else mask


def _read(file: MaskFile, image: Grid, names: Mapping[int, str]) -> Segmentation:
    if file.path.suffix.lower() not in PICTURES:
        return read_segmentation(file.path, None if file.concept else names)
    volume = read_image2d(file.path)
    labels = volume.array
    if file.concept:
        labels = (labels > labels.max() / 2).astype(np.uint8)  # JPEG blurs what was 0
    elif file.path.suffix.lower() in (".jpg", ".jpeg"):
        raise InputError(
            f"{file.path.name} is a JPEG, which changes label values.",
            "Save label maps as PNG, NRRD or NIfTI.",
        )
    return Segmentation.from_labels(labels, image.resized(labels.shape), names, volume.name)


def _check_overlap(segmentation: Segmentation, image: Grid, file: MaskFile) -> None:
    if max(segmentation.grid.overlaps(image), image.overlaps(segmentation.grid)) < SMALLEST_OVERLAP:
        raise InputError(
            f"The mask {file.path.name} ({segmentation.grid.describe()}) does not overlap its image "
            f"({image.describe()}).",
            "Give the mask of this image, in its geometry.",
        )


def _concept(segment: Segment, file: MaskFile, naming: Naming) -> Concept:
    code = _code(segment.terminology)
    if file.concept:
        return Concept(file.concept, code)
    if naming == "terminology" and code:
        return Concept(_meaning(segment.terminology), code)
    return Concept(segment.name, code)


def _meaning(terminology: Terminology) -> str:
    """In words, as 3D Slicer shows it: side, region, type."""
    parts = [terminology.region_modifier, terminology.region, terminology.type_modifier, terminology.type]
    return " ".join(code.meaning for code in parts if code is not None).lower()


def _code(terminology: Terminology | None) -> str:
    if terminology is None or terminology == TISSUE:  # what every segment has of which no one has said anything
        return ""
    return f"{terminology.type.scheme}:{terminology.type.value}"
