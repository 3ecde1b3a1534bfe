"""Finds the prediction in what a network returns: a tensor, a tuple, a list or a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..core.errors import ModelError

USUAL_KEYS = ("logits", "out", "output", "pred", "prediction", "seg", "y", "masks", "high_res_logits")


@dataclass(frozen=True)
class OutputSelector:
    """Takes the prediction, (N, C, ...), out of a network's output.

    Of several tensors (deep supervision, auxiliary heads) the one with most positions is taken; among equals the
    ``preferred`` one, because most networks put the final output first and UNet++ puts it last.
    """

    preferred: Literal["first", "last"] = "first"

    def __call__(self, output: Any) -> Any:
        import torch

        if isinstance(output, torch.Tensor):
            return output
        if isinstance(output, Mapping):
            return self._from_mapping(output)
        if isinstance(output, (tuple, list)):
            tensors = [item for item in output if isinstance(item, torch.Tensor) and item.ndim >= 2]
            if tensors:
                return self._largest(tensors)
            if output and not isinstance(output[0], (str, bytes)):
                return self(output[0])
        raise ModelError(
            f"The network returned {type(output).__name__}, in which no prediction was found.",
            "Give a network that returns a tensor of shape (N, C, ...), or a tuple or dictionary that holds one.",
        )

    def _largest(self, tensors: list[Any]) -> Any:
        most = max(tensor[0, 0].numel() if tensor.ndim > 2 else 1 for tensor in tensors)
        same = [tensor for tensor in tensors if (tensor[0, 0].numel() if tensor.ndim > 2 else 1) == most]
        return same[0] if self.preferred == "first" else same[-1]

    def _from_mapping(self, output: Mapping[str, Any]) -> Any:
        import torch

        for key in USUAL_KEYS:
            if key in output:
                return self(output[key])
        tensors = [value for value in output.values() if isinstance(value, torch.Tensor)]
        if len(tensors) == 1:
            return tensors[0]
        raise ModelError(
            f"The network returned a dictionary with {', '.join(map(str, output))}: "
            "which of them is the prediction is not known.",
            f"Name one of them {' or '.join(USUAL_KEYS[:4])}.",
        )


def selector_for(network: Any) -> OutputSelector:
    """The selector that fits a network's class."""
    return OutputSelector("last" if type(network).__name__ == "BasicUNetPlusPlus" else "first")
