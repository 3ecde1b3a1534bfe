"""Attributions from hiding parts of the image: occlusion by blocks and random masks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from ..core.errors import OptionError
from .cam import INTERPOLATION
from .forward import Attribution, Forward

COARSE_FACTORS = (4, 2)
"""Sides of the coarser blocks by those of the fine ones, coarsest first."""


def block_voxels(size_mm: float, spacing: Sequence[float], shape: Sequence[int]) -> tuple[int, ...]:
    """A block of about ``size_mm`` in whole voxels per axis. Raises OptionError when it is larger than the image."""
    block = tuple(max(1, round(size_mm / step)) for step in spacing)
    if all(length > size for length, size in zip(block, shape)):
        raise OptionError(
            f"A block of {size_mm:g} mm covers the whole image ({' x '.join(map(str, shape))} voxels).",
            "Choose smaller blocks.",
        )
    return tuple(min(length, size) for length, size in zip(block, shape))


def positions(shape: Sequence[int], block: Sequence[int], stride: Sequence[int]) -> list[tuple[int, ...]]:
    """Starts of blocks that cover the image; the last block of each axis ends at the edge."""
    axes = []
    for size, length, step in zip(shape, block, stride):
        last = max(0, size - length)
        starts = list(range(0, last + 1, step))
        axes.append(starts if starts[-1] == last else [*starts, last])
    return list(itertools.product(*axes))


def occlusion(
    forward: Forward,
    inputs: torch.Tensor,
    baseline: torch.Tensor,
    block: Sequence[int],
    stride: Sequence[int] | None = None,
    *,
    roi: torch.Tensor | None = None,
    coarse_to_fine: float = 0.0,
    batch_size: int = 8,
) -> Attribution:
    """f(x) - f(x with a block from the baseline), for blocks of ``block`` voxels every ``stride`` voxels.

    A voxel's value is the mean over the blocks that cover it, per voxel of a block: disjoint blocks sum to the sum
    of their effects (captum gives ``block voxels`` times that). ``roi`` (spatial...), or (N, spatial...) for each
    sample, leaves out blocks that do not touch it. With ``coarse_to_fine`` q in 0..1, blocks of
    :data:`COARSE_FACTORS` times the size are tried first, and of each size only the part q with the largest effects
    is refined; elsewhere the coarser effect stays. q = 0.25 takes a fifth of the passes in 2D, a ninth in 3D.

    Each sample of ``inputs`` (N, C, spatial...) is explained by itself.
    """
    block = tuple(block)
    stride = tuple(stride or block)
    maps, evaluated = [], 0
    for sample in range(len(inputs)):
        scan = _Occluder(forward, inputs[sample : sample + 1], baseline[sample : sample + 1], batch_size)
        starts = positions(inputs.shape[2:], block, stride)
        limit = roi[sample] if roi is not None and roi.ndim == inputs.ndim - 1 else roi
        starts = [start for start in starts if touches(limit, start, block)]
        if not starts and limit is roi:
            raise OptionError("No block touches the region of interest.", "Choose a larger region or smaller blocks.")
        if coarse_to_fine > 0 and starts:
            starts = scan.refined(starts, block, coarse_to_fine, limit)
        scan.cover(starts, block)
        evaluated += scan.evaluated
        maps.append(scan.map())
    return Attribution(torch.stack(maps)[:, None], unit="change per voxel", convergence={"blocks": evaluated})


def touches(roi: torch.Tensor | None, start: Sequence[int], block: Sequence[int]) -> bool:
    """Whether a block touches a region (spatial...) bool; None is everywhere."""
    return roi is None or bool(roi[_box(start, block)].any())


def _centered_in(mask: torch.Tensor, starts: list[tuple[int, ...]], block: Sequence[int]) -> list[tuple[int, ...]]:
    """The blocks whose center lies in a mask (spatial...)."""
    return [start for start in starts if mask[tuple(first + length // 2 for first, length in zip(start, block))]]


def _box(start: Sequence[int], block: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + length) for first, length in zip(start, block))


class _Occluder:
    """Effects of blocks on one sample, collected into sums and counts per voxel."""

    def __init__(self, forward: Forward, scan: torch.Tensor, baseline: torch.Tensor, batch_size: int) -> None:
        self.forward, self.scan, self.baseline, self.batch_size = forward, scan, baseline, batch_size
        self.whole = forward.values(scan)[0]
        self.sums = torch.zeros(scan.shape[2:], device=scan.device)
        self.counts = torch.zeros_like(self.sums)
        self.coarse: torch.Tensor | None = None
        self.evaluated = 0
        self._rows = scan.expand(batch_size, *scan.shape[1:]).clone()

    def effects(self, starts: Sequence[Sequence[int]], block: Sequence[int]) -> torch.Tensor:
        """f(x) - f(occluded) for each block, (B,). The rows of one buffer are changed and put back in place."""
        found = []
        for first in range(0, len(starts), self.batch_size):
            chunk = starts[first : first + self.batch_size]
            for row, start in enumerate(chunk):
                box = (slice(None), *_box(start, block))
                self._rows[row][box] = self.baseline[0][box]
            with torch.no_grad():
                found.append(self.whole - self.forward(self._rows[: len(chunk)]))
            for row, start in enumerate(chunk):
                box = (slice(None), *_box(start, block))
                self._rows[row][box] = self.scan[0][box]
        self.evaluated += len(starts)
        return torch.cat(found) if found else self.sums.new_zeros(0)

    def cover(self, starts: Sequence[Sequence[int]], block: Sequence[int]) -> None:
        size = math.prod(block)
        for start, effect in zip(starts, self.effects(starts, block)):
            self.sums[_box(start, block)] += effect / size
            self.counts[_box(start, block)] += 1

    def refined(
        self, starts: list[tuple[int, ...]], block: Sequence[int], part: float, roi: torch.Tensor | None
    ) -> list[tuple[int, ...]]:
        """The fine blocks whose center lies in one of the most effective coarser blocks, level by level."""
        shape = tuple(self.scan.shape[2:])
        self.coarse = torch.zeros_like(self.sums)
        wanted = torch.ones(shape, dtype=torch.bool)
        for factor in COARSE_FACTORS:
            large = tuple(min(length * factor, size) for length, size in zip(block, shape))
            tried = [start for start in positions(shape, large, large) if touches(roi, start, large)]
            tried = _centered_in(wanted, tried, large)
            effects = self.effects(tried, large)
            for start, effect in zip(tried, effects):
                self.coarse[_box(start, large)] = effect / math.prod(large)
            wanted = torch.zeros(shape, dtype=torch.bool)
            for index in effects.abs().argsort(descending=True)[: max(1, math.ceil(part * len(tried)))].tolist():
                wanted[_box(tried[index], large)] = True
        return _centered_in(wanted, starts, block)

    def map(self) -> torch.Tensor:
        fine = self.sums / self.counts.clamp_min(1)
        return fine if self.coarse is None else torch.where(self.counts > 0, fine, self.coarse)


def rise(
    forward: Forward,
    inputs: torch.Tensor,
    baseline: torch.Tensor,
    *,
    masks: int = 500,
    cells: int | Sequence[int] = 7,
    kept: float = 0.5,
    seed: int = 0,
    batch_size: int = 8,
) -> Attribution:
    """Random smooth masks weighted by what the model says of the masked image (Petsiuk 2018).

    Σ f·m / Σ m, minus the mean of f so that voxels without influence are near 0. ``cells`` is the grid of the masks,
    ``kept`` the chance of a cell to be shown. The standard error comes as an extra map.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = inputs.shape[2:]
    grid = (cells,) * len(shape) if isinstance(cells, int) else tuple(cells)
    maps, errors = [], []
    for sample in range(len(inputs)):
        values: list[torch.Tensor] = []
        sums = weighted = squares = torch.zeros((), dtype=inputs.dtype, device=inputs.device)
        for start in range(0, masks, batch_size):
            mask = smooth_masks(min(batch_size, masks - start), shape, grid, kept, generator).to(inputs)
            mixed = mask[:, None] * inputs[sample : sample + 1] + (1 - mask[:, None]) * baseline[sample : sample + 1]
            value = forward.values(mixed, len(mixed))
            values.append(value)
            sums = sums + mask.sum(0)
            weighted = weighted + torch.einsum("n,n...->...", value, mask)
            squares = squares + torch.einsum("n,n...->...", value.square(), mask.square())
        level = torch.cat(values).mean()
        total = sums.clamp_min(1e-6)
        maps.append(weighted / total - level)
        spread = (squares / masks - (weighted / masks).square()).clamp_min(0)
        errors.append((spread / masks).sqrt() * masks / total)
    result = torch.stack(maps)[:, None]
    error = torch.stack(errors)[:, None]
    relative = float(error.mean() / result.std().clamp_min(1e-12))
    return Attribution(
        result,
        unit="target",
        convergence={"masks": masks, "relative_standard_error": relative},
        extras={"standard_error": error},
    )


def smooth_masks(
    count: int, shape: Sequence[int], grid: Sequence[int], kept: float, generator: torch.Generator
) -> torch.Tensor:
    """Random grids of zeros and ones, enlarged linearly and shifted by less than a cell, (count, spatial...)."""
    cell = [math.ceil(size / cells) for size, cells in zip(shape, grid)]
    coarse = (torch.rand(count, 1, *[cells + 1 for cells in grid], generator=generator) < kept).float()
    large = [length * (cells + 1) for length, cells in zip(cell, grid)]
    smooth = functional.interpolate(coarse, size=large, mode=INTERPOLATION[len(large)], align_corners=False)[:, 0]
    masks = torch.empty(count, *shape)
    for index in range(count):
        start = [int(torch.randint(length, (1,), generator=generator)) for length in cell]
        masks[index] = smooth[index][_box(start, shape)]
    return masks
