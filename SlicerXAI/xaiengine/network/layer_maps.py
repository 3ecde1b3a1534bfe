"""Which layers have a map of places, found by what the network does rather than by its number of axes.

The input is changed at one place after another. A layer has a map only if its response is there, in one reading of
its axes (layouts.py); the axes (query-key-value, heads, tokens, features) of a transformer have none. During the
trial self-attention passes every token's own value on (local_attention.py), so that tokens keep their places.
Readings other than channels first get a feature map of their own: a module that ``find_layer`` returns in the
layer's place, whose input and output is (N, C, cells...) and which hooks may record or replace.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from .layers import FEATURE_MAP, evaluation_mode
from .layouts import Layout, candidates, first_tensor, known_grids, with_first_tensor
from .local_attention import local_attention

PLACES = ((0.21, 0.58, 0.80), (0.70, 0.23, 0.42), (0.44, 0.79, 0.17))
"""Where the input is changed, as parts of its extent along each axis."""
EXTENT = 1 / 8
MIXTURES = 4
TOLERANCE = 0.75
"""Cells that the response may be off, plus a tenth of the grid."""

_PLAIN: tuple[type[nn.Module], ...]
_PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PLAIN += (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_PLAIN += (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.Upsample)
_STORE = "_slicerxai_layer_maps"


class FeatureMap(nn.Module):
    """A layer's output as (N, C, cells...): what ``find_layer`` gives for a layer of tokens."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.layer = name

    def forward(self, cells: Tensor) -> Tensor:
        return cells


class _Maps:
    """What is known about a network's layers, per spatial size of its input."""

    def __init__(self) -> None:
        self.layouts: dict[tuple[int, ...], dict[str, Layout]] = {}
        self.sizes: tuple[int, ...] = ()
        self.hooked: set[str] = set()

    def layout(self, name: str) -> Layout | None:
        if self.sizes in self.layouts:
            return self.layouts[self.sizes].get(name)
        for known in self.layouts.values():
            if name in known:
                return known[name].at(self.sizes) if self.sizes else known[name]
        return None


class _NoteSizes:
    def __init__(self, maps: _Maps) -> None:
        self.maps = maps

    def __call__(self, module: nn.Module, arguments: tuple, named: dict) -> None:
        tensor = next((value for value in (*arguments, *named.values()) if isinstance(value, Tensor)), None)
        if tensor is not None and tensor.ndim > 2:
            self.maps.sizes = tuple(tensor.shape[2:])


class _ThroughMap:
    """Hands a layer's output through its feature map, where somebody looks or writes."""

    def __init__(self, maps: _Maps, feature_map: FeatureMap) -> None:
        self.maps, self.feature_map = maps, feature_map

    def __call__(self, module: nn.Module, arguments: tuple, output: Any) -> Any:
        if not self.feature_map._forward_hooks and not self.feature_map._forward_pre_hooks:
            return None
        tensor, layout = first_tensor(output), self.maps.layout(self.feature_map.layer)
        if tensor is None or layout is None or not layout.fits(tensor):
            return None
        return with_first_tensor(output, layout.from_map(self.feature_map(layout.to_map(tensor)), tensor))


def layer_maps(network: nn.Module, inputs: Tensor, forward: Callable | None = None) -> dict[str, Layout]:
    """The layers that have a map for inputs (1, C, spatial...), in order of execution, and how to read it.

    Afterwards ``find_layer`` gives the feature map of layers of tokens. ``forward`` runs the network (the network
    itself by default). Networks of plain convolutions take one pass, others five; kept with the network.
    """
    maps = _store(network)
    sizes = tuple(inputs.shape[2:])
    if sizes not in maps.layouts:
        with evaluation_mode(network), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            maps.layouts[sizes] = _found(network, inputs[:1], forward or network)
        _install(network, maps, maps.layouts[sizes])
    return maps.layouts[sizes]


def known_layout(network: nn.Module, name: str, sizes: tuple[int, ...]) -> Layout | None:
    """How a layer's output is read for inputs of these spatial sizes; None where that was not found out."""
    maps: _Maps | None = network.__dict__.get(_STORE)
    return maps.layouts.get(tuple(sizes), {}).get(name) if maps else None


def is_probed(network: nn.Module, sizes: tuple[int, ...]) -> bool:
    """Whether ``layer_maps`` has run for inputs of these spatial sizes."""
    maps: _Maps | None = network.__dict__.get(_STORE)
    return maps is not None and tuple(sizes) in maps.layouts


def _store(network: nn.Module) -> _Maps:
    if _STORE not in network.__dict__:
        maps = _Maps()
        object.__setattr__(network, _STORE, maps)
        if not isinstance(network, torch.jit.ScriptModule):
            network.register_forward_pre_hook(_NoteSizes(maps), with_kwargs=True)
    return network.__dict__[_STORE]


def _install(network: nn.Module, maps: _Maps, layouts: Mapping[str, Layout]) -> None:
    modules = dict(network.named_modules())
    for name, layout in layouts.items():
        layer = modules[name]
        if name in maps.hooked or isinstance(layer, torch.jit.ScriptModule):
            continue
        if layout.kind == "first" and not _returns_tuple.get(layer, False):
            continue
        feature_map = FeatureMap(name)
        layer.__dict__[FEATURE_MAP] = feature_map
        layer.register_forward_hook(_ThroughMap(maps, feature_map))
        maps.hooked.add(name)


