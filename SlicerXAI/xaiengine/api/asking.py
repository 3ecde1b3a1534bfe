"""What is explained, said in Python: a class, a place, a structure, an error. Light to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..core.errors import OptionError

if TYPE_CHECKING:
    import numpy as np

    from ..io.segmentation import Segmentation

    Region = Segmentation | np.ndarray

Kind = Literal[
    "class",
    "segment",
    "box",
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


@dataclass(frozen=True, eq=False)
class Target:
    """What of a model's answer is explained; made by :func:`at_point`, :func:`at_segment`, :func:`box`, ...

    ``labels`` are classes by name; ``point`` is R, A, S in mm, ``corners`` are two such points. ``region`` and
    ``reference`` are segmentations (or boolean arrays on the scan's grid), of which ``segment`` and
    ``reference_segment`` name one structure.
    """

    kind: Kind = "class"
    labels: tuple[str, ...] = ()
    against: str = ""
    point: tuple[float, ...] = ()
    corners: tuple[tuple[float, ...], ...] = ()
    region: Any = field(default=None, repr=False)
    segment: str = ""
    reference: Any = field(default=None, repr=False)
    reference_segment: str = ""
    width_mm: float = 3.0


def as_target(target: str | int | Sequence[str | int] | Target | None, against: str | int = "") -> Target:
    """A target from a label, its number, several labels, or nothing (the model's own, else what it predicts)."""
    other = str(against) if against != "" else ""
    if isinstance(target, Target):
        if other and target.kind not in ("class", "difference"):
            raise OptionError(f"A target of the kind {target.kind} is not set against a class.", "Leave against out.")
        return target if not other else difference(*target.labels[:1], against=other)
    if target is None or target == "":
        labels: tuple[str, ...] = ()
    elif isinstance(target, (str, int)):
        labels = (str(target),)
    elif isinstance(target, Sequence) and all(isinstance(item, (str, int)) for item in target):
        labels = tuple(str(item) for item in target)
    else:
        raise OptionError(
            f"The target {target!r} is not one.",
            "Give a label, its number, or xai.at_point(...), xai.at_segment(...), xai.box(...).",
        )
    return Target("difference" if other else "class", labels, other)


def at_point(right: float, anterior: float, superior: float, *, label: str = "", voxel: bool = False) -> Target:
    """The connected component of a segmentation at (or within 10 mm of) a point, or that ``voxel`` alone.

    Args:
        right, anterior, superior: the point in RAS mm, as 3D Slicer shows it.
        label: the class; that which is predicted at the point if empty.
        voxel: explain the one voxel.
    """
    return Target("voxel" if voxel else "component", _labels(label), point=(right, anterior, superior))


def at_segment(region: Region, segment: str = "", *, label: str = "") -> Target:
    """A class inside a structure of a segmentation, which need not be predicted.

    Args:
        region: a segmentation, or a boolean array (I, J, K) on the scan's grid.
        segment: which of its structures; all of them if empty.
        label: the class; the model's own if empty.
    """
    return Target("segment", _labels(label), region=region, segment=segment)


def box(lower: Sequence[float], upper: Sequence[float], *, label: str = "") -> Target:
    """A class inside a box between two corners (R, A, S in mm)."""
    corners = (tuple(float(value) for value in lower), tuple(float(value) for value in upper))
    if any(len(corner) != 3 for corner in corners):
        raise OptionError("The corners of a box are three numbers each.", "Give R, A and S in mm.")
    return Target("box", _labels(label), corners=corners)


def boundary(label: str = "", *, width_mm: float = 3.0) -> Target:
    """The band of ``width_mm`` to either side of a predicted structure's surface."""
    return Target("boundary", _labels(label), width_mm=width_mm)


def volume_of(label: str = "", *, region: Region | None = None, segment: str = "") -> Target:
    """The volume in mL of a predicted structure, of the part inside a region where one is given."""
    return Target("volume", _labels(label), region=region, segment=segment)


def difference(label: str = "", *, against: str) -> Target:
    """What speaks for a class and against another."""
    return Target("difference", _labels(label), against)


def errors(
    reference: Region,
    segment: str = "",
    *,
    label: str = "",
    kind: Literal["errors", "false-positives", "false-negatives", "dice"] = "errors",
) -> Target:
    """Where a segmentation differs from the true one, or its Dice with it.

    Args:
        reference: the true segmentation, or a boolean array (I, J, K) on the scan's grid.
        segment: which of its structures; all of them if empty.
    """
    return Target(kind, _labels(label), reference=reference, reference_segment=segment)


def _labels(label: str) -> tuple[str, ...]:
    return (str(label),) if label != "" else ()
