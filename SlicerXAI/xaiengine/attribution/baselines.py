"""Inputs that hold no information: what attributions are measured against."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch.nn import functional

from ..core.errors import OptionError

BaselineKind = Literal["auto", "blurred", "mean", "minimum", "zero", "constant", "scan"]
TRIED: tuple[BaselineKind, ...] = ("blurred", "mean", "minimum")
"""What ``auto`` tries in turn; a minimum is air in a CT."""
ENOUGH = 0.5
"""Part of the largest change of the answer that a baseline must bring about to be taken."""
UNCHANGED = 0.05
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
    smooths each sample with a Gaussian of ``sigma`` voxels per axis; ``mean`` and ``minimum`` are each channel's;
    ``scan`` is another, preprocessed scan (1 or N, C, spatial...). ``auto`` needs the network, see
    :func:`effective_baseline`; without it, it is ``blurred``.

    Raises:
        OptionError: another scan of another shape, or none given.
    """
    if kind == "zero":
        return torch.zeros_like(inputs)
    if kind == "constant":
        return torch.full_like(inputs, constant)
    if kind == "mean":
        return inputs.mean(list(range(2, inputs.ndim)), keepdim=True).expand_as(inputs).clone()
    if kind == "minimum":
        return inputs.amin(list(range(2, inputs.ndim)), keepdim=True).expand_as(inputs).clone()
    if kind in ("blurred", "auto"):
        return gaussian_blur(inputs, sigma or [size * AUTOMATIC_BLUR for size in inputs.shape[2:]])
    if scan is None or scan.shape[1:] != inputs.shape[1:]:
        found = "none was given" if scan is None else f"it has the shape {tuple(scan.shape[1:])}"
        raise OptionError(
            f"The baseline scan must match the scan as the model sees it, {tuple(inputs.shape[1:])}; {found}.",
            "Give a scan of the same region and size, or choose the blurred baseline.",
        )
    return scan.to(inputs).expand_as(inputs).clone()


def effective_baseline(
    values: Callable[[torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    name: str,
    rises: bool = True,
    healthy: torch.Tensor | None = None,
) -> tuple[torch.Tensor, str]:
    """A baseline that takes the answer away, and in words which and why; nothing where it is the blurred one.

    A blurred image often keeps a large bright finding, and with it the prediction: a map of the change to it then
    explains nothing. Tried in turn are ``healthy`` (inputs of a healthy reference), and :data:`TRIED`; the first is
    taken that changes the explained numbers ``values(inputs)`` (N,) by at least half as much as the best of them.
    ``rises``: only a fall counts (a class), not any change (a score).
    """
    kinds = {"healthy reference": healthy} if healthy is not None else {}
    kinds |= {kind: baseline_like(inputs, kind) for kind in TRIED}
    before = values(inputs).float()
    after = {kind: values(candidate).float() for kind, candidate in kinds.items()}
    falls = {kind: float(_change(before, value, rises)) for kind, value in after.items()}
    most, scale = max(falls.values()), float(before.abs().mean())
    wanted = ENOUGH * most if most > 0 else most
    taken = next(kind for kind in kinds if falls[kind] >= wanted)
    told = ", ".join(f"{kind} {float(value.mean()):.3g}" for kind, value in after.items())
    if most <= UNCHANGED * scale:
        text = (
            f"No baseline takes the {name} away (it is {float(before.mean()):.3g}; with {told}): maps that compare "
            "the image with a baseline explain little. Give a healthy scan as baseline."
        )
        return kinds[taken], text
    if taken == next(iter(kinds)):
        return kinds[taken], ""
    text = (
        f"The {next(iter(kinds))} image keeps the {name} ({float(before.mean()):.3g}; with {told}), so the baseline "
        f"is the {taken}."
    )
    return kinds[taken], text


def _change(before: torch.Tensor, after: torch.Tensor, rises: bool) -> torch.Tensor:
    return (before - after).mean() if rises else (before - after).abs().mean()


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
