"""Feature maps of windows put together on the layer's own grid over the whole scan.

The cells of window w lie at image index start_w + scale · cell + offset, with scale and offset of the layer as
:func:`xaiengine.network.feature_grid.feature_grid` measures them in one window. One lattice serves all windows;
where a window starts between its cells, values are shared linearly between the two nearest, so that sums are kept.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core.boxes import index_of
from ..core.errors import ModelError, OptionError
from ..io.grid import Grid
from ..network.feature_grid import FeatureGrid, feature_grid
from ..network.layers import find_layer
from .window_layout import WindowLayout
from .windows import WindowedModel, WindowTarget

LARGEST_LATTICE_BYTES = 3 * 2**30


@dataclass(frozen=True)
class LayerLattice:
    """The cells of a layer over the windows that take part.

    ``first`` is the lattice number of its first cell along each axis (0: where a window at the padded image's
    corner begins); ``scale`` and ``offset`` give a cell's index in the padded image.
    """

    layout: WindowLayout
    window_cells: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    first: tuple[int, ...]
    shape: tuple[int, ...]

    def position(self, index: int) -> tuple[float, ...]:
        """Where the first cell of a window lies on the lattice."""
        return tuple(
            start / scale - first for start, scale, first in zip(self.layout.starts[index], self.scale, self.first)
        )

    def add(self, total: Tensor, index: int, values: Tensor) -> None:
        """Add a window's values (..., window_cells) to a lattice (..., shape); sums are kept."""
        parts = []
        for place in self.position(index):
            low = math.floor(place + 1e-6)
            rest = place - low
            parts.append([(low, 1 - rest), (low + 1, rest)] if rest > 1e-4 else [(low, 1.0)])
        for corner in itertools.product(*parts):
            weight = math.prod(part for _, part in corner)
            box = tuple(slice(low, low + size) for (low, _), size in zip(corner, self.window_cells))
            total[index_of(box)] += values * weight

    def cell_weights(self) -> Tensor:
        """The blending weights of a window at its cells, (window_cells)."""
        weights = self.layout.weights[None, None].float()
        if self.layout.weights.ndim == 2:
            return functional.adaptive_avg_pool2d(weights, self.window_cells)[0, 0]
        return functional.adaptive_avg_pool3d(weights, self.window_cells)[0, 0]

    def grid(self, image_grid: Grid) -> Grid:
        """Where the cells lie in the patient, given the grid of the image that the network sees."""
        affine = image_grid.affine.copy()
        steps = torch.eye(4, dtype=torch.float64).numpy()
        for axis in range(3):
            steps[axis, axis] = self.scale[axis]
            start = self.first[axis] * self.scale[axis] + self.offset[axis]
            steps[axis, 3] = start - self.layout.pad_before[axis]
        return Grid(self.shape, affine @ steps)


def lay_cells(
    windows: WindowedModel, network: nn.Module, layer: str, used: Sequence[int], image: Tensor
) -> LayerLattice:
    """The lattice of a layer over the windows ``used``.

    Raises:
        ModelError: no such layer, or one without a feature map.
    """
    layout = windows.layout
    sample = windows.crop(windows.padded(image), used[:1])
    measured: FeatureGrid = feature_grid(network, layer, sample)
    cells, scale, offset = list(measured.cells), list(measured.scale), list(measured.offset)
    if layout.flat_axis is not None:
        cells.insert(layout.flat_axis, 1)
        scale.insert(layout.flat_axis, 1.0)
        offset.insert(layout.flat_axis, 0.0)
    starts = [[layout.starts[index][axis] for index in used] for axis in range(len(cells))]
    first = [math.floor(min(line) / step + 1e-6) for line, step in zip(starts, scale)]
    last = [math.ceil(max(line) / step - 1e-6) for line, step in zip(starts, scale)]
    shape = [end - begin + count for begin, end, count in zip(first, last, cells)]
    return LayerLattice(layout, tuple(cells), tuple(scale), tuple(offset), tuple(first), tuple(shape))


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """What a layer gives for a scan, on its lattice (K, cells...), and what each target makes of it.

    ``activation`` is the blended mean over the windows; ``gradients`` the derivative of each target with respect
    to the activations, summed over the windows that share a cell; ``products`` and ``positive_products`` are
    Σ_channels g · a and Σ_channels max(g, 0) · a, summed window by window (cells...).
    """

    lattice: LayerLattice
    activation: Tensor
    gradients: list[Tensor]
    products: list[Tensor]
    positive_products: list[Tensor]


