"""Gaussian smoothing of feature maps as one small matrix per axis: any number of axes, any size from 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def smoothing_matrix(size: int, sigma: float) -> Tensor:
    """(size, size) float64 matrix M such that ``x @ M`` smooths the last axis of x.

    Taps at -r..r, r = round(2 sigma), weights exp(-o^2 / 2 sigma^2) normalized; reflection at the borders without
    repeating the border cell, again and again where the axis is shorter than the kernel.
    """
    reach = round(2 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    matrix = torch.zeros(size, size, dtype=torch.float64)
    for target in range(size):
        for offset, weight in zip(range(-reach, reach + 1), weights):
            matrix[_reflected(target + offset, size), target] += weight
    return matrix


def _reflected(index: int, size: int) -> int:
    if size == 1:
        return 0
    period = 2 * (size - 1)
    index %= period
    return period - index if index >= size else index


def _apply(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Multiply along ``axis`` (negative): the last by ``x @ M``, the others by ``M^T @ x``."""
    if axis == -1:
        return x @ matrix
    trailing = x.shape[axis + 1 :]
    return torch.matmul(matrix.t(), x.flatten(axis + 1)).unflatten(-1, trailing)


class Smoothing:
    """Smooths (..., *cells) over the cells, with its adjoint for gradients.

    ``sigma`` in cells (0: none). ``leading`` cells (class tokens) of a flat (..., leading + prod(grid)) layout are
    left alone, and the rest is smoothed as the ``grid``.
    """

    def __init__(
        self,
        cells: Sequence[int],
        sigma: float,
        device: torch.device,
        grid: Sequence[int] | None = None,
        leading: int = 0,
    ) -> None:
        self.grid = tuple(grid) if grid else None
        self.leading = leading
        self._matrices = []
        shape = self.grid or tuple(cells)
        if sigma > 0 and round(2 * sigma) > 0:
            for axis, size in zip(range(-len(shape), 0), shape):
                if size > 1:
                    matrix = smoothing_matrix(size, sigma).to(device, torch.float32)
                    self._matrices.append((axis, matrix, matrix.t().contiguous()))

    def __call__(self, x: Tensor) -> Tensor:
        return self._run(x, adjoint=False)

    def adjoint(self, gradient: Tensor) -> Tensor:
        return self._run(gradient, adjoint=True)

    def _run(self, x: Tensor, adjoint: bool) -> Tensor:
        if not self._matrices:
            return x
        if self.grid is not None:
            tokens = x[..., self.leading :].unflatten(-1, self.grid)
            smoothed = self._axes(tokens, adjoint).flatten(-len(self.grid))
            return torch.cat([x[..., : self.leading], smoothed], -1)
        return self._axes(x, adjoint)

    def _axes(self, x: Tensor, adjoint: bool) -> Tensor:
        for axis, matrix, transposed in self._matrices:
            x = _apply(x, transposed if adjoint else matrix, axis)
        return x
