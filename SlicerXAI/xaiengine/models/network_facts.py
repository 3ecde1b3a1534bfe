"""What a network's arguments and weights tell about its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_INPUTS = ("in_channels", "in_channel", "n_input_channels", "input_channels", "in_chans")
_OUTPUTS = ("out_channels", "num_classes", "out_channel", "n_classes", "classes", "output_channels")


def input_channels(arguments: Mapping[str, Any], network: nn.Module) -> int:
    """Channels of the network's input, from its arguments or its first convolution; 0 when unknown."""
    for name in _INPUTS:
        if isinstance(arguments.get(name), int):
            return arguments[name]
    first = next(_convolutions(network), None)
    return first.in_channels if first is not None else 0


def output_channels(arguments: Mapping[str, Any], network: nn.Module) -> int:
    """Channels of the network's output, from its arguments or its last layer with weights; 0 when unknown."""
    from torch import nn

    for name in _OUTPUTS:
        if isinstance(arguments.get(name), int):
            return arguments[name]
    last = None
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            last = module
    if last is None:
        return 0
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels


def spatial_dims(arguments: Mapping[str, Any], network: nn.Module) -> int:
    """2 or 3, from the arguments or the first convolution."""
    for name in ("spatial_dims", "dimensions"):
        if isinstance(arguments.get(name), int):
            return arguments[name]
    first = next(_convolutions(network), None)
    return first.weight.ndim - 2 if first is not None else 3


def _convolutions(network: nn.Module):
    from torch.nn.modules.conv import _ConvNd

    return (module for module in network.modules() if isinstance(module, _ConvNd))
