"""Chooses layers by exact name or wildcard, and suggests those that suit an explanation."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..layers import find_layer, layer_names

if TYPE_CHECKING:
    from torch import nn


def matching_layers(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Names of the layers that the patterns match, in the order of the patterns, each once.

    A pattern is an exact name or a wildcard (``encoder.*``). Raises ModelError with near names when one matches none.
    """
    names = layer_names(network)
    found: list[str] = []
    for pattern in patterns:
        if pattern in names:
            matches = [pattern]
        else:
            matches = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            find_layer(network, pattern)  # raises with near names
        found.extend(name for name in matches if name not in found)
    return found


def suggested_layers(network: nn.Module) -> list[str]:
    """Layers that suit a bottleneck, by the usual names of stages; the recommended one first."""
    names = set(layer_names(network))
    for stages in _USUAL_STAGES:
        present = [name for name in stages if name in names]
        if present:
            return present
    return []


_USUAL_STAGES = (
    ("layer2", "layer1", "layer3", "layer4"),
    ("features.denseblock2", "features.denseblock1", "features.denseblock3", "features.denseblock4"),
    ("down_layers.1", "down_layers.2", "down_layers.3", "down_layers.0"),
)
