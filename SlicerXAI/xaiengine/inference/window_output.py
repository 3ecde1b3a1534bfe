"""What a segmentation network gives for a window: brought into one form, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, bfloat16, float16, isfinite, nn
from torch.nn import functional

from ..core.errors import ModelError

DEEP_SUPERVISION_HEADS = 8
"""More stacked outputs than this are taken for something else."""


def checked_logits(output: Tensor, batch: Tensor) -> Tensor:
    """The output as float32 of the windows' size, finite.

    Outputs of another size (networks that predict at half the resolution) are brought to the windows' size
    linearly; the gradient goes through that.

    Raises:
        ModelError: no tensor with an output per voxel, or values that are not finite.
    """
    if not isinstance(output, Tensor):
        raise ModelError(
            f"The network gives a {type(output).__name__}, not one tensor of outputs per voxel.",
            "For networks with deep supervision, say in the model's description which output is the segmentation.",
        )
    if output.ndim == batch.ndim + 1 and output.shape[1] <= DEEP_SUPERVISION_HEADS:
        output = output[:, 0]  # deep supervision stacked by MONAI's DynUNet: the first is the full resolution
    if output.ndim != batch.ndim or len(output) != len(batch):
        raise ModelError(
            f"The network gives the shape {tuple(output.shape)} for windows {tuple(batch.shape)}; one output per "
            "voxel was expected.",
            "A model with one answer per scan is explained by the task explain-prediction.",
        )
    output = output.float()
    if not bool(isfinite(output.detach()).all()):
        raise ModelError(
            "The network gives values that are not finite"
            + (" in half precision" if batch.dtype in (float16, bfloat16) else "")
            + ".",
            "Run it in 32-bit precision, and check that the scan is preprocessed as in training.",
        )
    if output.shape[2:] != batch.shape[2:]:
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[batch.ndim - 2]
        output = functional.interpolate(output, size=batch.shape[2:], mode=mode, align_corners=False)
    return output


class WindowNetwork(nn.Module):
    """A network whose outputs are float32, one per voxel of the window, and checked; ``network`` is the original."""

    def __init__(self, network: nn.Module, select_output: Callable[[Any], Any] = lambda output: output) -> None:
        super().__init__()
        self.network = network
        self.select_output = select_output

    def forward(self, batch: Tensor) -> Tensor:
        return checked_logits(self.select_output(self.network(batch)), batch)
