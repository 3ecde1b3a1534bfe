"""From what a user asks to the targets that are explained; every refusal says what is there instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..core.errors import InputError, OptionError
from ..io.distance import signed_distance
from ..io.segmentation import Segmentation
from .points import read_point, voxel_of
from .segmentation_targets import SegmentationTarget, SoftDiceTarget, SoftVolumeTarget, VoxelScore, VoxelTarget
from .segmented_scan import SegmentedScan

TargetKind = Literal[
    "class",
    "segment",
    "component",
    "voxel",
    "boundary",
    "volume",
    "difference",
    "false-positives",
    "false-negatives",
    "errors",
    "dice",
]
Score = Literal["auto", "logit", "log-odds", "probability"]

NEAR_MM = 10.0
"""How far from the point a component may lie and still be meant."""


@dataclass(frozen=True)
class TargetRequest:
    """What is asked for. ``segment`` and ``reference`` are masks (I, J, K) on the scan's own grid."""

    kind: TargetKind = "class"
    classes: tuple[str, ...] = ()
    against: str = ""
    score: Score = "auto"
    point: str = ""
    boundary_mm: float = 3.0
    segment: np.ndarray | None = None
    segment_name: str = ""
    reference: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ChosenTarget:
    """A target with the structure around which it lies.

    ``structure`` (I, J, K) is the predicted mask of the class (the error region for errors), ``region`` where
    predictions count (None: everywhere), both on the network's grid. ``key`` names files.
    """

    target: SegmentationTarget
    index: int
    label: str
    structure: Tensor
    key: str
    region: Tensor | None = None
    error: Literal["", "false-positives", "false-negatives"] = ""


def choose_targets(scan: SegmentedScan, request: TargetRequest) -> list[ChosenTarget]:
    """The targets of a request, one for each class (and each kind of error) that it names.

    Raises:
        OptionError, InputError: the class is not predicted, the point lies outside, a reference is missing.
    """
    indices = [_class_index(scan, name) for name in request.classes] or [_default_class(scan, request)]
    kinds = ["false-positives", "false-negatives"] if request.kind == "errors" else [request.kind]
    found = []
    for index in dict.fromkeys(indices):
        for kind in kinds:
            chosen = _choose(scan, request, kind, index)
            if chosen is not None:
                found.append(chosen)
    if not found:
        raise OptionError("The prediction agrees with the reference: there is no error to explain.", "Choose class.")
    return found


def _choose(scan: SegmentedScan, request: TargetRequest, kind: TargetKind, index: int) -> ChosenTarget | None:
    label, mask = scan.labels[index], scan.masks[index]
    if kind in ("class", "boundary", "difference"):
        _require(scan, index)
    maker = _Maker(scan, request, index)
    if kind == "class":
        return maker.voxels(mask, f"{label} over its mask", mask)
    if kind == "segment":
        region = scan.on_grid(_given(request.segment, "segment", "a segmentation and one of its segments"))
        if not bool(region.any()):
            raise InputError(
                f"The segment {request.segment_name} holds no voxel of the scan that the model sees.",
                "Choose another segment.",
            )
        structure = mask & region
        return maker.voxels(
            region,
            f"{label} inside {request.segment_name or 'the segment'}",
            structure if bool(structure.any()) else region,
            region,
        )
    if kind == "component":
        part = _component(scan, request, index)
        return maker.voxels(part, f"the {label} component at the point", part)
    if kind == "voxel":
        voxel = voxel_of(_point(request), scan.grid, scan.volume.name)
        one = torch.zeros_like(mask)
        one[voxel] = True
        return maker.voxels(one, f"{label} at the point", one)
    if kind == "boundary":
        distance = signed_distance(mask.cpu().numpy(), scan.grid.spacing)
        band = torch.from_numpy(np.abs(distance) <= request.boundary_mm).to(mask.device)
        return maker.voxels(band, f"{label} within {request.boundary_mm:g} mm of its surface", mask, band)
    if kind == "volume":
        region = torch.ones_like(mask) if request.segment is None else scan.on_grid(request.segment)
        target = SoftVolumeTarget(
            f"volume of {label}",
            region,
            scan.output.shape[1],
            scan.form,
            index=index,
            voxel_ml=scan.grid.voxel_volume_ml,
        )
        return maker.chosen(target, mask if bool(mask.any()) else region, "volume")
    if kind == "difference":
        if not request.against:
            raise OptionError("A difference needs a second class.", "Name it in against.")
        return maker.against(mask, _class_index(scan, request.against))
    truth = scan.on_grid(_given(request.reference, "reference", "a reference segmentation"))
    if kind == "dice":
        if not bool(truth.any()):
            raise InputError("The reference is empty where the model looks.", "Choose another reference.")
        target = SoftDiceTarget(
            f"soft Dice of {label} with the reference",
            torch.ones_like(mask),
            scan.output.shape[1],
            scan.form,
            index=index,
            truth=truth,
        )
        return maker.chosen(target, truth, "dice")
    return maker.error(kind, truth)


