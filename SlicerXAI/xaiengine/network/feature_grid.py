"""Where the cells of a layer's feature map lie in the network's input.

Stretching a map over the image (``align_corners=False``) puts cell ``c`` at input index ``s c + (s - 1)/2``. That
is right for pooling without overlap, but a convolution of odd kernel and stride ``s`` is centered on ``s c``:
behind a ResNet's stem a stretched map is off by 1.5 pixels, at a deep layer by many. Here the centers are
measured on a twin of the network whose kernels weigh every tap alike, so that the gradient of a cell with
respect to the input is centered on its receptive field.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import ModelError
from .layer_maps import known_layout, layer_maps
from .layers import find_layer, layer_name

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_SAMPLE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm)
_MAX_POOLS = {nn.MaxPool1d: nn.AvgPool1d, nn.MaxPool2d: nn.AvgPool2d, nn.MaxPool3d: nn.AvgPool3d}
_TRUSTED_RESIDUE = 0.2
"""Centers lie on whole or half input pixels; one farther off than this was disturbed by a border."""


@dataclass(frozen=True)
class FeatureGrid:
    """Per spatial axis: input index = ``scale * cell + offset``. ``measured`` is False for mere stretching."""

    cells: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    measured: bool

    def affine(self, input_affine: np.ndarray, axes: Sequence[int] = (0, 1, 2)) -> np.ndarray:
        """IJK-to-RAS of the cells (4, 4), given that of the input; ``axes`` are the input axes of the cells."""
        steps = np.eye(4)
        for axis, scale, offset in zip(axes, self.scale, self.offset):
            steps[axis, axis], steps[axis, 3] = scale, offset
        return np.asarray(input_affine, dtype=float) @ steps


def feature_grid(network: nn.Module, layer: str | nn.Module, inputs: Tensor) -> FeatureGrid:
    """The grid of a layer's cells for inputs of the shape of ``inputs`` (N, C, spatial...).

    Raises ModelError when there is no such layer, or when it gives no feature map.
    """
    name = layer if isinstance(layer, str) else layer_name(network, layer)
    find_layer(network, name)
    sizes = tuple(inputs.shape[2:])
    if (tokens := _token_grid(network, name, sizes)) is not None:
        return tokens
    try:
        twin = even_twin(network)
        with torch.enable_grad():  # whoever asks may be within a block without gradients
            gradient_of = _cell_gradients(twin, find_layer(twin, name), torch.ones(1, *inputs.shape[1:]))
            cells = gradient_of.cells
            measured = [_measure_axis(gradient_of, axis, sizes[axis]) for axis in range(len(sizes))]
    except (RuntimeError, ValueError, TypeError, IndexError):
        measured = [None] * len(sizes)
    if not any(item is None for item in measured):
        return FeatureGrid(cells, *zip(*measured), measured=True)
    layout = layer_maps(network, inputs[:1]).get(name)
    if (tokens := _token_grid(network, name, sizes)) is not None:
        return tokens
    cells = _cells_of(network, find_layer(network, name), inputs[:1], len(sizes)) if layout is None else layout.cells
    if layout is None and np.prod(cells) > 1:
        raise _no_map(len(sizes))
    measured = [stretched(count, size) for count, size in zip(cells, sizes)]
    return FeatureGrid(cells, *zip(*measured), measured=False)


def _no_map(axes: int) -> ModelError:
    return ModelError(
        f"The layer gives no feature map with {axes} spatial axes.",
        "Choose a convolutional layer before the global pooling, or a block of a transformer.",
    )


def _token_grid(network: nn.Module, name: str, sizes: tuple[int, ...]) -> FeatureGrid | None:
    """The grid of a layer of tokens, whose patches lie side by side; None for other layers."""
    layout = known_layout(network, name, sizes)
    if layout is None or layout.kind == "first":
        return None
    offset = tuple((step - 1) / 2 for step in layout.stride)
    return FeatureGrid(layout.cells, layout.stride, offset, measured=all(step == int(step) for step in layout.stride))


def stretched(cells: int, size: int) -> tuple[float, float]:
    """Scale and offset of a map that is stretched over the image edge to edge."""
    scale = size / cells
    return scale, (scale - 1) / 2


def even_twin(network: nn.Module) -> nn.Module:
    """A copy whose convolutions average over their taps, without normalization and with averaging pools."""
    twin = copy.deepcopy(network).cpu().float().eval()
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _SAMPLE_NORMS):
                setattr(parent, name, nn.Identity())
            elif type(child) in _MAX_POOLS and child.dilation in (1, (1, 1), (1, 1, 1)):
                average = _MAX_POOLS[type(child)]
                setattr(parent, name, average(child.kernel_size, child.stride, child.padding, child.ceil_mode))
    for module in twin.modules():
        if isinstance(module, _CONVOLUTIONS):
            nn.init.constant_(module.weight, 1.0 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, _BATCH_NORMS):
            module.reset_parameters()
            module.reset_running_stats()
    return twin


class _cell_gradients:  # noqa: N801 - used like a function of the cell
    """The gradient of one cell, summed over channels, with respect to the input: call with the cell's index."""

    def __init__(self, network: nn.Module, layer: nn.Module, inputs: Tensor) -> None:
        self._inputs = inputs.requires_grad_()
        recorded: list[Tensor] = []
        hook = layer.register_forward_hook(lambda module, arguments, output: recorded.append(output.clone()))
        try:
            network(self._inputs)
        except RuntimeError:
            if not recorded:  # what follows the layer does not matter
                raise
        finally:
            hook.remove()
        self._activation = recorded[0]
        spatial = inputs.ndim - 2
        if self._activation.ndim != spatial + 2:
            raise ValueError("not a feature map")
        self.cells = tuple(self._activation.shape[2:])

    def __call__(self, cell: Sequence[int]) -> np.ndarray:
        value = self._activation[(0, slice(None), *cell)].sum()
        (gradient,) = torch.autograd.grad(value, self._inputs, retain_graph=True)
        return gradient[0].abs().sum(0).double().numpy()


