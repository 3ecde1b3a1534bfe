"""How a layer's output lists its cells: channels first or last, tokens, or windows of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

LayoutKind = Literal["first", "last", "tokens", "channel_tokens", "sequence", "windows"]
MOST_LEADING = 8
"""Class and register tokens that may precede the tokens of the patches."""


@dataclass(frozen=True)
class Layout:
    """The places of a layer's cells in its output, for samples N, channels C and a grid of ``cells``.

    ``first``: (N, C, cells...); ``last``: (N, cells..., C); ``tokens``: (N, leading + cells, C);
    ``channel_tokens``: (N, C, leading + cells); ``sequence``: (leading + cells, N, C); ``windows``:
    (N windows, cells of a window, C), partitioned after a cyclic shift by ``shift`` cells. ``stride`` is the number
    of input positions that one cell stands for.
    """

    kind: LayoutKind
    cells: tuple[int, ...]
    stride: tuple[float, ...]
    leading: int = 0
    window: tuple[int, ...] = ()
    shift: tuple[int, ...] = ()

    def at(self, sizes: Sequence[int]) -> Layout:
        """The same layout for an input of other spatial sizes."""
        cells = tuple(max(math.ceil(size / step - 1e-6), 1) for size, step in zip(sizes, self.stride))
        return replace(self, cells=cells) if cells != self.cells else self

    def fits(self, output: Tensor) -> bool:
        """Whether an output can be read in this layout."""
        count, cells = math.prod(self.cells), self.cells
        if self.kind == "first":
            return output.ndim == len(cells) + 2 and tuple(output.shape[2:]) == cells
        if self.kind == "last":
            return output.ndim == len(cells) + 2 and tuple(output.shape[1:-1]) == cells
        if output.ndim != 3:
            return False
        if self.kind == "windows":
            windows = math.prod(self.padded) // math.prod(self.window)
            return output.shape[1] == math.prod(self.window) and output.shape[0] % windows == 0
        return output.shape[{"tokens": 1, "channel_tokens": 2, "sequence": 0}[self.kind]] == count + self.leading

    @property
    def padded(self) -> tuple[int, ...]:
        """The grid filled up to whole windows."""
        return tuple(math.ceil(count / size) * size for count, size in zip(self.cells, self.window))

    def to_map(self, output: Tensor) -> Tensor:
        """(N, C, cells...): the feature map in a layer's output."""
        if self.kind == "first":
            return output
        if self.kind == "last":
            return output.movedim(-1, 1)
        if self.kind == "windows":
            grid = self._merged(output)
            return grid[(slice(None), *[slice(count) for count in self.cells])].movedim(-1, 1)
        tokens = self._tokens(output)[:, self.leading :]
        return tokens.transpose(1, 2).unflatten(2, self.cells)

    def from_map(self, cells: Tensor, output: Tensor) -> Tensor:
        """The layer's ``output`` with its feature map replaced by ``cells``; other tokens stay."""
        if self.kind == "first":
            return cells
        if self.kind == "last":
            return cells.movedim(1, -1)
        if self.kind == "windows":
            grid = cells.movedim(1, -1)
            if self.padded != self.cells:
                whole = self._merged(output).clone()
                whole[(slice(None), *[slice(count) for count in self.cells])] = grid
                grid = whole
            return self._partitioned(grid)
        tokens = cells.flatten(2).transpose(1, 2)
        if self.leading:
            tokens = torch.cat([self._tokens(output)[:, : self.leading], tokens], 1)
        if self.kind == "channel_tokens":
            return tokens.transpose(1, 2)
        return tokens.transpose(0, 1) if self.kind == "sequence" else tokens

    def leading_tokens(self, output: Tensor) -> Tensor:
        """(N, leading, C): class and register tokens, which have no place."""
        if self.kind in ("first", "last", "windows"):
            return output.new_zeros(0)
        return self._tokens(output)[:, : self.leading]

    def _tokens(self, output: Tensor) -> Tensor:
        if self.kind == "channel_tokens":
            return output.transpose(1, 2)
        return output.transpose(0, 1) if self.kind == "sequence" else output

    def _merged(self, output: Tensor) -> Tensor:
        """(N, padded grid..., C) of windows, the cyclic shift undone."""
        dims = len(self.cells)
        counts = [total // size for total, size in zip(self.padded, self.window)]
        grid = output.reshape(-1, *counts, *self.window, output.shape[-1])
        order = [axis for pair in ((1 + a, 1 + dims + a) for a in range(dims)) for axis in pair]
        grid = grid.permute(0, *order, 1 + 2 * dims).reshape(-1, *self.padded, output.shape[-1])
        return torch.roll(grid, self.shift, tuple(range(1, dims + 1))) if any(self.shift) else grid

    def _partitioned(self, grid: Tensor) -> Tensor:
        dims = len(self.cells)
        if any(self.shift):
            grid = torch.roll(grid, [-step for step in self.shift], tuple(range(1, dims + 1)))
        counts = [total // size for total, size in zip(self.padded, self.window)]
        pairs = [size for pair in zip(counts, self.window) for size in pair]
        grid = grid.reshape(-1, *pairs, grid.shape[-1])
        order = [1 + 2 * axis for axis in range(dims)] + [2 + 2 * axis for axis in range(dims)]
        return grid.permute(0, *order, 1 + 2 * dims).reshape(-1, math.prod(self.window), grid.shape[-1])


def first_tensor(output: Any) -> Tensor | None:
    """The output itself, or the first tensor of a tuple or list."""
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) and output.is_floating_point() else None


def with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """The output with its first tensor replaced."""
    if isinstance(output, list):
        return [tensor, *output[1:]]
    if isinstance(output, tuple):
        rest = (tensor, *output[1:])
        return type(output)(*rest) if hasattr(output, "_fields") else rest
    return tensor


def known_grids(shapes: Sequence[tuple[int, ...]], sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Grids of cells that outputs (1, ...) of these shapes show: whole-number reductions of the input's sizes."""
    dims = len(sizes)
    grids: list[tuple[int, ...]] = []
    for shape in shapes:
        if len(shape) == dims + 2 and shape[0] == 1:
            for cells in (shape[2:], shape[1:-1]):
                if _is_reduction(cells, sizes) and tuple(cells) not in grids:
                    grids.append(tuple(cells))
    for factor in range(1, max(sizes) + 1):
        cells = tuple(math.ceil(size / factor) for size in sizes)
        if cells not in grids:
            grids.append(cells)
    return grids


def _is_reduction(cells: Sequence[int], sizes: Sequence[int]) -> bool:
    return all(0 < count <= size for count, size in zip(cells, sizes))


def candidates(shape: tuple[int, ...], sizes: Sequence[int], grids: Sequence[tuple[int, ...]]) -> list[Layout]:
    """Layouts in which an output of this shape for one sample could be read, by its numbers alone."""
    dims, found = len(sizes), []

    def add(kind: LayoutKind, cells: Sequence[int], **more: Any) -> None:
        if math.prod(cells) > 1:
            found.append(Layout(kind, tuple(cells), strides(sizes, cells), **more))

    if len(shape) == dims + 2 and shape[0] == 1:
        add("first", shape[2:])
        if _is_reduction(shape[1:-1], sizes):
            add("last", shape[1:-1])
    if len(shape) == 3:
        for kind, axis, batch in (("tokens", 1, 0), ("channel_tokens", 2, 0), ("sequence", 0, 1)):
            if shape[batch] == 1:
                for cells, leading in _grids_of(shape[axis], sizes, grids):
                    add(kind, cells, leading=leading)  # type: ignore[arg-type]
        if shape[0] > 1:
            for cells, window, shift in _windows_of(shape, grids):
                add("windows", cells, window=window, shift=shift)
    return found


def _grids_of(count: int, sizes: Sequence[int], grids: Sequence[tuple[int, ...]]) -> list[tuple[tuple[int, ...], int]]:
    found = [(cells, count - math.prod(cells)) for cells in grids if 0 <= count - math.prod(cells) <= MOST_LEADING]
    if not found:  # patches of unequal sides
        divisors = [[size // part for part in range(1, size + 1) if size % part == 0] for size in sizes]
        grids = [cells for cells in product(*divisors) if 0 <= count - math.prod(cells) <= 1]
        found = [(cells, count - math.prod(cells)) for cells in grids]
    found = [item for item in found if item[1] < math.prod(item[0])]
    return sorted(found, key=lambda item: item[1])[:24]


def _windows_of(shape: tuple[int, ...], grids: Sequence[tuple[int, ...]]) -> list[tuple]:
    found = []
    for cells in grids:
        for side in range(2, 33):
            window = tuple(min(side, count) for count in cells)
            padded = math.prod(math.ceil(count / size) * size for count, size in zip(cells, window))
            if math.prod(window) != shape[1] or padded != math.prod(shape[:2]):
                continue
            half = tuple(0 if side >= count else side // 2 for count in cells)
            found += [(cells, window, (0,) * len(cells))] + ([(cells, window, half)] if any(half) else [])
    return found


def strides(sizes: Sequence[int], cells: Sequence[int]) -> tuple[float, ...]:
    """Input positions per cell: the whole number that gives this many cells where there is one."""
    steps = []
    for size, count in zip(sizes, cells):
        whole = next((step for step in (round(size / count), size // count) if step and -(-size // step) == count), 0)
        steps.append(float(whole or size / count))
    return tuple(steps)
