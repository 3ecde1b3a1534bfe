"""The feature maps of a network: recording them, checking them, and choosing layers to explain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from ..core.errors import ModelError
from ..network.layers import evaluation_mode, frozen_parameters


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
    """Layers that give feature maps for these inputs (1, C, spatial...), in order of execution, with their sizes."""
    found: dict[str, tuple[int, ...]] = {}

    def noter(name: str) -> Callable:
        def note(layer: nn.Module, arguments: tuple, output: object) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == inputs.ndim and output[0, 0].numel() > 1:
                found.setdefault(name, tuple(output.shape[2:]))

        return note

    with ExitStack() as stack, torch.no_grad():
        for name, layer in network.named_modules():
            if name:
                stack.callback(layer.register_forward_hook(noter(name)).remove)
        forward(inputs)
    return found


def default_layers(forward: Callable, network: nn.Module, inputs: torch.Tensor, count: int = 1) -> list[str]:
    """``count`` feature maps spread over the depth of a network, the deepest last.

    Candidates are the last layers of each spatial size other than the input's own; the deepest is the last feature
    map before global pooling. Raises ModelError when the network has no feature map.
    """
    found = spatial_layers(forward, network, inputs)
    last_of_size: dict[tuple[int, ...], str] = {}
    for name, size in found.items():
        if size != tuple(inputs.shape[2:]):
            last_of_size.pop(size, None)
            last_of_size[size] = name
    candidates = list(last_of_size.values()) or list(found)[-1:]
    if not candidates:
        raise ModelError("The model has no layer with a feature map.", "Choose a method that needs no layer.")
    if count == 1 or count >= len(candidates):
        return candidates[-count:]
    steps = torch.linspace(0, len(candidates) - 1, count).round().long().tolist()
    return [candidates[step] for step in steps]