class _Maker:
    """Makes targets of one class of one scan."""

    def __init__(self, scan: SegmentedScan, request: TargetRequest, index: int) -> None:
        self.scan, self.request, self.index = scan, request, index
        self.label = scan.labels[index]
        self.channels = scan.output.shape[1]

    def voxels(self, where: Tensor, words: str, structure: Tensor, region: Tensor | None = None) -> ChosenTarget:
        score, against, name = self._score()
        target = VoxelTarget(
            f"{name} of {words}", where, self.channels, self.scan.form, index=self.index, against=against, score=score
        )
        return self.chosen(target, structure, self.request.kind, region)

    def against(self, where: Tensor, other: int) -> ChosenTarget:
        if other == self.index:
            raise OptionError(f"The class {self.label} is set against itself.", "Name another class in against.")
        score: VoxelScore = {"auto": "logit", "log-odds": "log_odds"}.get(self.request.score, self.request.score)
        title = f"{self.label} rather than {self.scan.labels[other]} over the mask of {self.label}"
        target = VoxelTarget(title, where, self.channels, self.scan.form, index=self.index, against=other, score=score)
        return self.chosen(target, where, "difference")

    def error(self, kind: TargetKind, truth: Tensor) -> ChosenTarget | None:
        """Why the class is said where it is not (false positives), or another one where it is (false negatives)."""
        mask = self.scan.masks[self.index]
        region = mask & ~truth if kind == "false-positives" else truth & ~mask
        if not bool(region.any()):
            return None
        words = kind.replace("-", " ")
        score, against, name = self._score()
        if self.channels > 1 and self.scan.form != "sigmoid" and kind == "false-negatives":
            score, name = "logit", "logit"
            against = self.scan.output[0].argmax(0)  # what is said in its place
        target = VoxelTarget(
            f"{name} of {self.label} over its {words}",
            region,
            self.channels,
            self.scan.form,
            index=self.index,
            against=against,
            score=score,
        )
        return self.chosen(target, region, kind, error=kind)

    def _score(self) -> tuple[VoxelScore, int | None, str]:
        """How a voxel is scored. With two softmax channels their difference is the log-odds, and linear."""
        two = self.channels == 2 and self.scan.form == "softmax"
        asked = self.request.score
        if asked == "auto":
            asked = "log-odds" if two or self.scan.form == "sigmoid" else "logit"
            asked = "probability" if self.scan.form == "probabilities" else asked
        if asked == "log-odds" and two:
            return "logit", 1 - self.index, "log-odds"
        score: VoxelScore = "log_odds" if asked == "log-odds" else asked
        if self.scan.form == "probabilities" and score == "probability":
            return "logit", None, "probability"  # the output itself, which is linear
        return score, None, asked

    def chosen(
        self, target: SegmentationTarget, structure: Tensor, kind: str, region: Tensor | None = None, error: str = ""
    ) -> ChosenTarget:
        key = "-".join(part for part in (_slug(self.label), kind if kind != "class" else "") if part)
        return ChosenTarget(target.to(self.scan.image.device), self.index, self.label, structure, key, region, error)


