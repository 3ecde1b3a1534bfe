"""Surveys a network's layers: their output shapes and share of the compute, without computing anything if possible."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

DEFAULT_SIZES = {1: (256,), 2: (224, 256, 128, 64), 3: (96, 64, 128, 32)}


@dataclass(frozen=True)
class LayerFacts:
    """One layer as it ran. ``shape`` is that of its output without the batch: (C, spatial...)."""

    name: str
    type: str
    shape: tuple[int, ...]
    is_leaf: bool
    parameters: int
    flops: int
    calls: int


@dataclass(frozen=True)
class Survey:
    """All layers in the order in which they finished, for an input of ``input_shape`` (N, C, spatial...).

    ``activations`` is the number of values that single layers put out: what a gradient pass keeps in memory.
    """

    input_shape: tuple[int, ...]
    layers: tuple[LayerFacts, ...] = ()
    flops: int = 0
    activations: int = 0
    output_shape: tuple[int, ...] = ()
    failure: str = ""

    def __getitem__(self, name: str) -> LayerFacts:
        return next(layer for layer in self.layers if layer.name == name)


def survey(network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Survey:
    """Run the network once on the first of these input shapes that it takes.

    On tensors without content (the meta device) if the network can; else on zeros. Nothing of the network changes.
    """
    failure = ""
    for run in (_without_content, _on_zeros):
        for shape in shapes:
            recorder = _Recorder(network)
            try:
                with torch.no_grad(), recorder, FlopCounterMode(display=False) as counter:
                    output = run(network, shape)
                return recorder.survey(shape, output, counter)
            except Exception as error:  # whatever a foreign network raises for a size it does not take
                failure = failure or f"{type(error).__name__}: {str(error)[:200]}"
    return Survey(tuple(shapes[0]), failure=failure)


def example_shapes(
    dims: int, channels: int, roi: Sequence[int] = (), fixed: Sequence[int] = ()
) -> list[tuple[int, ...]]:
    """Input shapes to try: the model's own window or input size, else usual ones."""
    if fixed:
        return [(1, channels, *fixed)]
    if roi:
        return [(1, channels, *(size if size > 0 else DEFAULT_SIZES[dims][0] for size in roi))]
    return [(1, channels, *[size] * dims) for size in DEFAULT_SIZES[dims]]


def _without_content(network: nn.Module, shape: tuple[int, ...]) -> Any:
    with emptied(network):
        return network(torch.empty(shape, device="meta"))


@contextlib.contextmanager
def emptied(network: nn.Module) -> Iterator[None]:
    """Within the block, weights and buffers are tensors without content.

    Done module by module rather than with ``torch.func.functional_call``, which leaves the stand-ins in a network
    that holds one module in two places.
    """
    kept = [(module, dict(module._parameters), dict(module._buffers)) for module in network.modules()]
    try:
        for module, parameters, buffers in kept:
            for store, tensors in ((module._parameters, parameters), (module._buffers, buffers)):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        store[name] = torch.empty_like(tensor, device="meta")
        yield
    finally:
        for module, parameters, buffers in kept:
            module._parameters.update(parameters)
            module._buffers.update(buffers)


def _on_zeros(network: nn.Module, shape: tuple[int, ...]) -> Any:
    parameter = next(network.parameters(), torch.zeros(()))
    return network(torch.zeros(shape, device=parameter.device))


@dataclass
class _Recorder:
    """Notes the output of every layer through hooks, which are gone afterwards."""

    network: nn.Module
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    activations: int = 0

    def __enter__(self) -> _Recorder:
        self.modules = {name: module for name, module in self.network.named_modules() if name}
        self.handles = [
            module.register_forward_hook(self._hook(name, not any(True for _ in module.children())))
            for name, module in self.modules.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _hook(self, name: str, is_leaf: bool):
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            if isinstance(output, torch.Tensor):
                self.shapes.pop(name, None)
                self.shapes[name] = tuple(output.shape[1:])
                if is_leaf:
                    self.activations += output.numel()

        return note

    def survey(self, shape: tuple[int, ...], output: Any, counter: FlopCounterMode) -> Survey:
        counts = {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
        root = type(self.network).__name__
        layers = [
            LayerFacts(
                name=name,
                type=type(self.modules[name]).__name__,
                shape=found,
                is_leaf=not any(True for _ in self.modules[name].children()),
                parameters=sum(parameter.numel() for parameter in self.modules[name].parameters()),
                flops=counts.get(f"{root}.{name}", 0),
                calls=self.calls[name],
            )
            for name, found in self.shapes.items()
        ]
        while isinstance(output, (tuple, list)) and output:
            output = output[0]
        return Survey(
            shape,
            tuple(layers),
            counts.get("Global", 0),
            self.activations,
            tuple(output.shape) if isinstance(output, torch.Tensor) else (),
        )


def reduction(shape: Sequence[int], input_shape: Sequence[int]) -> float:
    """How much coarser a layer's grid (C, spatial...) is than the input's (N, C, spatial...), per axis (mean)."""
    ratios = [size / max(cells, 1) for size, cells in zip(input_shape[2:], shape[1:])]
    return math.prod(ratios) ** (1 / len(ratios))
