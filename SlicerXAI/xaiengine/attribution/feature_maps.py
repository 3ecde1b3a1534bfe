"""The feature maps of a network: recording them, checking them, and choosing layers to explain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from ..core.errors import ModelError
from ..network.layer_maps import layer_maps
from ..network.layers import evaluation_mode, find_layer, frozen_parameters
from ..network.layouts import Layout

SMALLEST_PARTS = 10
"""Cells along the input's longest axis from which a layer counts as fine enough to be a default."""


@contextmanager
def explainable(network: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode without parameter gradients inside the block; both are put back afterwards."""
    with evaluation_mode(network), frozen_parameters(network):
        yield network


@contextmanager
def recorded(layers: Mapping[str, nn.Module], *, differentiable: bool = False) -> Iterator[dict[str, torch.Tensor]]:
    """Record the outputs of layers during the forward passes of the block (the first call of each layer).

    With ``differentiable``, each output becomes part of the gradient graph even when the input needs no gradient,
    and the network goes on with a copy, so that an in-place activation cannot change what was recorded.
    """
    activations: dict[str, torch.Tensor] = {}

    def recorder(name: str) -> Callable:
        def record(module: nn.Module, arguments: tuple, output: torch.Tensor) -> torch.Tensor | None:
            if name in activations:
                return None
            if not isinstance(output, torch.Tensor):
                raise ModelError(
                    f"The layer {name} gives a {type(output).__name__}, not one tensor.", "Choose a layer inside it."
                )
            if differentiable and not output.requires_grad:
                output = output.detach().requires_grad_()
            activations[name] = output
            return output.clone()

        return record

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_hook(recorder(name)).remove)
        yield activations


def check_spatial(name: str, activation: torch.Tensor, spatial_dims: int) -> None:
    """Raise ModelError unless a layer's output is a feature map (N, K, cells...) of more than one cell."""
    if activation.ndim != spatial_dims + 2 or activation[0, 0].numel() < 2:
        raise ModelError(
            f"The layer {name} gives the shape {tuple(activation.shape)}, not a feature map with "
            f"{spatial_dims} spatial axes.",
            "Choose a convolutional layer before the global pooling.",
        )


def spatial_layers(forward: Callable, network: nn.Module, inputs: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """Layers that have a map of places for these inputs (1, C, spatial...), in order of execution, with their cells.

    Layers of tokens, channels-last grids and windows are among them (:mod:`xaiengine.network.layer_maps`).
    """
    return {name: layout.cells for name, layout in layer_maps(network, inputs, forward).items()}


def require_maps(forward: Callable, network: nn.Module, names: Iterable[str], inputs: torch.Tensor) -> None:
    """Raise ModelError for the first layer that has no map of places; near names where there is no such layer."""
    names = list(names)
    if not names:
        return
    found = layer_maps(network, inputs, forward)
    for name in names:
        find_layer(network, name)
        if name not in found:
            near = ", ".join(outermost(found)[-4:])
            raise ModelError(
                f"The output of the layer {name} is not a feature map with {inputs.ndim - 2} spatial axes: where the "
                "image changes does not show in it.",
                f"Choose a layer that has a map, for example {near}." if near else "Choose a method without layers.",
            )


def outermost(layouts: Mapping[str, Layout]) -> list[str]:
    """Layers without those inside blocks that have a map of as many cells themselves."""

    def inside(name: str) -> bool:
        parts = name.split(".")
        parents = (".".join(parts[:depth]) for depth in range(1, len(parts)))
        return any(parent in layouts and layouts[parent].cells == layouts[name].cells for parent in parents)

    return [name for name in layouts if not inside(name)]


def default_layers(forward: Callable, network: nn.Module, inputs: torch.Tensor, count: int = 1) -> list[str]:
    """``count`` feature maps spread over the depth of a network, the deepest last.

    Candidates are the last layers of each spatial size other than the input's own; of a transformer with one grid of
    tokens its blocks, as far as the output depends on their patches. A single one is the deepest whose cells resolve
    a tenth of the input; where none does, the finest. Raises ModelError when the network has no feature map.
    """
    layouts = layer_maps(network, inputs, forward)
    sizes = tuple(inputs.shape[2:])
    candidates = _candidates(forward, network, inputs, layouts)
    if not candidates:
        raise ModelError("The model has no layer with a feature map.", "Choose a method that needs no layer.")
    fine = [name for name in candidates if resolves(layouts[name].cells, sizes)]
    if not fine:
        most = max(min(layouts[name].cells) for name in candidates)
        fine = [name for name in candidates if min(layouts[name].cells) == most]
    if count == 1:
        return fine[-1:]
    if count >= len(candidates):
        return candidates
    steps = torch.linspace(0, len(candidates) - 1, count).round().long().tolist()
    return [candidates[step] for step in steps]


def resolves(cells: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether a layer's cells are at most a tenth of the input along its longest axis."""
    longest = max(range(len(sizes)), key=lambda axis: sizes[axis])
    return cells[longest] >= SMALLEST_PARTS or all(count == size for count, size in zip(cells, sizes))


def coarse_note(layer: str, cells: Sequence[int], sizes: Sequence[int]) -> str:
    """A warning about a map whose cells are larger than a tenth of the input; empty for finer ones."""
    if resolves(cells, sizes):
        return ""
    return (
        f"The layer {layer} has {' x '.join(map(str, cells))} cells, each larger than a tenth of the model's input: "
        "the map cannot show smaller findings. Name an earlier layer to see more detail."
    )


def _candidates(
    forward: Callable, network: nn.Module, inputs: torch.Tensor, layouts: Mapping[str, Layout]
) -> list[str]:
    sizes = tuple(inputs.shape[2:])
    if all(layout.kind == "first" for layout in layouts.values()):
        last_of_size: dict[tuple[int, ...], str] = {}
        for name, layout in layouts.items():
            if layout.cells != sizes:
                last_of_size.pop(layout.cells, None)
                last_of_size[layout.cells] = name
        return list(last_of_size.values()) or list(layouts)[-1:]
    outer = [name for name in outermost(layouts) if layouts[name].cells != sizes]
    live = _live(forward, network, inputs, outer) or outer
    grids = list(dict.fromkeys(layouts[name].cells for name in live))
    if len(grids) == 1:
        return live
    return [next(name for name in reversed(live) if layouts[name].cells == cells) for cells in grids]


def _live(forward: Callable, network: nn.Module, inputs: torch.Tensor, names: Sequence[str]) -> list[str]:
    """Those layers whose map the output depends on: behind the last block a class token is read, not the patches."""
    layers = {name: find_layer(network, name) for name in names}
    with explainable(network), recorded(layers, differentiable=True) as activations, torch.enable_grad():
        output = forward(inputs.clone())
        weights = torch.linspace(0.5, 1.5, output.numel(), device=output.device).reshape(output.shape)
        found = list(activations)
        gradients = torch.autograd.grad(
            (output.float() * weights).sum(), [activations[name] for name in found], allow_unused=True
        )
    alive = {name for name, gradient in zip(found, gradients) if gradient is not None and bool(gradient.any())}
    return [name for name in names if name in alive]
