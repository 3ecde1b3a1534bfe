"""Methods that hide parts of the input: what they do on a case, and what that takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..core.errors import OptionError
from . import coalitions, perturbation
from .case import Case, joined
from .forward import Attribution
from .perturbation import COARSE_FACTORS, block_voxels, positions, touches
from .registry import Passes


def block_of(case: Case, settings: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Block and stride of occlusion in voxels. Raises OptionError for a stride that leaves gaps."""
    size = settings.occlusion_mm or case.default_block_mm
    stride = settings.occlusion_stride_mm or size
    if stride > size:
        raise OptionError(
            f"The stride {stride:g} mm leaves gaps between blocks of {size:g} mm.",
            "Choose a stride no longer than the block.",
        )
    shape = tuple(case.inputs.shape[2:])
    return block_voxels(size, case.spacing, shape), block_voxels(stride, case.spacing, shape)


def occlusion_passes(case: Case, settings: Any) -> Passes:
    block, stride = block_of(case, settings)
    shape = tuple(case.inputs.shape[2:])
    roi = case.roi if case.roi is None or case.roi.ndim == len(shape) else case.roi.any(0)
    starts = [start for start in positions(shape, block, stride) if touches(roi, start, block)]
    count = case.changed_passes([tuple(slice(a, a + n) for a, n in zip(start, block)) for start in starts])
    part = settings.coarse_to_fine
    if part:
        shares = [part**level / factor ** len(shape) for level, factor in enumerate((*COARSE_FACTORS, 1))]
        count *= sum(shares)
    return Passes(count)


def occluded(case: Case, settings: Any) -> Attribution:
    """Occlusion of every row by itself."""
    block, stride = block_of(case, settings)
    parts = []
    for piece in case.pieces(rowwise=True):
        roi = case.roi
        if roi is not None and roi.ndim == piece.inputs.ndim - 1:
            roi = roi[piece.row : piece.row + 1]
        found = perturbation.occlusion(
            piece.forward,
            piece.inputs,
            piece.baseline,
            block,
            stride,
            roi=roi,
            coarse_to_fine=settings.coarse_to_fine,
            batch_size=piece.batch_size,
        )
        parts.append(found)
    return _added(joined(parts), "blocks")


def _added(found: Attribution, key: str) -> Attribution:
    if found.by_row:
        found.convergence[key] = sum(row[key] for row in found.by_row)
    return found


def randomly_masked(case: Case, masks: int) -> Attribution:
    """RISE of every row."""
    return joined(
        [
            perturbation.rise(
                piece.forward,
                piece.inputs,
                piece.baseline,
                masks=masks,
                cells=case.mask_cells,
                seed=case.seed,
                batch_size=piece.batch_size,
            )
            for piece in case.pieces()
        ]
    )


def region_game(case: Case, regions: int, call: Callable[[coalitions.RegionGame], Attribution]) -> Attribution:
    """A method on regions of every row by itself."""
    parts = []
    for piece in case.pieces(rowwise=True):
        labels = torch.as_tensor(case.labels(piece.row, regions))
        game = coalitions.RegionGame(piece.forward, piece.inputs, piece.baseline, labels, piece.batch_size)
        parts.append(call(game))
    return joined(parts)
