"""Chooses layers by exact name or wildcard, and says which suit an explanation.

A bottleneck wants a layer in the middle: fine enough to localise, late enough to hold findings rather than edges.
The published choices (ResNet ``layer2``, DenseNet ``denseblock1..3``, VGG conv4_1; methods of Schulz et al., ICLR
2020) have cells of about 8 voxels of the input, which is the rule for networks without a published choice.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from ..network.layers import find_layer, layer_names
from .layer_survey import LayerFacts, Survey, reduction

if TYPE_CHECKING:
    from torch import nn

WANTED_REDUCTION = 8.0
FEWEST_CELLS = 3
FEWEST_CHANNELS = 4
COARSER, FINER = 0.7, 1.5
"""Ratios of cells from which a layer counts as the next resolution; padding changes them by less."""

CHANNELS_LAST: tuple[str, ...] = (
    "LayerNorm",
    "Linear",
    "MLPBlock",
    "SwinTransformerBlock",
    "WindowAttention",
    "PatchMerging",
)
CHANNELS_LAST += ("PatchMergingV2", "TransformerBlock", "DropPath")
"""Layers whose output has its channels at the end, or no positions at all."""

PUBLISHED: tuple[tuple[str, ...], ...] = (
    ("layer2", "layer1", "layer3", "layer4"),
    ("features.denseblock2", "features.denseblock1", "features.denseblock3", "features.denseblock4"),
)
"""Layer names of ResNets and DenseNets as their authors and this method's authors use them, the default first."""


def matching_layers(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Names of the layers that the patterns match, in the order of the patterns, each once.

    A pattern is an exact name or a wildcard (``encoder.*``). Raises ModelError with near names when one matches none.
    """
    names = layer_names(network)
    found: list[str] = []
    for pattern in patterns:
        matches = [pattern] if pattern in names else [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            find_layer(network, pattern)  # raises with near names
        found.extend(name for name in matches if name not in found)
    return found


def published_layers(network: nn.Module) -> list[str]:
    """The layers that the literature uses in a network of this kind; empty for other networks."""
    names = set(layer_names(network))
    stages = next((stages for stages in PUBLISHED if stages[0] in names), ())
    return [name for name in stages if name in names]


def suggested_layers(network: nn.Module, survey: Survey) -> list[str]:
    """Layers that suit a bottleneck, the recommended one first; empty when the survey found none."""
    if published := published_layers(network):
        return published
    ends = [layer for layer in stage_ends(survey) if suits_bottleneck(layer, survey)]
    ends.sort(key=lambda layer: abs(_octaves(reduction(layer.shape, survey.input_shape))))
    return [layer.name for layer in ends]


def why_default(network: nn.Module, survey: Survey, layers: Sequence[str]) -> str:
    """Why the first of a model's layers is the default, in words."""
    if not layers:
        return "No layer of this model has a map of positions."
    known = {layer.name for layer in survey.layers}
    cells = ""
    if layers[0] in known:
        cells = f", one cell per {reduction(survey[layers[0]].shape, survey.input_shape):.3g} voxels"
    if layers[0] not in suggested_layers(network, survey)[:1]:
        return f"{layers[0]}: chosen by the model's author{cells}."
    if any(layers[0] in stages for stages in PUBLISHED):
        return f"{layers[0]}: the published choice for this kind of network{cells}."
    return f"{layers[0]}: the end of the stage whose cells are nearest {WANTED_REDUCTION:g} voxels{cells}."


def suits_bottleneck(layer: LayerFacts, survey: Survey) -> bool:
    """Whether a bottleneck can sit behind the layer: a map of positions, coarser than the input, run once."""
    return _has_positions(layer, survey) and layer.calls == 1 and reduction(layer.shape, survey.input_shape) >= 1.9


def suits_cam(layer: LayerFacts, survey: Survey) -> bool:
    """Whether a class activation map makes sense: late in the network, where channels stand for findings."""
    if not _has_positions(layer, survey) or layer.shape[1:] == survey.input_shape[2:]:
        return False
    order = [item.name for item in survey.layers]
    return order.index(layer.name) >= len(order) / 2


def _has_positions(layer: LayerFacts, survey: Survey) -> bool:
    dims = len(survey.input_shape) - 2
    if layer.type in CHANNELS_LAST or any(layer.name.startswith(name + ".") for name in _inside(survey)):
        return False
    return (
        len(layer.shape) == dims + 1
        and layer.shape[0] >= FEWEST_CHANNELS
        and min(layer.shape[1:]) >= min(FEWEST_CELLS, *survey.input_shape[2:])
    )


@lru_cache(maxsize=8)
def _inside(survey: Survey) -> tuple[str, ...]:
    """The names of the blocks within which channels come last."""
    return tuple(layer.name for layer in survey.layers if layer.type in CHANNELS_LAST)


def stage_ends(survey: Survey) -> list[LayerFacts]:
    """The outermost last block at each resolution on the way down: the ends of an encoder's stages."""
    ends: list[LayerFacts] = []
    for layer in survey.layers:
        if not _has_positions(layer, survey):
            continue
        size = _cells(layer)
        if not ends or size < COARSER * _cells(ends[-1]):
            ends.append(layer)
        elif size > FINER * _cells(ends[-1]):
            break  # the way up of a segmentation network
        elif _depth(layer) <= _depth(ends[-1]):
            ends[-1] = layer
    return ends


def _depth(layer: LayerFacts) -> tuple[bool, int]:
    return layer.is_leaf, layer.name.count(".")


def _cells(layer: LayerFacts) -> int:
    total = 1
    for size in layer.shape[1:]:
        total *= size
    return total


def _octaves(ratio: float) -> float:
    return math.log2(max(ratio, 1e-6) / WANTED_REDUCTION)
