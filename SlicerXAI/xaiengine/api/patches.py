"""Where a model of three-dimensional patches looks at a scan, as the API takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.errors import OptionError
from ..inference.patches import centers_of, patch_size, view_patches
from ..inference.preprocessing import preprocess
from ..inference.scan_view import ScanView, view_scan
from ..io.segmentation import Segmentation
from ..io.volume import Volume
from ..lesions.lungs.lungs_alone import lungs_alone
from ..models.explained_model import ExplainedModel
from .asking import Target
from .scans import as_mask

REMEDY = "Give whole, sliding, a point (R, A, S in mm), xai.box(lower, upper) or xai.at_segment(segmentation, name)."


def is_whole(at: Any) -> bool:
    """Whether a model is to see the scan itself."""
    return at is None or (isinstance(at, str) and at in ("", "whole"))


def seen(
    volume: Volume, model: ExplainedModel, at: Any, size: Sequence[int], check: Callable[[], None] = lambda: None
) -> ScanView:
    """The scan as the model sees it: itself, or patches of it.

    Raises:
        OptionError: ``at`` names no place.
        InputError: the place lies outside the scan.
        ModelError: the model does not classify patches.
    """
    if is_whole(at):
        return view_scan(volume, model, check, shown_part=lungs_alone)
    voxels = patch_size(model, size)
    return view_patches(volume, model, _centers(volume, model, at, voxels), voxels, check)


def _centers(volume: Volume, model: ExplainedModel, at: Any, size: Sequence[int]) -> np.ndarray | None:
    if isinstance(at, str) and at == "sliding":
        return None
    if isinstance(at, Segmentation):
        at = Target("segment", region=at)
    if not isinstance(at, Target):
        return _points(at)
    if at.point:
        return np.array([at.point], dtype=float)
    if at.corners:
        spacing = preprocess(volume, model.preprocessing()).grid.spacing
        text = ",".join(str(number) for corner in at.corners for number in corner)
        return centers_of("box", text, None, volume, [count * step for count, step in zip(size, spacing)])
    if isinstance(at.region, Segmentation):
        return centers_of("segment", at.segment, at.region.on_grid(volume.grid), volume, ())
    if at.region is None:
        raise OptionError(f"A target of the kind {at.kind} is no place for patches.", REMEDY)
    inside = np.argwhere(as_mask(at.region, volume.grid))
    if not len(inside):
        raise OptionError("The region is empty: there is no place for a patch.", REMEDY)
    return volume.grid.index_to_ras(inside.mean(0))[None]


def _points(at: Any) -> np.ndarray:
    try:
        points = np.array(at, dtype=float)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim not in (1, 2) or points.shape[-1] != 3 or not np.isfinite(points).all():
        raise OptionError(f"{at!r} is no place for patches.", REMEDY)
    return points.reshape(-1, 3)