def _found(network: nn.Module, inputs: Tensor, forward: Callable) -> dict[str, Layout]:
    modules = {name: module for name, module in network.named_modules() if name}
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None:
            shapes.setdefault(name, tuple(tensor.shape))

    _hooked(modules, note, lambda: forward(inputs.clone()))
    sizes = tuple(inputs.shape[2:])
    grids = known_grids(list(shapes.values()), sizes)
    readings = {name: candidates(shape, sizes, grids) for name, shape in shapes.items()}
    readings = {name: found for name, found in readings.items() if found}
    plain = {shapes[name] for name in readings if isinstance(modules[name], _PLAIN)}
    if all(shapes[name] in plain and len(shapes[name]) == len(sizes) + 2 for name in readings):
        return {name: found[0] for name, found in readings.items()}
    errors = _errors(modules, readings, inputs, forward)
    return {
        name: layout
        for name in readings
        if (layout := _chosen(readings[name], errors[name], shapes[name] in plain)) is not None
    }


def _chosen(readings: list[Layout], errors: np.ndarray, plain: bool) -> Layout | None:
    """The reading in which the response follows at every place; ``errors`` (places, readings) in tolerances."""
    if plain and readings[0].kind == "first":
        # as a convolution over the input's own axes: refused if clearly elsewhere (a coarser grid may lie between)
        return readings[0] if not np.nanmedian(errors[:, 0]) > 2 else None
    if np.isnan(errors).all():
        return None
    worst = np.nanmax(errors, 0)
    worst[np.isnan(worst)] = np.inf
    if not (worst <= 1).any():
        return None
    ranking = np.where(worst <= 1, np.nanmean(errors, 0), np.inf)
    return readings[int(np.argmin(ranking))]


def _errors(modules: dict, readings: dict[str, list[Layout]], inputs: Tensor, forward: Callable) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(inputs.shape, generator=generator).to(inputs)
    spread = inputs.std()
    base = noise if not spread > 1e-6 else inputs + 0.1 * spread * noise
    watched = {name: modules[name] for name in readings}
    errors: dict[str, list[list[float]]] = {name: [] for name in readings}
    sizes = inputs.shape[2:]
    before = _seen(watched, readings, base, forward)
    for place in PLACES:
        changed = base.clone()
        block = [_block(size, part) for size, part in zip(sizes, place)]
        changed[(slice(None), slice(None), *block)] += 4 * base.std()
        centers = [(part.start + part.stop - 1) / 2 for part in block]
        for name, after in _seen(watched, readings, changed, forward).items():
            pairs = zip(readings[name], before[name], after)
            errors[name].append([_error(layout, old, new, centers) for layout, old, new in pairs])
    return {name: np.array(found).reshape(-1, len(readings[name])) for name, found in errors.items()}


def _seen(modules: dict, readings: dict, inputs: Tensor, forward: Callable) -> dict[str, list[Tensor | None]]:
    """Per layer and reading, random projections of the channels of every cell (MIXTURES, cells...)."""
    seen: dict[str, list[Tensor | None]] = {}

    def note(name: str, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None and name not in seen:
            seen[name] = [
                _mixtures(layout.to_map(tensor)[0]) if layout.fits(tensor) else None for layout in readings[name]
            ]

    with local_attention():
        _hooked(modules, note, lambda: forward(inputs.clone()))
    return seen


def _mixtures(cells: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(len(cells))
    weights = torch.randn(MIXTURES, len(cells), generator=generator).to(cells.device)
    return (weights @ cells.float().flatten(1)).unflatten(1, cells.shape[1:])


def _block(size: int, part: float) -> slice:
    width = max(1, round(size * EXTENT))
    start = min(max(round(size * part - width / 2), 0), size - width)
    return slice(start, start + width)


def _error(layout: Layout, before: Tensor | None, after: Tensor | None, centers: list[float]) -> float:
    """How far from its place the response is, in tolerances; NaN without a response."""
    if before is None or after is None or before.shape != after.shape:
        return float("inf")
    response = (after - before).abs().sum(0)
    peak = response.max()
    if not torch.isfinite(peak):
        return float("inf")
    if peak <= 1e-5 * before.abs().max().clamp_min(1e-12):
        return float("nan")
    found = torch.nonzero(response >= 0.5 * peak).double().mean(0)
    off = [
        abs(float(place) - ((center + 0.5) / step - 0.5)) / (TOLERANCE + 0.1 * count)
        for place, center, step, count in zip(found, centers, layout.stride, layout.cells)
    ]
    return max(off)


_returns_tuple: Any = WeakIdKeyDictionary()


def _hooked(modules: dict[str, nn.Module], note: Callable, run: Callable) -> None:
    def hook(name: str) -> Callable:
        def call(module: nn.Module, arguments: tuple, output: Any) -> None:
            if not isinstance(output, Tensor):
                _returns_tuple[module] = True
            note(name, output)

        return call

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(hook(name)).remove)
        run()