class _LayerTaps:
    """Hooks on layers that hold the activation of the last pass and the gradient of the last backward pass."""

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        self.network, self.layers = network, layers
        self.activations: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}

    @contextmanager
    def placed(self) -> Iterator[_LayerTaps]:
        handles = [self.network.register_forward_pre_hook(lambda module, arguments: self.activations.clear())]
        try:
            for name in self.layers:
                handles.append(find_layer(self.network, name).register_forward_hook(self._tap(name)))
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _tap(self, name: str):
        def tap(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor | None:
            if name in self.activations:
                return None  # the layer runs again in the same pass: its first call is explained
            if not isinstance(output, Tensor):
                raise ModelError(
                    f"The layer {name} gives a {type(output).__name__}, not one tensor.", "Choose a layer inside it."
                )
            self.activations[name] = output.detach()
            if output.requires_grad:
                output.register_hook(lambda gradient: self.gradients.__setitem__(name, gradient.detach()))
            return output.clone()  # an activation in place must not change what was recorded

        return tap


class _Collected:
    def __init__(self, lattice: LayerLattice, channels: int, targets: int, device: torch.device) -> None:
        size = (channels, *lattice.shape)
        needed = math.prod(size) * 4 * (1 + targets)
        if needed > LARGEST_LATTICE_BYTES:
            raise OptionError(
                f"The feature maps of this layer over the whole scan take {needed / 2**30:.1f} GB.",
                "Choose a deeper (coarser) layer, or a target that touches fewer windows.",
            )
        self.lattice = lattice
        self.total = torch.zeros(size, device=device)
        self.weight = torch.zeros(lattice.shape, device=device)
        self.cell_weights = lattice.cell_weights().to(device)
        self.gradients = [torch.zeros(size, device=device) for _ in range(targets)]
        self.products = [torch.zeros(lattice.shape, device=device) for _ in range(targets)]
        self.positive = [torch.zeros(lattice.shape, device=device) for _ in range(targets)]
        self.seen: set[int] = set()

    def add(self, index: int, number: int, activation: Tensor, gradient: Tensor) -> None:
        if index not in self.seen:
            self.seen.add(index)
            self.lattice.add(self.total, index, activation * self.cell_weights)
            self.lattice.add(self.weight, index, self.cell_weights)
        self.lattice.add(self.gradients[number], index, gradient)
        self.lattice.add(self.products[number], index, (gradient * activation).sum(0))
        self.lattice.add(self.positive[number], index, (gradient.relu() * activation).sum(0))

    def finish(self) -> LayerFeatures:
        activation = self.total / self.weight.clamp_min(1e-12)
        return LayerFeatures(self.lattice, activation, self.gradients, self.products, self.positive)


def layer_features(
    windows: WindowedModel, network: nn.Module, layers: Sequence[str], image: Tensor, targets: Sequence[WindowTarget]
) -> tuple[dict[str, LayerFeatures], Tensor]:
    """Activations and gradients of several layers for several targets, from one pass over the touched windows.

    Returns the features by layer and the targets' values (n,).

    Raises:
        ModelError: a layer that does not exist, has no feature map, or that a target does not depend on.
        OptionError: feature maps that do not fit into memory.
    """
    used = windows.windows_of(targets)
    lattices = {name: lay_cells(windows, network, name, used, image) for name in layers}
    collected: dict[str, _Collected] = {}
    taps = _LayerTaps(network, layers)

    def visit(indices: list[int], number: int) -> None:
        for name in layers:
            if name not in taps.activations:
                raise ModelError(f"The layer {name} takes no part in the segmentation.", "Choose another layer.")
            if name not in taps.gradients:
                raise ModelError(
                    f"The explained number does not depend on the layer {name}.", "Choose a layer before the output."
                )
            activation = windows.unflattened(taps.activations[name]).float()
            gradient = windows.unflattened(taps.gradients.pop(name)).float()
            if name not in collected:
                collected[name] = _Collected(lattices[name], activation.shape[1], len(targets), activation.device)
            for row, index in enumerate(indices):
                collected[name].add(index, number, activation[row], gradient[row])

    with taps.placed():
        values, _ = windows.gradients(image, targets, visit)
    return {name: collected[name].finish() for name in layers}, values
