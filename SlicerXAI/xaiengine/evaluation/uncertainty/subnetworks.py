"""Networks inside a network: one with dropped units for the time of a block, the folds of an ensemble.

Dropout: Gal & Ghahramani 2016 (arXiv 1506.02142). One mask is drawn for each layer and kept for the whole block, so
that all passes of a method (steps of a path, windows, occluded copies) ask the same sub-network; masks that change
from pass to pass would average out within one map.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from ...models.formats.averaging import AveragedNetwork, MirroredNetwork

WHOLE_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def dropout_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The layers that drop units in training, by name; those with probability 0 are left out."""
    kinds = (nn.Dropout, *WHOLE_CHANNELS)
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds) and 0 < module.p < 1}


@contextmanager
def dropped_units(network: nn.Module, seed: int) -> Iterator[None]:
    """Inside the block the network's dropout layers drop the units that ``seed`` draws, those kept are scaled up."""
    with ExitStack() as stack:
        for name, module in dropout_layers(network).items():
            stack.callback(module.register_forward_hook(_dropper(name, seed)).remove)
        yield


def _dropper(name: str, seed: int) -> Callable[[Any, tuple, torch.Tensor], torch.Tensor]:
    masks: dict[tuple[int, ...], torch.Tensor] = {}

    def drop(module: Any, _arguments: tuple, output: torch.Tensor) -> torch.Tensor:
        shape = (1, *output.shape[1:])
        if isinstance(module, WHOLE_CHANNELS):
            shape = (*shape[:2], *[1] * (output.ndim - 2))
        if shape not in masks:
            generator = torch.Generator().manual_seed((seed * 2_654_435_761 + zlib.crc32(name.encode())) % 2**63)
            kept = torch.rand(shape, generator=generator) >= module.p
            masks[shape] = kept / (1 - module.p)
        return output * masks[shape].to(output)

    return drop


def fold_count(network: nn.Module) -> int:
    """How many networks an ensemble averages; 1 for a single network."""
    inner = network.network if isinstance(network, MirroredNetwork) else network
    return len(inner.folds) if isinstance(inner, AveragedNetwork) else 1


def layer_in_fold(name: str) -> str:
    """A layer of one network of an ensemble, by its name in the network of that fold alone."""
    return re.sub(r"^(network\.)?folds\.\d+\.", r"\1network.", name)