def _component(scan: SegmentedScan, request: TargetRequest, index: int) -> Tensor:
    """The connected component of a class at, or nearest to, the point."""
    _require(scan, index)
    voxel = voxel_of(_point(request), scan.grid, scan.volume.name)
    mask = scan.masks[index].cpu().numpy()
    labels, _ = ndimage.label(mask, ndimage.generate_binary_structure(3, 3))
    number = labels[voxel]
    if number == 0:
        distance, nearest = ndimage.distance_transform_edt(~mask, sampling=scan.grid.spacing, return_indices=True)
        if distance[voxel] > NEAR_MM:
            raise OptionError(
                f"The point lies {distance[voxel]:.0f} mm from the nearest {scan.labels[index]} that the model "
                f"predicts; within {NEAR_MM:g} mm was expected.",
                "Set the point into the structure.",
            )
        number = labels[tuple(nearest[(slice(None), *voxel)])]
    return torch.from_numpy(labels == number).to(scan.image.device)


def _point(request: TargetRequest) -> np.ndarray:
    if not request.point:
        raise OptionError(f"The target {request.kind} needs a point.", "Give it as R,A,S in mm, or a markups file.")
    return read_point(request.point)


def _given(mask: np.ndarray | None, name: str, what: str) -> np.ndarray:
    if mask is None:
        raise OptionError(f"This target needs {what}.", f"Give the input {name}.")
    return mask


def _class_index(scan: SegmentedScan, name: str) -> int:
    labels = scan.labels
    text = str(name).strip()
    if text.isdigit() and int(text) < len(labels):
        return int(text)
    lowered = [label.lower() for label in labels]
    if text.lower() in lowered:
        return lowered.index(text.lower())
    known = ", ".join(f"{number} {label}" for number, label in enumerate(labels))
    raise OptionError(f"The model {scan.model.name} segments no {name!r}.", f"Its classes are: {known}.")


def _default_class(scan: SegmentedScan, request: TargetRequest) -> int:
    """The class at the point, the model's own target, or the largest class that is predicted."""
    counts = scan.masks.flatten(1).sum(1).tolist()
    if request.kind in ("component", "voxel") and request.point:
        voxel = voxel_of(read_point(request.point), scan.grid, scan.volume.name)
        here = [n for n in range(len(counts)) if n != scan.background and bool(scan.masks[(n, *voxel)])]
        if here:
            return here[0]
    if scan.model.target:
        return _class_index(scan, scan.model.target)
    candidates = [index for index in range(len(counts)) if index != scan.background]
    return max(candidates, key=lambda index: counts[index])


def _require(scan: SegmentedScan, index: int) -> None:
    """Raise OptionError when a class is predicted nowhere, naming those that are and how near this one came."""
    if bool(scan.masks[index].any()):
        return
    from .segmentation_targets import voxel_scores

    best = float(voxel_scores(scan.output, index, "probability", scan.form).max())
    present = [label for label, mask in zip(scan.labels, scan.masks) if bool(mask.any())]
    raise OptionError(
        f"The model predicts no {scan.labels[index]} in {scan.volume.name}: its highest probability is {best:.2g}.",
        f"Choose one of the predicted classes ({', '.join(present)}), or ask for target volume or segment, which "
        "need no predicted voxel."
        if present
        else "Check that the scan is of the kind that the model was trained on.",
    )


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower()).strip("-") or "class"


def structures_of(scan: SegmentedScan, given: Segmentation | None, most: int = 60) -> dict[str, Tensor]:
    """The structures of the region table on the network's grid: given segments, else the predicted classes."""
    if given is not None:
        return {segment.name: scan.on_grid(given.mask(segment)) for segment in given.segments[:most]}
    return {
        label: mask
        for n, (label, mask) in enumerate(zip(scan.labels, scan.masks))
        if n != scan.background and bool(mask.any())
    }


def classes_present(scan: SegmentedScan) -> Sequence[str]:
    """Predicted classes other than the background, largest first."""
    counts = scan.masks.flatten(1).sum(1).tolist()
    order = sorted(range(len(counts)), key=lambda index: -counts[index])
    return [scan.labels[index] for index in order if counts[index] and index != scan.background]