def _measure_axis(gradient_of: _cell_gradients, axis: int, size: int) -> tuple[float, float] | None:
    """Scale and offset along one axis from two neighboring cells in the middle; None when they cannot be told."""
    count = gradient_of.cells[axis]
    if count < 2:
        return None
    middle = [length // 2 for length in gradient_of.cells]
    before = [*middle[:axis], middle[axis] - 1, *middle[axis + 1 :]]
    found = [_center(gradient_of(cell), axis) for cell in (before, middle)]
    centers = [center for center in found if center is not None]
    if len(centers) < len(found):
        return None
    # strides are whole, and near a border the distance of two centers only shrinks
    scale = float(max(np.round(centers[1] - centers[0]), 1.0))
    if not 0.5 < scale * count / size < 2.0:
        return None
    offsets = [center - scale * cell[axis] for center, cell in zip(centers, (before, middle))]
    offset = float(np.round(2 * np.mean(offsets)) / 2)
    if max(abs(found - offset) for found in offsets) > _TRUSTED_RESIDUE:
        return None
    return scale, offset


def _center(gradient: np.ndarray, axis: int) -> float | None:
    """The center of a receptive field: of its support if that ends inside the image, else of its mass."""
    profile = gradient.sum(tuple(other for other in range(gradient.ndim) if other != axis))
    if profile.max() <= 0:
        return None
    support = np.flatnonzero(profile > 1e-9 * profile.max())
    if support[0] > 0 and support[-1] < len(profile) - 1:
        return float(support[0] + support[-1]) / 2
    return float((profile * np.arange(len(profile))).sum() / profile.sum())


def _cells_of(network: nn.Module, layer: nn.Module, inputs: Tensor, spatial: int) -> tuple[int, ...]:
    shapes: list[tuple[int, ...]] = []
    hook = layer.register_forward_hook(lambda module, arguments, output: shapes.append(tuple(output.shape[2:])))
    try:
        with torch.no_grad():
            network(inputs)
    finally:
        hook.remove()
    if len(shapes[0]) != spatial or not all(shapes[0]):
        raise _no_map(spatial)
    return shapes[0]
