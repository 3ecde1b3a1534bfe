"""Inputs that hold no information: what attributions are measured against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch.nn import functional

from ..core.errors import OptionError

BaselineKind = Literal["blurred", "mean", "zero", "constant", "scan"]
AUTOMATIC_BLUR = 1 / 12
"""Standard deviation of the automatic blur, as a part of the image's extent along each axis."""


def baseline_like(
    inputs: torch.Tensor,
    kind: BaselineKind = "blurred",
    *,
    constant: float = 0.0,
    sigma: Sequence[float] | None = None,
    scan: torch.Tensor | None = None,
) -> torch.Tensor:
    """A baseline of the shape of the inputs (N, C, spatial...), in the network's own input values.

    ``blurred`` (the default: a zero image has no spread, which instance normalization amplifies without bound)
    smooths each sample with a Gaussian of ``sigma`` voxels per axis; ``mean`` is each channel's mean; ``scan`` is
    another, preprocessed scan (1 or N, C, spatial...).

    Raises:
        OptionError: another scan of another shape, or none given.
    """
    if kind == "zero":
        return torch.zeros_like(inputs)
    if kind == "constant":
        return torch.full_like(inputs, constant)
    if kind == "mean":
        return inputs.mean(list(range(2, inputs.ndim)), keepdim=True).expand_as(inputs).clone()
    if kind == "blurred":
        return gaussian_blur(inputs, sigma or [size * AUTOMATIC_BLUR for size in inputs.shape[2:]])
    if scan is None or scan.shape[1:] != inputs.shape[1:]:
        found = "none was given" if scan is None else f"it has the shape {tuple(scan.shape[1:])}"
        raise OptionError(
            f"The baseline scan must match the scan as the model sees it, {tuple(inputs.shape[1:])}; {found}.",
            "Give a scan of the same region and size, or choose the blurred baseline.",
        )
    return scan.to(inputs).expand_as(inputs).clone()


def gaussian_blur(inputs: torch.Tensor, sigma: Sequence[float]) -> torch.Tensor:
    """Smooth (N, C, spatial...) with ``sigma`` voxels along each axis; edges are repeated."""
    blurred = inputs
    for axis, width in enumerate(sigma):
        blurred = _blur_axis(blurred, axis + 2, float(width))
    return blurred


def _blur_axis(inputs: torch.Tensor, axis: int, sigma: float) -> torch.Tensor:
    if sigma <= 0:
        return inputs
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=inputs.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    rows = inputs.movedim(axis, -1)
    flat = functional.pad(rows.reshape(-1, 1, rows.shape[-1]).float(), (radius, radius), mode="replicate")
    smooth = functional.conv1d(flat, (kernel / kernel.sum()).reshape(1, 1, -1))
    return smooth.reshape(rows.shape).movedim(-1, axis).to(inputs.dtype)
