"""Models of patches (nodule candidates, cells) on whole scans: at a point, in a box, at segments, or moved over all.

The scan is preprocessed as a whole and patches of the network's size are cut from it, so that a patch has the model's
voxel size in mm and its map lands on the scan. Where a patch leaves the scan, the outermost voxels continue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch

from ..core.cancellation import interruptibly
from ..core.errors import InputError, ModelError, OptionError
from ..io.volume import Volume, check_volume
from ..models.explained_model import ExplainedModel
from ..targets.targets import checked_output
from .prediction import check_channels
from .preprocessing import Preprocessed, preprocess
from .scan_reading import doubts
from .scan_view import ScanView

MOST_PATCHES = 4096
PATCHES_AT_ONCE = 8
_RESIZING = ("Resize", "ResizeWithPadOrCrop", "CenterSpatialCrop", "CenterScaleCrop", "SpatialPad", "SpatialCrop")

Place = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class PatchView(ScanView):
    """A scan seen patch by patch: ``places`` are the patches (I, J, K) on the prepared grid, one for each sample.

    ``centers`` (n, 3) are what they were cut around, RAS mm; None for patches all over the scan.
    """

    places: tuple[Place, ...] = ()
    centers: np.ndarray | None = None

    @property
    def cut(self) -> dict[str, Any]:
        """How the patches are cut again, in plain values."""
        size = [part.stop - part.start for part in self.places[0]]
        return {"size": size, "centers": None if self.centers is None else self.centers.round(4).tolist()}

    def volume_of(self, maps: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Maps (m, I, J, K) of the patches ``rows`` as one volume: their mean where they overlap, 0 elsewhere."""
        total = np.zeros(self.grid.shape, dtype=np.float32)
        count = np.zeros(self.grid.shape, dtype=np.float32)
        for values, row in zip(maps, rows):
            total[self.places[row]] += values
            count[self.places[row]] += 1
        return total / np.maximum(count, 1)

    def rows_of(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """A volume (I, J, K) on the prepared grid, as maps (m, I, J, K) of patches."""
        return np.stack([np.asarray(values)[self.places[row]] for row in rows])


def patch_size(model: ExplainedModel, wanted: Sequence[int] = ()) -> tuple[int, int, int]:
    """The patch in voxels: the wanted one, else the model's window or the input that it insists on.

    Raises OptionError where neither is known, ModelError for models of slices.
    """
    if model.spatial_dims != 3 or model.task == "segmentation":
        raise ModelError(
            f"The model {model.name} does not classify three-dimensional patches.",
            "Leave the option Patch at (--at) at whole.",
        )
    size = tuple(wanted) or tuple(model.inferer.roi_size) or tuple(model.example_shape[2:])
    if len(size) != 3 or min(size) < 1:
        raise OptionError(f"The patch size {list(size)} is not three numbers of voxels.", "Give three: 32,48,48.")
    return int(size[0]), int(size[1]), int(size[2])


def view_patches(
    volume: Volume,
    model: ExplainedModel,
    centers: np.ndarray | None,
    size: tuple[int, int, int],
    check: Callable[[], None] = lambda: None,
) -> PatchView:
    """Preprocess a scan, cut patches around centers (n, 3) in RAS mm (None: all over the scan), and predict them.

    Raises:
        InputError: a center lies outside the scan.
        ModelError: the preprocessing resizes the scan to the patch, so that its place is lost.
        OptionError: more than 4096 patches.
    """
    resizing = [spec.name for spec in getattr(model.preprocessing, "specs", ()) if spec.name in _RESIZING]
    if resizing:
        raise ModelError(
            f"The preprocessing of {model.name} brings every image to one size ({', '.join(resizing)}), so patches "
            "cannot be cut from a whole scan.",
            "Describe the patch by inference roi_size or input_size, and leave that step out.",
        )
    for channel in volume.channels_first():
        check_volume(volume.with_array(channel))
    if centers is not None:
        for center in centers[~volume.grid.contains(centers)]:
            raise InputError(
                f"The point {np.round(center, 1).tolist()} (RAS, mm) lies outside {volume.name}, whose center is "
                f"{np.round(volume.grid.center, 1).tolist()}.",
                "Choose a point inside the scan.",
            )
    prepared = interruptibly(check, preprocess, volume, model.preprocessing())
    check_channels(model, prepared.tensor.shape[0])
    prepared, places = _cut(prepared, centers, size)
    samples = torch.stack([prepared.tensor[(slice(None), *place)] for place in places])
    rows = []
    for part in samples.split(PATCHES_AT_ONCE):
        rows.append(checked_output(model.predict(part.to(model.device)).float(), 0).cpu())
        check()
    sides = " x ".join(f"{count * step:.0f}" for count, step in zip(size, prepared.grid.spacing))
    note = f"The model saw {len(places)} patch{'es' if len(places) > 1 else ''} of {sides} mm of the prepared scan."
    notes = " ".join([*doubts(volume, model), note])
    return PatchView(volume, model, prepared, None, samples, torch.cat(rows), notes, places, centers)


def _cut(
    prepared: Preprocessed, centers: np.ndarray | None, size: tuple[int, int, int]
) -> tuple[Preprocessed, tuple[Place, ...]]:
    """The prepared scan, continued as far as patches need it, and the patches' places."""
    shape = prepared.grid.shape
    if centers is None:
        axes = [_starts(extent, side) for extent, side in zip(shape, size)]
        starts = np.array(list(product(*axes)))
    else:
        index = prepared.grid.ras_to_index(np.asarray(centers, dtype=float))
        starts = np.rint(index - (np.array(size) - 1) / 2).astype(int)
        starts = np.unique(starts, axis=0)
    if len(starts) > MOST_PATCHES:
        raise OptionError(
            f"{len(starts)} patches of {size} voxels would be needed; {MOST_PATCHES} is the limit.",
            "Choose a box or points instead of the whole scan.",
        )
    before = np.maximum(0, -starts.min(0))
    after = np.maximum(0, starts.max(0) + np.array(size) - np.array(shape))
    pad = [int(number) for axis in (2, 1, 0) for number in (before[axis], after[axis])]
    tensor = torch.nn.functional.pad(prepared.tensor[None], pad, mode="replicate")[0] if any(pad) else prepared.tensor
    grid = prepared.grid.cropped([-int(number) for number in before], tuple(tensor.shape[1:]))
    places = tuple(
        tuple(slice(int(first), int(first) + side) for first, side in zip(start + before, size)) for start in starts
    )
    return Preprocessed(tensor.contiguous(), grid, prepared.source), places  # type: ignore[return-value]


def _starts(extent: int, side: int) -> list[int]:
    """First voxels of patches that overlap by half and reach both ends."""
    if extent <= side:
        return [(extent - side) // 2]
    return sorted({*range(0, extent - side + 1, max(1, side // 2)), extent - side})


def centers_of(at: str, where: str, segments: Any, volume: Volume, size_mm: Sequence[float]) -> np.ndarray | None:
    """Centers (n, 3) in RAS mm of the patches that are asked for; None for all over the scan.

    ``at``: "point" (R,A,S or a markups file), "box" (two corners, R,A,S,R,A,S), "segment" (the middle of every
    segment, or of the one that ``where`` names), "sliding".

    Raises OptionError where ``where`` does not fit, InputError for a segment that is empty or missing.
    """
    from ..targets.points import read_point

    if at == "sliding":
        return None
    if at == "point":
        return read_point(where)[None]
    if at == "box":
        return _box_centers(where, size_mm)
    if segments is None:
        raise OptionError("Patches at segments need a segmentation.", "Give it by the option segments.")
    names = [segment.name for segment in segments.segments]
    chosen = [segment for segment in segments.segments if where in ("", segment.name)]
    if not chosen:
        raise InputError(f"There is no segment {where!r}.", f"The segments are {', '.join(names)}.")
    found = []
    for segment in chosen:
        inside = np.argwhere(segments.mask(segment))
        if not len(inside):
            raise InputError(f"The segment {segment.name} is empty on this scan.", "Choose another segment.")
        found.append(volume.grid.index_to_ras(inside.mean(0)))
    return np.array(found)


def _box_centers(where: str, size_mm: Sequence[float]) -> np.ndarray:
    try:
        corners = np.array([float(number) for number in where.replace(";", ",").split(",")]).reshape(2, 3)
    except ValueError:
        raise OptionError(f"The box {where!r} is not two corners.", "Give R,A,S,R,A,S in mm.") from None
    low, high = corners.min(0), corners.max(0)
    axes = []
    for first, last, side in zip(low, high, size_mm):
        count = max(1, int(np.ceil((last - first) / side * 2)) - 1)
        half = min(side / 2, (last - first) / 2)
        axes.append(np.linspace(first + half, last - half, count))
    return np.array(list(product(*axes)))
